"""CreateIndex and DropIndex: answers are right before, with, and after an index."""

import shutil
from collections.abc import Callable

import lance
import pyarrow as pa
import pytest
from lab import Lab
from there_and_back import Case, Refusal

from lancemig.errors import PlanError

ABOVE = """
def rows():
    yield [
        {"id": i, "cat": i % 5, "txt": f"word{i % 7} runs quickly", "tags": [f"t{i % 3}", "z"],
         "info": {"serial": f"s{i}"}, "vec": [(i * i * k + 7 * i) % 1009 / 1009 for k in range(1, 9)]}
        for i in range(COUNT)
    ]
"""
START = """
CreateTable(table="t", key=("id",), rows=rows, schema=["id: int64", "cat: int32", "txt: string",
    "tags: list<string>", "info: struct<serial: string>", "vec: fixed_size_list<float32>[8]"])
"""
SMALL, LARGE = (ABOVE.replace("COUNT", str(count)) for count in (35, 512))


def index(column: str, kind: str, more: str = "") -> str:
    return f'CreateIndex(table="t", column="{column}", type="{kind}"{more})'


def counts(where: str, rows: int) -> Callable[[Lab], None]:
    def look(lab: Lab) -> None:
        assert lab.dataset("t").count_rows(where) == rows
        assert "Index" in lab.dataset("t").scanner(filter=where).explain_plan()

    return look


def full_text(query: str, rows: int) -> Callable[[Lab], None]:
    def look(lab: Lab) -> None:
        found = lab.dataset("t").to_table(full_text_query=query, columns=["id"])
        assert found.num_rows == rows

    return look


def nearest(lab: Lab) -> None:
    query = [(9 * k + 21) % 1009 / 1009 for k in range(1, 9)]
    found = lab.dataset("t").to_table(
        nearest={"column": "vec", "q": query, "k": 1, "nprobes": 4, "refine_factor": 20}, columns=["id"]
    )
    assert found.column("id").to_pylist() == [3]


def made(lab: Lab, kind: str) -> None:
    (found,) = lab.catalog().store.tables.open(lab.root, "t").schema().indices
    assert found.type == kind
    assert lab.dataset("t").count_rows("cat = 3") == 0


def taken_up(column: str, kind: str) -> Callable[[Lab], None]:
    """The index is there, covers what there is to cover, and more when it is told to."""

    def look(lab: Lab) -> None:
        (found,) = lab.catalog().store.tables.open(lab.root, "t").schema().indices
        assert (found.column, found.type) == (column, kind)
        copy = lab.folder / "copy.lance"
        shutil.copytree(lab.dataset("t").uri, copy, dirs_exist_ok=True)
        rows = [{"id": i, "cat": i % 5, "vec": [i, 1, 2, 3, 4, 5, 6, 7]} for i in range(300)]
        schema = lab.dataset("t").schema
        lance.write_dataset(pa.Table.from_pylist(rows, schema=schema), copy, mode="append")
        lance.dataset(copy).optimize.optimize_indices()
        made = lance.dataset(copy)
        assert made.stats.index_stats(found.name)["num_unindexed_rows"] == 0
        assert made.count_rows("cat = 3") == 60
        nearest = {"column": "vec", "q": [7, 1, 2, 3, 4, 5, 6, 7], "k": 1, "refine_factor": 300}
        assert made.to_table(nearest=nearest, columns=["id"])["id"].to_pylist() == [7]
        shutil.rmtree(copy)

    return look


def with_parameters(**expected: object) -> Callable[[Lab], None]:
    """The index has these parameters, read from Lance alone."""

    def look(lab: Lab) -> None:
        dataset = lab.dataset("t")
        (index,) = dataset.describe_indices()
        statistics = dataset.stats.index_stats(index.name)["indices"][0]
        found = {**statistics, **(index.details or {})}
        assert {name: found[name] for name in expected} == expected

    return look


EMPTY = START.replace(", rows=rows", "")
WITHOUT = EMPTY + """, UpsertRows(table="t", on=("id",), rows=[{"id": -1}, {"id": -2}])"""


def case(name: str, do: str, look: Callable[[Lab], None], above: str = SMALL, **more: object) -> Case:
    return Case(name, start=START, above=above, do=do, look=look, **more)


