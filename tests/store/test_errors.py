"""Every text of Lance and of stores seen so far has its kind; the page has the table of kinds."""

import re
from collections.abc import Callable
from pathlib import Path

import lance
import pyarrow as pa
import pytest
from botocore.exceptions import ClientError
from test_docs import DOCS

from lancemig.catalog.schema import Index
from lancemig.errors import LancemigError, PlanError, StoreError
from lancemig.store.lance import errors
from lancemig.store.lance.errors import Conflict, Damaged, LanceRefused, Missing, VersionGone, translated
from lancemig.store.lance.indices import built
from lancemig.store.objects import s3_client

LATER = "run the same command again later"


SEEN: list[tuple[str, type[LancemigError]]] = [
    # Conflicts.
    ("Commit conflict for version 4: There was a concurrent commit that conflicts", Conflict),
    ("Retryable commit conflict for version 7: This Update transaction was preempted", Conflict),
    ("Incompatible transaction: Append is not compatible with Overwrite", Conflict),
    ("Too many concurrent writers. Attempted 20 times", Conflict),
    ("Merge operation remaps field id 2", Conflict),
    # Missing or damaged.
    ("Dataset at path b/t.lance was not found: Not found: b/t.lance/_versions", Missing),
    ("Not found: b/t.lance/_versions/18446744073709551607.manifest", Missing),
    ("External error: Not found: b/t.lance/data/1111.lance, /home/runner/x.rs:1", VersionGone),
    ("Not found: b/t.lance/_deletions/0-1-2.arrow", VersionGone),
    ("Not found: b/t.lance/_indices/ab12/index.idx", Damaged),
    ("LanceError(IO): file size is too small", Damaged),
    ("LanceError(IO): Generic memory error: Invalid range 0..0 for object of size 0 bytes", Damaged),
    ("LanceError(IO): Generic LocalFileSystem error: failed to fill whole buffer", Damaged),
    ("Invalid user input: file does not appear to be a Lance file (invalid magic: [76])", Damaged),
    ("External error: Encountered corrupt file miniblock_metadata: final chunk", Damaged),
    ("Invalid user input: Global buffer 0 position 61 is not aligned to 64 bytes", Damaged),
    ("failed to decode Protobuf message: invalid wire type", Damaged),
    # Expressions and values.
    ('Invalid user input: Schema error: No field named "timeout". Valid fields are id', PlanError),
    ("No field named timeout. Valid fields are credential", PlanError),
    ("External error: LanceError(Arrow): Cast error: Cannot cast string 'connection reset' to value of Int32",
     PlanError),
    ("LanceError(Arrow): Divide by zero error", PlanError),
    ("External error: regex parse error:\n    (\n    ^\nerror: unclosed group", PlanError),
    ("Invalid user input: Ambiguous merge inserts are prohibited", PlanError),
    ("Invalid user input: Type conflicts between s(Utf8) and s(Int64)", PlanError),
    ("Invalid user input: Expression 'SUBSTR(s)' is not supported SQL in lance", PlanError),
    # What Lance refuses for other reasons.
    ("LanceError(Schema): Unsupported data type: Interval(MonthDayNano)", LanceRefused),
    ("LanceError(Schema): Top level field a.b cannot contain `.`", LanceRefused),
    ("LanceError(Schema): Duplicate field name timeout in schema", LanceRefused),
    ("LanceError(Index): ProductQuantization: num_bits 3 not supported", LanceRefused),
    ("LanceError(Index): Unsupported data type UInt8 with distance type l2", LanceRefused),
    ("Append with different schema: fields did not match, missing=[], unexpected=[timeout]", LanceRefused),
    ("Not supported: Lance v2.0 has no field encoding for 'm' with data type Map", LanceRefused),
    ("Cannot add all-null columns to legacy dataset version", LanceRefused),
    ("dimension (403) must be divisible by num_sub_vectors (503)", LanceRefused),
    ("Metric foo not supported.", LanceRefused),
    ("a text that nobody has seen before", LanceRefused),
    ("", LanceRefused),
]  # fmt: skip
STORES: list[tuple[BaseException, str]] = [
    (OSError("LanceError(IO): Generic S3 error: Error performing GET http://h/b in 1ms - HTTP error: "
             "error sending request"), LATER),
    (ValueError("LanceError(IO): Generic S3 error: Error after 10 retries: operation timed out"), LATER),
    (OSError("Generic S3 error: Server returned non-2xx status code: 503 SlowDown"), LATER),
    (OSError("Generic S3 error: Client error with status 429 Too Many Requests"), LATER),
    (OSError("Generic S3 error: error decoding response body"), LATER),
    (OSError("LanceError(IO): Generic LocalFileSystem error: Stale file handle (os error 116)"), LATER),
    (OSError("LanceError(IO): Input/output error (os error 5)"), LATER),
    (TimeoutError("whatever it says"), LATER),
    (ConnectionResetError(104, "Connection reset by peer"), LATER),
    (OSError("Generic S3 error: Client error with status 403 Forbidden: AccessDenied"), "check credentials"),
    (OSError("Generic S3 error: The operation lacked valid authentication credentials for path"),
     "check credentials"),
    (OSError("The operation lacked the necessary privileges to complete for path b/t"), "check credentials"),
    (OSError("Generic S3 error: <Code>ExpiredToken</Code>"), "check credentials"),
    (OSError("LanceError(IO): Permission denied (os error 13)"), "check credentials"),
    (PermissionError(13, "Keine Berechtigung"), "check credentials"),
    (OSError("LanceError(IO): Read-only file system (os error 30)"), "check credentials"),
    (OSError("LanceError(IO): No space left on device (os error 28)"), "free disk space"),
    (OSError(28, "No space left on device", "x"), "free disk space"),
    (OSError("LanceError(IO): Disk quota exceeded (os error 122)"), "free disk space"),
    (OSError("LanceError(IO): Too many open files (os error 24)"), "free disk space"),
    (OSError("Resources exhausted: Failed to allocate additional 8.0 MB"), "free disk space"),
    (MemoryError(), "free disk space"),
    (OSError("Generic S3 error: Client error with status 404 Not Found: NoSuchBucket"), "lancemig doctor"),
    (OSError("Generic S3 error: Client error with status 400 Bad Request"), "lancemig doctor"),
]  # fmt: skip


