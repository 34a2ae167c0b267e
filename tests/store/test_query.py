"""SQL over pinned tables: every type read and filtered rightly, and a session that can do nothing else."""

import datetime as dt
import os
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import lance
import pyarrow as pa
import pytest

from lancemig.errors import PlanError, StoreError
from lancemig.store.lance import Table, Tables, run_query
from lancemig.store.lance.duckdb import Readable, readable_type
from lancemig.store.lance.table import BATCH_BYTES, batch_rows
from lancemig.store.objects import open_objects

ROOT = "v1/"


class Folder:
    """A root on disk: tables are put there and opened, pinned."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tables = Tables(open_objects(str(path), {}), "catalog/")

    def put(self, name: str, rows: pa.Table, **options: Any) -> Table:
        lance.write_dataset(rows, self.path / ROOT / "catalog" / f"{name}.lance", **options)
        return self.tables.open(ROOT, name)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def asked(sql: str, *tables: Table) -> list[dict[str, Any]]:
    return run_query({table.name: table for table in tables}, sql).rows.to_pylist()


def refusal(sql: str, *tables: Table, **absent: str) -> str:
    with pytest.raises(PlanError) as caught:
        run_query({table.name: table for table in tables}, sql, absent=absent)
    assert caught.value.next_step
    assert "\n" not in caught.value.message
    return caught.value.message


def ids(count: int) -> pa.Table:
    return pa.table({"id": range(count), "half": [i // 2 for i in range(count)]})


def test_tables_are_joined(folder):
    recordings = folder.put("recordings", pa.table({"id": [1, 2], "who": ["a", "b"]}))
    people = folder.put("people", pa.table({"who": ["b"], "age": [30]}))
    assert asked("select id, age from recordings join people using (who)", recordings, people) == [
        {"id": 2, "age": 30}
    ]


def test_each_table_is_seen_at_the_version_it_is_pinned_to(folder):
    pinned = folder.put("t", ids(3))
    folder.put("t", ids(4), mode="append")
    assert asked("select count(*) n from t", pinned) == [{"n": 3}]


def test_names_with_hyphens_periods_and_keywords_are_quoted(folder):
    odd = folder.put("my-table.v2", pa.table({"group": [1], "a b": [2], "Ünï": [3]}))
    order = folder.put("order", ids(1))
    sql = 'select "group", "a b", "Ünï" from "my-table.v2", "order"'
    assert asked(sql, odd, order) == [{"group": 1, "a b": 2, "Ünï": 3}]


def test_rows_over_the_limit_are_counted_and_not_kept(folder):
    answer = run_query({"t": folder.put("t", ids(10_000))}, "select id from t order by id", limit=3)
    assert answer.rows.column("id").to_pylist() == [0, 1, 2]
    assert answer.count == 10_000


def test_no_row_keeps_the_columns(folder):
    answer = run_query({"t": folder.put("t", ids(3))}, "select id, half from t where false", limit=2)
    assert (answer.count, answer.rows.column_names) == (0, ["id", "half"])


def test_the_catalog_describes_itself(folder):
    table = folder.put("t", ids(1))
    assert asked("show tables", table) == [{"name": "t"}]
    assert [row["column_name"] for row in asked("describe t", table)] == ["id", "half"]


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("select nope from t", 'Referenced column "nope" not found'),
        ("select * from tt", "unknown table tt; did you mean t?"),
        ("selec 1", 'syntax error at or near "selec"'),
        ("select cast(name as int) from t", "Could not convert string 'x' to INT32"),
        ("select error('one\ntwo')", "one two"),
        ("select ?", "Values were not provided"),
        ("", "expected one query, not 0 statements"),
        ("-- nothing", "not 0 statements"),
        ("select 1; select 2", "expected one query, not 2 statements"),
        ("create table x (id int)", "expected one query, not create"),
        ("drop view t", "expected one query, not drop"),
        ("set threads = 1", "expected one query, not set"),
        ("select 1; set threads = 1", "expected one query, not 2 statements"),
        ("pragma version", "expected one query, not pragma"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(folder, sql, said):
    table = folder.put("t", pa.table({"name": ["1", "x"]}))
    assert said in refusal(sql, table)


def test_a_long_query_is_not_repeated_whole(folder):
    assert len(refusal(f"select {'1 + ' * 1000} from t", folder.put("t", ids(1)))) < 300


class TestTheSandbox:
    @pytest.mark.parametrize(
        "sql",
        [
            "select * from '{file}'",
            "select * from read_text('{file}')",
            "select * from read_csv('{file}')",
            "select * from read_parquet('s3://bucket/x.parquet')",
            "select * from read_csv('https://example.org/x.csv')",
            "select * from glob('{folder}/*')",
        ],
    )
    def test_reads_no_files_and_no_network(self, folder, sql):
        file = folder.path / "secret.csv"
        file.write_text("a\n1\n")
        assert "Permission Error" in refusal(
            sql.format(file=file, folder=folder.path), folder.put("t", ids(1))
        )

    @pytest.mark.parametrize(
        "sql", ["copy (select 1) to '{file}'", "attach '{file}'", "export database '{file}'"]
    )
    def test_writes_none(self, folder, sql):
        file = folder.path / "written"
        refusal(sql.format(file=file), folder.put("t", ids(1)))
        assert not file.exists()

    def test_sees_no_variables_of_this_program(self, folder):
        secret = pa.table({"a": [1]})
        assert "unknown table secret" in refusal("select * from secret", folder.put("t", ids(1)))
        assert secret.num_rows == 1

    def test_spills_beside_no_one_and_leaves_nothing(self, folder, monkeypatch):
        (folder.path / "here").mkdir()
        (folder.path / "tmp").mkdir()
        monkeypatch.chdir(folder.path / "here")
        monkeypatch.setattr("tempfile.tempdir", str(folder.path / "tmp"))
        [found] = asked("select current_setting('temp_directory') as d", folder.put("t", ids(1)))
        assert found["d"].startswith(str(folder.path / "tmp"))
        assert list(Path().iterdir()) == []
        assert list((folder.path / "tmp").iterdir()) == []


class TestWhatDiffersOnlyInCase:
    def test_columns_are_left_out_and_the_error_says_so(self, folder):
        table = folder.put("t", pa.table({"Fs": [1], "fs": [2], "id": [3]}))
        assert asked("select * from t", table) == [{"id": 3}]
        said = refusal("select Fs from t", table)
        assert "t.Fs: another column has the same name in different case" in said

    def test_tables_are_named_in_their_own_case(self, folder):
        tables = [folder.put(name, ids(rows)) for name, rows in (("runs", 1), ("Runs", 2), ("other", 3))]
        assert asked("show tables", *tables) == [{"name": "Runs"}, {"name": "other"}, {"name": "runs"}]
        for name, rows in (("runs", 1), ('"Runs"', 2), ("Runs", 2), ("other", 3), ("OTHER", 3)):
            assert asked(f"select count(*) n from {name}", *tables) == [{"n": rows}]
        assert asked('describe "Runs"', *tables) == asked("describe other", *tables)
        assert '"runs" or "Runs"' in refusal("select * from RUNS", *tables)

    def test_a_table_of_nothing_else_leaves_the_others_usable(self, folder):
        tables = [folder.put("t", pa.table({"A": [1], "a": [2]})), folder.put("other", ids(2))]
        assert asked("select count(*) n from other", *tables) == [{"n": 2}]
        assert "t: two of its columns have the same name" in refusal("select * from t", *tables)


def test_a_table_that_is_absent_says_why(folder):
    said = refusal("select * from gone", folder.put("t", ids(1)), gone="it was cleaned away")
    assert said.endswith("unknown table gone; did you mean gone?; gone: it was cleaned away")


class TestFilters:
    """A filter is applied by Lance where it can be trusted with it, else by Arrow: never by nobody."""

    @pytest.fixture
    def scanned(self, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
        """What Lance was asked to scan."""
        found: list[dict[str, Any]] = []
        scanner = lance.LanceDataset.scanner

        def spied(dataset: Any, *args: Any, **options: Any) -> Any:
            made = scanner(dataset, *args, **options)
            found.append(options)
            return made

        monkeypatch.setattr(lance.LanceDataset, "scanner", spied)
        return found

    def test_a_plain_one_and_the_columns_are_pushed_down_to_lance(self, folder, scanned):
        table = folder.put("t", pa.table({"id": [1, 2], "name": ["a", "b"], "wide": [b"x", b"y"]}))
        assert asked("select name from t where id = 2", table) == [{"name": "b"}]
        [found] = scanned
        assert found["columns"] == ["name"]
        assert str(found["filter"]) == "(id == 2)"

    @pytest.mark.parametrize(
        ("column", "where"),
        [
            (pa.array([{"a": 1}, {"a": 2}]), "t.c.a = 2"),
            (pa.array([1.5, 2.5], pa.float16()), "c > 2"),
            (pa.array([0, 5], pa.uint32()), "c = 5"),
            (pa.array([0, 5], pa.duration("s")), "id = 2"),
            (pa.array(["a", "b"], pa.large_string()), "c = 'b'"),
            (pa.array(["a", "b"]).dictionary_encode(), "c = 'b'"),
        ],
    )
    def test_others_are_left_to_arrow(self, folder, scanned, column, where):
        table = folder.put("t", pa.table({"id": [1, 2], "c": column}))
        assert asked(f"select id from t where {where}", table) == [{"id": 2}]
        assert "filter" not in scanned[-1] or scanned[-1]["filter"] is None
        assert set(scanned[-1]["columns"]) <= {"id", "c"}

    def test_the_columns_of_a_condition_are_found_whatever_they_are_called(self, folder):
        source = Readable(folder.put("t", pa.table({"a": [1], "b": [1], "b c": [1], "st": [{"a": 1}]})))
        field = pa.compute.field
        assert source.named((field("b") > 1) & field("b c").is_valid()) == ["b", "b c"]
        assert source.named(field("st", "a") == 1) == ["st"]


def array_of(of: pa.DataType, values: list[Any]) -> pa.Array:
    if isinstance(of, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(of, pa.array(values, of.storage_type))
    return pa.array(values, of)


def moments(unit: str, zone: str | None) -> tuple[pa.DataType, list[Any]]:
    utc = dt.UTC if zone else None
    values = [dt.datetime(1970, 1, 1, tzinfo=utc), dt.datetime(2026, 7, 3, 4, 5, 6, tzinfo=utc), None]
    return pa.timestamp(unit, zone), values


A, B = uuid.UUID(int=5), uuid.UUID(int=2**127 + 1)
SIGNED = (pa.int8(), pa.int16(), pa.int32(), pa.int64())
UNSIGNED = (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())
FRACTIONS = (pa.decimal128(38, 10), pa.decimal128(9, 2), pa.decimal256(30, 3), pa.decimal256(70, 10))
WHOLES = (pa.decimal128(20, -2), pa.decimal128(38, -2), pa.decimal256(60, 0))
VALUES: list[tuple[pa.DataType, list[Any]]] = [
    (pa.bool_(), [True, False, None]),
    *((of, [0, 1, -1, 100, None]) for of in SIGNED),
    *((of, [0, 1, 2, 200, None]) for of in UNSIGNED),
    (pa.uint64(), [2**63, 2**64 - 1, 0, None]),
    *(
        (of, [0.0, -0.0, 1.5, float("nan"), float("inf"), -2.25, None])
        for of in (pa.float16(), pa.float32(), pa.float64())
    ),
    *((of, ["", "a", "B", "ä", "a\0b", "z'z", None]) for of in (pa.string(), pa.large_string())),
    *((of, [b"", b"a", b"\x00\xff", None]) for of in (pa.binary(), pa.large_binary())),
    (pa.binary(2), [b"ab", b"\x00\xff", None]),
    *(
        (of, [dt.date(1970, 1, 1), dt.date(2026, 2, 3), dt.date(1, 1, 1), None])
        for of in (pa.date32(), pa.date64())
    ),
    *(
        (of, [dt.time(0), dt.time(12, 30, 5), None])
        for of in (pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns"))
    ),
    *(
        (pa.duration(unit), [dt.timedelta(0), dt.timedelta(days=40), dt.timedelta(seconds=-1), None])
        for unit in ("s", "ms", "us", "ns")
    ),
    *(
        (of, [Decimal("1.50") if of.scale > 0 else Decimal(100), Decimal(-200), Decimal(0), None])
        for of in (
            pa.decimal128(38, 10),
            pa.decimal128(9, 2),
            pa.decimal128(20, -2),
            pa.decimal128(38, -2),
            pa.decimal256(60, 0),
            pa.decimal256(30, 3),
            pa.decimal256(70, 10),
        )
    ),
    (pa.uuid(), [A.bytes, B.bytes, None]),
    (pa.json_(), ['{"a":1}', "[1]", None]),
    (pa.bool8(), [1, 0, None]),
    (pa.null(), [None, None]),
    *(moments(unit, zone) for unit in ("s", "ms", "us", "ns") for zone in (None, "UTC", "Europe/Berlin")),
    (pa.timestamp("us"), [dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59, 999999), None]),
    (pa.dictionary(pa.int8(), pa.string()), ["a", "b", None, "a"]),
    (pa.dictionary(pa.int32(), pa.int64()), [1, 2, None]),
    (pa.list_(pa.int32()), [[1], [], None, [None]]),
    (pa.list_(pa.float32(), 3), [[1, 2, 3], None]),
    (pa.list_(pa.float16(), 3), [[1, 2, 3], None]),
    (pa.list_(pa.float16()), [[1.5, None], [], None]),
    (pa.list_(pa.list_(pa.float16())), [[[1.5]], None]),
    (pa.large_list(pa.string()), [["a"], None]),
    (pa.large_list(pa.float16()), [[1.5], None]),
    (pa.struct([("a", pa.int32()), ("b", pa.float16())]), [{"a": 1, "b": 2.5}, {"a": None, "b": None}, None]),
    (pa.map_(pa.string(), pa.int32()), [[("k", 1)], [], None]),
    (pa.map_(pa.string(), pa.float16()), [[("k", 1.5)], [], None]),
    (pa.list_(pa.struct([("q", pa.float16())])), [[{"q": 1.5}], [], None]),
    (pa.list_(pa.bool_(), 2), [[True, None], None]),
    (pa.list_(pa.decimal256(60, 0)), [[Decimal(5)], None]),
    (pa.fixed_shape_tensor(pa.float16(), [2]), [[1, 2], None]),
    (pa.opaque(pa.int32(), "x", "y"), [1, None]),
]
OPERATORS = (
    "= {0}",
    "< {0}",
    ">= {0}",
    "<> {0}",
    "is distinct from {0}",
    "in ({0}, {0})",
    "between {0} and {0}",
)


@pytest.mark.slow
@pytest.mark.parametrize(("of", "values"), VALUES, ids=[str(of) for of, _ in VALUES])
def test_every_type_is_read_and_filtered(folder, of, values):
    """What DuckDB says of its own table that holds the same values is right."""
    rows = pa.table([pa.array(range(len(values))), array_of(of, values)], names=["id", "c"])
    table = folder.put("t", rows, data_storage_version="2.2")
    kept = rows.set_column(1, "c", rows.column("c").cast(readable_type(of)))
    with duckdb.connect(":memory:") as own:
        own.execute("set TimeZone = 'UTC'")
        own.register("given", kept)
        own.execute("create table t as select * from given")
        for sql in queries(own):
            assert str(asked(sql, table)) == str(own.sql(sql).to_arrow_table().to_pylist()), sql


def queries(own: Any) -> list[str]:
    """All rows; then all conditions in one query, a scan each."""
    kind, *_ = own.sql("select typeof(c) from t").fetchall()[0]
    conditions = ["c is null", "c is not null"]
    for (text,) in own.sql("select distinct c::varchar from t where c is not null").fetchall():
        literal = f"'{text.replace(chr(39), chr(39) * 2)}'::{kind}"
        conditions += [f"c {operator.format(literal)}" for operator in OPERATORS]
        conditions.append(f"id > 0 and (c = {literal} or c is null)")
    scans = [f"select {number} as n, id from t where {text}" for number, text in enumerate(conditions)]
    return ["select * from t order by id", " union all ".join(scans) + " order by n, id"]


@pytest.mark.parametrize("version", ["2.0", "2.2"])
def test_blobs_are_read_as_bytes_when_they_are_named(folder, version):
    blob = pa.field("b", pa.large_binary(), metadata={"lance-encoding:blob": "true"})
    schema = pa.schema([pa.field("id", pa.int64()), blob])
    rows = pa.table([[1, 2], [b"xy", None]], schema=schema)
    table = folder.put("t", rows, data_storage_version=version)
    assert asked("select id, octet_length(b) n from t order by id", table) == [
        {"id": 1, "n": 2},
        {"id": 2, "n": None},
    ]
    assert asked("select id from t where b is not null", table) == [{"id": 1}]


class TestBatches:
    """Lance decodes a batch whole, so how many rows it has decides what a scan needs of memory."""

    @pytest.mark.slow
    def test_of_large_values_are_small(self, folder):
        rows = pa.table({"id": range(32), "w": [os.urandom(4 << 20) for _ in range(32)]})
        table = folder.put("t", rows)
        scan = Readable(table).scanner(columns=["w"]).to_reader()
        assert max(batch.nbytes for batch in scan) < 33 << 20
        assert batch_rows(table.dataset, ["id"], 8192) == 8192

    def test_of_vectors_are_as_wide_as_their_type(self, folder):
        vectors = pa.array([[0.0] * 1024] * 4, pa.list_(pa.float32(), 1024))
        table = folder.put("t", pa.table({"id": range(4), "v": vectors}))
        assert batch_rows(table.dataset, ["v"], 8192) == BATCH_BYTES // 4096
        assert batch_rows(table.dataset, ["id", "v"], 8192) < BATCH_BYTES // 4096
        assert batch_rows(table.dataset, ["vector_length(v)"], 8192) == BATCH_BYTES // 4096

    def test_of_blobs_have_few_rows(self, folder):
        blob = pa.field("b", pa.large_binary(), metadata={"lance-encoding:blob": "true"})
        table = folder.put("t", pa.table([[b"x"]], schema=pa.schema([blob])))
        assert batch_rows(table.dataset, ["b"], 8192) == 8

    def test_of_an_empty_table_are_none(self, folder):
        table = folder.put("t", pa.table({"s": pa.array([], pa.string()), "h": pa.array([], pa.float16())}))
        assert asked("select count(*) n, max(h) h from t where s <> ''", table) == [{"n": 0, "h": None}]


@pytest.mark.parametrize("where", ["true", "id > 0", "half > 0"])
def test_a_table_that_cannot_be_read_is_an_error_of_the_store(folder, where):
    table = folder.put("t", ids(3).append_column("c", pa.array([1, 2, 3], pa.float16())))
    shutil.rmtree(folder.path / ROOT / "catalog" / "t.lance" / "data")
    with pytest.raises(StoreError, match="reading t: "):
        asked(f"select sum(half), max(c) from t where {where}", table)


def test_ctrl_c_stops_a_query():
    main = threading.main_thread().ident
    threading.Timer(1, signal.pthread_kill, (main, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        run_query({}, "select sum(hash(range)) from range(1000000000000)")


@pytest.mark.slow
def test_an_error_leaves_nothing_to_be_told_when_the_program_ends(folder):
    """DuckDB's binding lists objects that are still held then."""
    folder.put("t", pa.table({"name": ["1", "x"]}))
    program = f"""
import sys
from lancemig.errors import PlanError
from lancemig.store.objects import open_objects
from lancemig.store.lance import Tables, run_query
tables = Tables(open_objects({str(folder.path)!r}, {{}}), "catalog/")
for sql in ("select cast(name as int) from t", "select nope", "select * from t"):
    try:
        run_query({{"t": tables.open("{ROOT}", "t")}}, sql)
    except PlanError as error:
        kept = error
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
