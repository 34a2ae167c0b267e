"""SetMetadata: entries of a table's or a column's metadata."""

import pytest
from lab import Lab
from there_and_back import Case, Refusal

from lancemig.catalog.schema import field_within
from lancemig.errors import PlanError, ScriptError

START = """
CreateTable(table="t", key=("id",), rows=[{"id": 1, "p": {"x": 2}}], schema=pa.schema([
    pa.field("id", pa.int64(), metadata={"unit": "none", "old": "1"}),
    pa.field("p", pa.struct([pa.field("x", pa.int8(), metadata={"unit": "m"})]))],
    metadata={"owner": "ursa"}))
"""
ROWS = {"t": [{"id": 1, "p": {"x": 2}}]}

INSIDE = """
CreateTable(table="t", rows=[{"l": [{"x": 2}], "m": [("a", 1)]}], schema=pa.schema([
    pa.field("l", pa.list_(pa.field("element", pa.struct([pa.field("x", pa.int8(), metadata={"unit": "m"})
    ])))),
    pa.field("m", pa.map_(pa.field("k", pa.string(), False, metadata={"unit": "m"}), pa.int8()))]))
"""


def inside_is(metadata: dict[bytes, bytes]):
    def look(lab: Lab) -> None:
        found = lab.dataset("t").schema
        for path in ("l.element", "l.element.x", "m.key", "m.value"):
            assert field_within("t", found, path).metadata == metadata

    return look


def of_table(metadata: dict[str, str]):
    def look(lab: Lab) -> None:
        found = dict(lab.dataset("t").schema.metadata)
        found.pop(b"lancemig.key")
        assert found == {k.encode(): v.encode() for k, v in metadata.items()}

    return look


def of_column(metadata: dict[str, str]):
    def look(lab: Lab) -> None:
        found = lab.dataset("t").schema.field("id").metadata
        assert found == {k.encode(): v.encode() for k, v in metadata.items()}

    return look


CASES = [
    Case(
        "a table's entry, new and changed",
        start=START,
        do='SetMetadata(table="t", metadata={"owner": "carl", "license": "CC0"})',
        then=ROWS,
        look=of_table({"owner": "carl", "license": "CC0"}),
        everywhere=True,
    ),
    Case(
        "a table's entry removed",
        start=START,
        do='SetMetadata(table="t", metadata={"owner": None})',
        then=ROWS,
        look=of_table({}),
    ),
    Case(
        "a column's entries",
        start=START,
        do='SetMetadata(table="t", column="id", metadata={"unit": "s", "old": None, "new": ""})',
        then=ROWS,
        look=of_column({"unit": "s", "new": ""}),
    ),
    Case(
        "entries of what is inside lists and maps",
        start=INSIDE,
        do=", ".join(
            f'SetMetadata(table="t", column="{path}", metadata={{"unit": "mm", "new": "1"}})'
            for path in ("l.element", "l.element.x", "m.key", "m.value")
        ),
        look=inside_is({b"unit": b"mm", b"new": b"1"}),
    ),
    Case(
        "a struct's field's entries",
        start=START,
        do='SetMetadata(table="t", column="p.x", metadata={"unit": "mm", "a": "b"})',
        then=ROWS,
    ),
    Case(
        "an entry that is not there, removed",
        start=START,
        do='SetMetadata(table="t", metadata={"nope": None})',
        then=ROWS,
        look=of_table({"owner": "ursa"}),
    ),
]

REFUSALS = [
    Refusal(
        "lancemig's own",
        start=START,
        do='SetMetadata(table="t", metadata={"lancemig.key": "[]"})',
        error=ScriptError,
        says=["lancemig.key is reserved for lancemig"],
    ),
    Refusal(
        "an unknown column",
        start=START,
        do='SetMetadata(table="t", column="y", metadata={"a": "b"})',
        error=PlanError,
        says=["no column 'y'", "id, p"],
    ),
]


@pytest.mark.parametrize("case", [*CASES, *REFUSALS], ids=str)
def test_set_metadata(run, case):
    run(case)