def raised(error: BaseException) -> LancemigError:
    with pytest.raises(LancemigError) as told, translated("doing it"):
        raise error
    return told.value


@pytest.mark.parametrize(("text", "kind"), SEEN, ids=[text[:40] for text, _ in SEEN])
@pytest.mark.parametrize("of", [OSError, ValueError, RuntimeError, pa.ArrowInvalid])
def test_a_text_of_lance_has_its_class(text: str, kind: type[LancemigError], of: type[Exception]) -> None:
    error = raised(of(text))
    assert type(error) is kind
    assert LATER not in str(error.next_step)


@pytest.mark.parametrize(("error", "advice"), STORES, ids=[str(error)[:40] for error, _ in STORES])
def test_a_failure_of_the_store_or_machine_leaves_the_run_and_says_what_cures_it(
    error: BaseException, advice: str
) -> None:
    told = raised(error)
    assert type(told) is StoreError
    assert str(told.next_step).startswith(advice)


@pytest.mark.parametrize(
    "error",
    [TypeError("num_partitions must be int"), ZeroDivisionError("integer modulo by zero"),
     OverflowError("can't convert negative int"), KeyError("zz not found in schema")],
    ids=repr,
)  # fmt: skip
def test_an_exception_of_pylance_is_permanent_whatever_its_class(error: Exception) -> None:
    told = raised(error)
    assert isinstance(told, LanceRefused)
    assert told.message == f"doing it: {error.args[0]}"


@pytest.fixture
def dataset(tmp_path: Path) -> lance.LanceDataset:
    rows = pa.table(
        {
            "id": range(300),
            "s": [str(n) for n in range(300)],
            "v": pa.array([[1.0, 2.0, 3.0, float(n)] for n in range(300)], pa.list_(pa.float32(), 4)),
            "u": pa.array([[1, 2, 3, 4]] * 300, pa.list_(pa.uint8(), 4)),
        }
    )
    return lance.write_dataset(rows, tmp_path / "t.lance")


def index(column: str, kind: str, **params: object) -> Callable[[lance.LanceDataset], object]:
    wanted = Index.model_construct(name="i", column=column, type=kind, params=params)
    return lambda dataset: built(dataset, wanted)


