"""Each applied revision guards its versions: the catalog can be read as it was, whatever is cleaned away."""

from datetime import timedelta
from pathlib import Path

import pytest
from lab import Lab
from servers import Place

import lancemig
from lancemig.commands import adopt, query

START = """
    CreateTable(table="a", key=("id",), schema=["id: int64", "x: int64"],
                rows=[{"id": n, "x": n} for n in range(4)]),
    CreateTable(table="b", schema=["id: int64"], rows=[{"id": 1}]),
"""
CHANGES = (
    'UpdateRows(table="a", set={"x": "x + 10"})',
    'AddColumn(table="a", column=pa.field("y", pa.int64()), sql="x * 2")',
    'RenameColumn(table="a", column="x", to="z")',
    'DeleteRows(table="a", where="id = 3")',
)


def cleaned(lab: Lab) -> None:
    """What another writer does after each revision, and what a cleanup then takes."""
    for name in lab.tables():
        lab.append(name, [{"id": 100 + lab.dataset(name).version}])
        lab.dataset(name).optimize.compact_files()
        lab.dataset(name).cleanup_old_versions(older_than=timedelta(0), delete_unverified=True)


@pytest.fixture
def lab(tmp_path: Path, place: Place) -> Lab:
    lab = Lab(tmp_path / "lab", place)
    lab.revision(START)
    for change in CHANGES:
        lab.revision(change)
    for _ in range(len(CHANGES) + 1):
        lab.upgrade("+1")
        cleaned(lab)
    return lab


def total(lab: Lab, column: str, at: str) -> int | None:
    sql = f"select cast(sum({column}) as bigint) as t from a where id < 100"
    return query.query(lab.catalog(), sql, at).rows.column("t")[0].as_py()


@pytest.mark.slow
def test_every_revision_can_be_read_across_tables(lab: Lab) -> None:
    assert [total(lab, "x", at) for at in ("0001", "0002", "0003")] == [6, 46, 46]
    assert total(lab, "y", "0003") == 92
    assert [total(lab, "z", at) for at in ("0004", "0005")] == [46, 33]
    both = query.query(lab.catalog(), "select count(*) as n from a join b using (id)", "0002")
    assert both.rows.column("n")[0].as_py() == 2


def test_a_program_opens_it_so(lab: Lab) -> None:
    config = lab.folder / "lancemig.ini"
    then = lancemig.connect(config, at="0002")
    assert sorted(then.table_names()) == ["a", "b"]
    assert sorted(then.open_table("a").to_arrow().column("x").drop_null().to_pylist()) == [10, 11, 12, 13]
    assert lancemig.connect(config, at="head").open_table("a").count_rows("id < 100") == 3


def test_what_was_stamped_is_guarded_too(tmp_path: Path, local_place: Place) -> None:
    lab = Lab(tmp_path / "lab", local_place)
    lab.revision(START)
    lab.upgrade()
    lab.revision(CHANGES[0])
    lab.append("a", [{"id": 4, "x": 4}])
    adopt.stamp(lab.catalog(), "0002")
    cleaned(lab)
    assert total(lab, "x", "0002") == 10