CASES = [
    *(
        Case(f"{kind} {on}", start=start, do=index(column, kind, more), look=taken_up(column, kind))
        for on, start in (("on an empty table", EMPTY), ("where all is null", WITHOUT))
        for column, kind, more in (
            ("cat", "BITMAP", ""),
            ("vec", "IVF_FLAT", ', params={"num_partitions": 4}'),
            ("vec", "IVF_PQ", ', params={"num_partitions": 4, "num_sub_vectors": 4, "metric": "l2"}'),
            ("vec", "IVF_HNSW_SQ", ', params={"num_partitions": 4}'),
        )
    ),
    Case(
        "BITMAP of nothing",
        start=EMPTY,
        do=index("cat", "BITMAP"),
        look=lambda lab: made(lab, "BITMAP"),
        everywhere=True,
    ),
    Case(
        "BITMAP made again where no row is left",
        start=f"{EMPTY}, {index('cat', 'BITMAP')}",
        do='RetypeColumn(table="t", column="cat", to="int64")',
        look=taken_up("cat", "BITMAP"),
    ),
    case("BTREE", index("id", "BTREE"), counts("id = 7", 1), everywhere=True),
    case("BTREE of a struct's field", index("info.serial", "BTREE"), counts("info.serial = 's7'", 1)),
    case("BITMAP, named", index("cat", "BITMAP", ', name="by_cat"'), counts("cat = 3", 7)),
    case("LABEL_LIST", index("tags", "LABEL_LIST"), counts("array_has_any(tags, ['t1'])", 12)),
    case("INVERTED", index("txt", "INVERTED"), full_text("word3", 5)),
    case(
        "INVERTED with parameters",
        index("txt", "INVERTED", ', params={"with_position": True, "stem": True, "language": "English"}'),
        full_text("run", 35),
    ),
    case("NGRAM", index("txt", "NGRAM"), counts("contains(txt, 'word3')", 5)),
    case("ZONEMAP", index("id", "ZONEMAP"), lambda lab: only_seven(lab)),
    case(
        "ZONEMAP with parameters",
        index("id", "ZONEMAP", ', params={"rows_per_zone": 8}'),
        with_parameters(rows_per_zone=8),
    ),
    case("FTS is INVERTED", index("txt", "FTS", ', params={"stem": True}'), full_text("word3", 5)),
    case("BTREE with parameters", index("id", "btree", ', params={"zone_size": 16}'), counts("id = 7", 1)),
    case(
        "a metric by LanceDB's name",
        index("vec", "IvfFlat", ', params={"num_partitions": 4, "distance_type": "Cosine"}'),
        with_parameters(metric_type="COSINE"),
        LARGE,
    ),
    case("two at once", index("id", "BTREE") + ", " + index("cat", "BITMAP"), counts("cat = 3", 7)),
    case(
        "IVF_FLAT",
        index("vec", "IVF_FLAT", ', params={"num_partitions": 4, "metric": "l2"}'),
        nearest,
        LARGE,
    ),
    case(
        "IVF_PQ",
        index("vec", "IVF_PQ", ', params={"num_partitions": 2, "num_sub_vectors": 4, "metric": "cosine"}'),
        nearest,
        LARGE,
    ),
    Case(
        "an index on an empty table",
        start='CreateTable(table="t", schema="id: int64")',
        do=index("id", "BTREE"),
        then={"t": []},
    ),
    Case(
        "dropped",
        start=f"{START}, {index('id', 'BTREE')}, {index('cat', 'BITMAP')}",
        above=SMALL,
        do='DropIndex(table="t", name="id_idx")',
        look=counts("cat = 3", 7),
        everywhere=True,
    ),
    Case(
        "a dropped full-text index comes back with its parameters",
        start=START + ", " + index("txt", "INVERTED", ', params={"with_position": True, "stem": True}'),
        above=SMALL,
        do='DropIndex(table="t", name="txt_idx")',
    ),
    Case(
        "a dropped vector index comes back with its parameters",
        start=START + ", " + index("vec", "IVF_PQ", ', params={"num_partitions": 2, "num_sub_vectors": 4}'),
        above=LARGE,
        do='DropIndex(table="t", name="vec_idx")',
    ),
    Case(
        "values change under an index",
        start=f"{START}, {index('cat', 'BTREE')}",
        above=SMALL,
        do='UpdateRows(table="t", set={"cat": "9"}, where="cat = 3")',
        look=lambda lab: nines(lab),
    ),
]


def only_seven(lab: Lab) -> None:
    assert lab.dataset("t").count_rows("id = 7") == 1


def nines(lab: Lab) -> None:
    assert lab.dataset("t").count_rows("cat = 9") == 7
    assert lab.dataset("t").count_rows("cat = 3") == 0


REFUSALS = [
    Refusal(
        "an index of that name",
        start=f"{START}, {index('id', 'BTREE')}",
        above=SMALL,
        do=index("cat", "BTREE", ', name="id_idx"'),
        error=PlanError,
        says=["already has an index 'id_idx'"],
    ),
    Refusal(
        "an unknown column",
        start=START,
        above=SMALL,
        do=index("nope", "BTREE"),
        error=PlanError,
        says=["no column 'nope'"],
    ),
    Refusal(
        "an unknown index",
        start=f"{START}, {index('id', 'BTREE')}",
        above=SMALL,
        do='DropIndex(table="t", name="nope")',
        error=PlanError,
        says=["no index 'nope'; its indices: id_idx"],
    ),
    *(
        Refusal(
            f"{kind} with {params}",
            start=START,
            above=SMALL,
            do=index("id", "BTREE") + ", " + index(column, kind, f", params={params}"),
            error=PlanError,
            says=[says, column],
        )
        for column, kind, params, says in (
            ("txt", "INVERTED", {"language": "Klingon"}, "Klingon"),
            ("vec", "IVF_FLAT", {"num_partitions": 1, "metric": "hamming"}, "compares vectors of uint8"),
            ("vec", "IVF_PQ", {}, "num_partitions and num_sub_vectors are required"),
            ("vec", "IVF_PQ", {"num_partitions": 1, "num_sub_vectors": 3}, "divisible by num_sub_vectors"),
        )
    ),
    *(
        Refusal(
            f"{kind} on {column}",
            start=START,
            above=SMALL,
            do=index(column, kind),
            error=PlanError,
            says=[kind, f"t.{column}"],
        )
        for column, kind in (
            ("id", "IVF_PQ"),
            ("txt", "IVF_FLAT"),
            ("id", "INVERTED"),
            ("id", "NGRAM"),
            ("id", "LABEL_LIST"),
            ("info", "BTREE"),
            ("tags", "BTREE"),
            ("vec", "BITMAP"),
        )
    ),
]


@pytest.mark.parametrize("case", [*CASES, *REFUSALS], ids=str)
def test_indices(run, case):
    run(case)