PROVOKED: dict[str, Callable[[lance.LanceDataset], object]] = {
    "a panic: hamming on floats": index("v", "IVF_FLAT", metric="hamming", num_partitions=2),
    "a panic: no partition": index("v", "IVF_PQ", metric="l2", num_partitions=0, num_sub_vectors=2),
    "l2 on bytes": index("u", "IVF_PQ", metric="l2", num_partitions=2, num_sub_vectors=2),
    "an unknown metric": index("v", "IVF_PQ", metric="foo", num_partitions=2, num_sub_vectors=2),
    "sub vectors that do not fit": index("v", "IVF_PQ", metric="l2", num_partitions=2, num_sub_vectors=3),
    "no sub vectors": index("v", "IVF_PQ", metric="l2", num_partitions=2, num_sub_vectors=0),
    "partitions below zero": index("v", "IVF_PQ", metric="l2", num_partitions=-1, num_sub_vectors=2),
    "partitions in words": index("v", "IVF_PQ", metric="l2", num_partitions="two", num_sub_vectors=2),
    "three bits": index("v", "IVF_PQ", metric="l2", num_partitions=2, num_sub_vectors=2, num_bits=3),
    "RQ of four dimensions": index("v", "IVF_RQ", metric="l2", num_partitions=2),
    "a vector index on text": index("s", "IVF_PQ", num_partitions=2, num_sub_vectors=2),
    "a text index on numbers": index("id", "INVERTED"),
    "an unknown tokenizer": index("s", "INVERTED", base_tokenizer="nope"),
    "an unknown language": index("s", "INVERTED", language="Klingon"),
    "labels on text": index("s", "LABEL_LIST"),
    "division by zero": lambda t: t.to_table(columns={"x": "id / 0"}),
    "a cast": lambda t: t.to_table(columns={"x": "cast(concat(s, 'x') as int)"}),
    "a column twice": lambda t: t.add_columns({"s": "id"}),
    "another type": lambda t: lance.write_dataset(pa.table({"id": ["x"]}), t.uri, mode="append"),
    "another column": lambda t: lance.write_dataset(pa.table({"timeout": [1]}), t.uri, mode="append"),
    "a storage version": lambda t: lance.write_dataset(t, t.uri + "2", data_storage_version="9.9"),
    "a type": lambda t: lance.write_dataset(
        pa.table({"a": pa.array([None], pa.month_day_nano_interval())}), t.uri + "2"
    ),
    "a scheme": lambda _: lance.dataset("foo://b/t.lance"),
}


@pytest.mark.parametrize("name", PROVOKED)
def test_what_lance_refuses_is_permanent(dataset: lance.LanceDataset, name: str) -> None:
    with pytest.raises(PlanError) as told, translated("doing it"):
        PROVOKED[name](dataset)
    assert told.value.exit_status == 2
    assert LATER not in str(told.value.next_step)


@pytest.mark.parametrize("damage", ["cut", "empty", "another file", "gone"])
def test_damaged_files_are_told_so(dataset: lance.LanceDataset, damage: str) -> None:
    (file,) = (Path(dataset.uri) / "data").iterdir()
    body = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes({"cut": body[: len(body) // 2], "empty": b"", "another file": b"x" * 500}[damage])
    with pytest.raises((Damaged, VersionGone)), translated("reading t"):
        lance.dataset(dataset.uri).to_table()


def test_a_store_that_does_not_answer_is_transient() -> None:
    options = {"endpoint": "http://127.0.0.1:9", "allow_http": "true", "access_key_id": "x", "region": "r",
               "secret_access_key": "y", "client_max_retries": "0"}  # fmt: skip
    with pytest.raises(StoreError, match="error sending request") as told, translated("opening t"):
        lance.dataset("s3://b/t.lance", storage_options=options)
    assert told.value.next_step == LATER


def rows_of_page(heading: str) -> list[list[str]]:
    page = (DOCS / "errors.md").read_text(encoding="utf-8")
    section = page.partition(f"{heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")][1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_page_has_every_kind_with_class_exit_status_and_next_step() -> None:
    expected = [
        [
            kind.name,
            f"`{kind.raises.__name__}`",
            str(kind.raises.exit_status),
            re.sub(r"(lancemig \w+( --\w+)?)", r"`\1`", kind.next_step or "of the operation"),
        ]
        for kind in (*errors.KINDS, errors.REFUSED)
    ]
    assert rows_of_page("## Errors of Lance") == expected


def test_the_page_has_the_answers_of_an_object_store() -> None:
    rows = rows_of_page("## Errors of an object store")
    assert len(rows) > 8
    for answer, next_step in rows:
        _, status, *code = answer.split()
        response = {
            "Error": {"Code": code[0] if code else status},
            "ResponseMetadata": {"HTTPStatusCode": int(status)},
        }
        told = s3_client.failure(ClientError(response, "PutObject"), "write", "s3://b/k")
        assert told.message == f"cannot write s3://b/k: {answer}"
        assert told.next_step == (next_step.strip("`") if next_step.startswith("`") else next_step)
