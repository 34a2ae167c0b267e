"""Downgrades in a catalog that was there before lancemig, and of which no file creates the tables."""

import shutil
from pathlib import Path

import lance
import pyarrow as pa
import pytest
from lab import Lab
from servers import Place

from lancemig.errors import Irreversible

ROWS = [{"id": 1, "size": 30, "name": "a"}, {"id": 2, "size": 40, "name": "b"}]


@pytest.fixture
def lab(tmp_path: Path, local_place: Place) -> Lab:
    lab = Lab(tmp_path, local_place)
    catalog = lab.catalog()
    for table in ("t", "other"):
        uri = catalog.store.tables.uri(catalog.fallback.prefix, table)
        lance.write_dataset(pa.Table.from_pylist(ROWS), uri)
    return lab


def there_and_back(lab: Lab, target: str = "-1") -> None:
    lab.upgrade()
    lab.downgrade(target)


def as_before(lab: Lab) -> None:
    assert lab.rows("t") == ROWS
    assert lab.dataset("t").schema.field("size").type == pa.int64()


RETYPE = 'RetypeColumn(table="t", column="size", to="float64")'


def test_a_rebuild_after_another_revision(lab: Lab) -> None:
    lab.revision('AddColumn(table="t", column="note: string")')
    lab.revision(RETYPE)
    there_and_back(lab)
    assert lab.rows("t") == [{**row, "note": None} for row in ROWS]


def test_a_rebuild_that_is_the_first_revision(lab: Lab) -> None:
    lab.revision(RETYPE)
    there_and_back(lab, "base")
    as_before(lab)


def test_several_revisions_in_one_rebuild(lab: Lab) -> None:
    lab.revision('RenameColumn(table="t", column="name", to="label")')
    lab.revision('RenameTable(table="t", to="u")')
    lab.revision(RETYPE.replace('"t"', '"u"'))
    lab.upgrade()
    lab.downgrade("-1")
    assert lab.dataset("u").schema.field("size").type == pa.int64()
    lab.downgrade("base")
    as_before(lab)


def test_beside_a_table_that_a_file_creates(lab: Lab) -> None:
    lab.revision('CreateTable(table="new", schema=["x: int64"])')
    lab.revision(RETYPE + ', RetypeColumn(table="new", column="x", to="float64")')
    there_and_back(lab)
    as_before(lab)
    assert lab.dataset("new").schema.field("x").type == pa.int64()


@pytest.mark.parametrize(
    "operation",
    [
        'SetKey(table="t", key=("id",))',
        'SetMetadata(table="t", metadata={"owner": "us"})',
        'CreateIndex(table="t", column="id", type="BTREE")',
        'RequireColumn(table="t", column="id")',
        'RequireColumn(table="t", column="id"), ' + RETYPE,
    ],
)
def test_other_operations_take_the_state_before_them_from_the_lineage(lab: Lab, operation: str) -> None:
    lab.revision(operation)
    before = lab.dataset("t").schema
    there_and_back(lab, "base")
    as_before(lab)
    assert lab.dataset("t").schema == before


def test_a_second_upgrade_and_downgrade_do_the_same(lab: Lab) -> None:
    lab.revision(RETYPE)
    there_and_back(lab, "base")
    there_and_back(lab, "base")
    as_before(lab)


def test_if_the_version_is_gone_the_way_out_is_named(lab: Lab) -> None:
    lab.revision(RETYPE)
    old = lab.dataset("t").uri
    lab.upgrade()
    shutil.rmtree(old)
    with pytest.raises(Irreversible, match="table 't' does not exist") as refused:
        lab.downgrade("base")
    assert "downgrade = [...]" in str(refused.value.next_step)
