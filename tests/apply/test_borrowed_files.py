"""Tables that borrow files from elsewhere, as shallow clones do."""

from pathlib import Path

import pytest
from lab import ROOT, Lab
from servers import Place


def clone_beside(lab: Lab) -> None:
    """A table `u` in the live root that borrows all its files from `t`."""
    tables = lab.catalog().store.tables
    lab.dataset("t").shallow_clone(tables.uri(ROOT, "u"), 1, storage_options=tables.options())


def written(folder: Path, place: Place) -> Lab:
    lab = Lab(folder, place)
    lab.revision("""CreateTable(table="t", schema={"id": "int64 not null", "x": "float64"}, key=("id",),
                                rows=[{"id": i, "x": i * 1.0} for i in range(5)])""")
    lab.revision('RenameColumn(table="u", column="x", to="y")')
    lab.upgrade("0001")
    clone_beside(lab)
    return lab


def test_a_rebuild_makes_a_borrowing_table_self_contained(tmp_path: Path, place: Place) -> None:
    lab = written(tmp_path, place)
    lab.upgrade()
    assert lab.rows("u") == [{"id": i, "y": i * 1.0} for i in range(5)]
    tables = lab.catalog().store.tables
    assert tables.open(lab.root, "u").borrows == ()
    assert tables.open(ROOT, "u").borrows != ()


@pytest.mark.s3
def test_on_an_object_store_it_is_written_anew(tmp_path: Path, s3_place: Place) -> None:
    lab = Lab(tmp_path, s3_place)
    lab.revision("""CreateTable(table="t", schema={"id": "int64 not null"}, rows=[{"id": 1}, {"id": 2}])""")
    lab.revision('RewriteTable(table="u", data_storage_version="stable")')
    lab.upgrade("0001")
    clone_beside(lab)
    lab.upgrade()
    assert lab.rows("u") == [{"id": 1}, {"id": 2}]
