"""Every operation beside a column of every type, which keeps its values; some on the column itself."""

import lance
import pyarrow as pa
import pytest
from lab import ROOT, Lab
from types_matrix import NANOSECONDS, USUAL, VALUES, stored, table

from lancemig.catalog.arrow_arrays import array_of, empty_batch, empty_table, nulls
from lancemig.catalog.arrow_types import is_blob

DATA, ADDS, REBUILDS = "data-only", "additive", "rebuild"
OTHERS = {
    "update": (DATA, 'UpdateRows(table="t", set={"n": "n + 1"}, where="id = 2")'),
    "function": (DATA, 'BackfillColumns(table="t", columns=["n"], using=f, reads=["id"])'),
    "delete": (DATA, 'DeleteRows(table="t", where="id = 3")'),
    "deduplicate": (DATA, 'DeduplicateRows(table="t", key=["id"])'),
    "add": (ADDS, 'AddColumn(table="t", column="x: int64")'),
    "add by SQL": (ADDS, 'AddColumn(table="t", column="x: int64", sql="id * 2")'),
    "index": (ADDS, 'CreateIndex(table="t", column="id", type="BTREE")'),
    "set key": (REBUILDS, 'SetKey(table="t", key=["id"])'),
    "compact": (DATA, 'Compact(table="t")'),
    "rename": (REBUILDS, 'RenameColumn(table="t", column="n", to="m")'),
    "drop": (REBUILDS, 'DropColumn(table="t", column="n")'),
    "retype": (REBUILDS, 'RetypeColumn(table="t", column="n", to="float64")'),
    "retype by SQL": (REBUILDS, 'RetypeColumn(table="t", column="n", to="string", using="s")'),
    "rewrite": (REBUILDS, 'RewriteTable(table="t", stable_row_ids=True)'),
    "rename table": (REBUILDS, 'RenameTable(table="t", to="u")'),
}
IRREVERSIBLE = ("delete", "drop", "retype by SQL")

REFUSED = {("blob", "rewrite")}
"""What the plan refuses: Lance does not let blobs be copied."""

ABOVE = """
def f(batch):
    return batch.column("id")
"""
FEW = ("update", "delete", "add", "add by SQL", "index", "retype")


def pairs(usual: bool) -> list[pytest.ParameterSet]:
    """Each type with each operation: those of the usual run, or the others."""
    every = [(name, what) for name in VALUES for what in OTHERS]
    some = [one for one in every if usual == (one[0] in USUAL and one[1] in FEW) and one not in REFUSED]
    return [pytest.param(*one, id=" ".join(one)) for one in some]


def begun(folder, place, name: str) -> Lab:
    lab = Lab(folder, place)
    lance.write_dataset(table(name), lab.catalog().store.tables.uri(ROOT, "t"), data_storage_version="2.2")
    return lab


def run(lab: Lab, kind: str, operation: str) -> None:
    lab.revision(operation, above=ABOVE, kind=kind)
    lab.upgrade()


def keeps(folder, place, name: str, what: str) -> None:
    lab = begun(folder, place, name)
    before = stored(lab.dataset("t").uri, name)
    kind, operation = OTHERS[what]
    run(lab, kind, operation)
    after = "u" if what == "rename table" else "t"
    found = stored(lab.dataset(after).uri, name)
    assert repr(found) == repr(before[:2] if what == "delete" else before)
    assert lab.dataset(after).schema.field("v").type == lab.dataset("t", ROOT).schema.field("v").type
    if what not in IRREVERSIBLE:
        lab.downgrade()
        assert repr(stored(lab.dataset("t").uri, name)) == repr(before)


@pytest.mark.parametrize(("name", "what"), pairs(usual=True))
def test_an_operation_on_another_column_keeps_the_values(tmp_path, local_place, name, what):
    keeps(tmp_path, local_place, name, what)


@pytest.mark.nightly
@pytest.mark.parametrize(("name", "what"), pairs(usual=False))
def test_every_operation_beside_every_type(tmp_path, local_place, name, what):
    keeps(tmp_path, local_place, name, what)


def themselves(lab: Lab, name: str) -> None:
    """Rename, then drop the column; add one of its type without values; and go back."""
    before = repr(stored(lab.dataset("t").uri, name))
    run(lab, REBUILDS, 'RenameColumn(table="t", column="v", to="w")')
    renamed = lab.dataset("t")
    assert "w" in renamed.schema.names
    lab.downgrade()
    assert repr(stored(lab.dataset("t").uri, name)) == before


@pytest.mark.parametrize("name", USUAL)
def test_the_column_itself_is_renamed_and_back(tmp_path, local_place, name):
    themselves(begun(tmp_path, local_place, name), name)


@pytest.mark.nightly
@pytest.mark.parametrize("name", sorted(VALUES.keys() - set(USUAL)))
def test_a_column_of_every_type_is_renamed_and_back(tmp_path, local_place, name):
    themselves(begun(tmp_path, local_place, name), name)


@pytest.mark.parametrize("name", [*USUAL, "named tensor", "opaque", "uuid", "dictionary in a list"])
def test_a_column_of_the_type_is_added_and_dropped_again(tmp_path, local_place, name):
    lab = begun(tmp_path, local_place, name)
    above = "from types_matrix import table"
    lab.revision(
        f'AddColumn(table="t", column=table("{name}").schema.field("v").with_name("w"))', above=above
    )
    lab.upgrade()
    live = lab.dataset("t")
    assert is_blob(live.schema.field("w")) or live.schema.field("w").type == live.schema.field("v").type
    assert live.to_table(columns=["id", "w"], filter="id = 1").num_rows == 1
    lab.downgrade()
    assert "w" not in lab.dataset("t").schema.names


@pytest.mark.parametrize("name", [name for name in VALUES if name not in NANOSECONDS])
def test_arrays_and_tables_of_every_type_are_made(name):
    array = VALUES[name]
    schema = pa.schema([pa.field("v", array.type)])
    assert empty_table(schema).schema == schema
    assert empty_batch(schema).schema == schema
    assert nulls(2, array.type).type == array.type
    assert nulls(2, array.type).is_null().to_pylist() == [True, True]
    storage = array.storage if isinstance(array.type, pa.BaseExtensionType) else array
    assert str(array_of(storage.to_pylist(), array.type)) == str(array)
