"""The gate of the schema: columns, key and metadata are what the operations declare."""

from collections.abc import Iterator

from lancemig.apply.steps.transform import Passage
from lancemig.catalog.drift import drift
from lancemig.catalog.proof import Outcome
from lancemig.catalog.schema import CatalogSchema, TableSchema, text_metadata
from lancemig.catalog.sources import counted
from lancemig.store.tables import Table

Sides = tuple[TableSchema | None, TableSchema | None]


def expected(passage: Passage, start: CatalogSchema) -> TableSchema | None:
    """The schema a table should have at the end of its way."""
    if passage.steps:
        return passage.steps[-1].after
    return start.tables.get(passage.source or "")


def schema_gate(wanted: TableSchema | None, table: Table, sides: Sides = (None, None)) -> Outcome:
    """The table has the declared columns, types, key and metadata.

    `sides` are the live table's schema when it was planned, and now: metadata that others changed meanwhile,
    and no step did, is theirs.
    """
    found = table.schema()
    if wanted is None:
        return Outcome(
            gate="schema", table=table.name, ok=False, detail="the plan has no schema for this table"
        )
    without = wanted.model_copy(update={"indices": ()})
    said = [one.said for one in drift(without, found) if one.structural]
    said += _metadata(wanted, found, sides)
    detail = "; ".join(said) or counted(len(found.columns), "column")
    return Outcome(gate="schema", table=table.name, ok=not said, detail=detail)


def _metadata(wanted: TableSchema, found: TableSchema, sides: Sides) -> Iterator[str]:
    """Declared metadata that is not there, or is other; what Lance adds of its own is nobody's business."""
    then, now = (side.metadata if side else {} for side in sides)
    theirs = {name for name in wanted.metadata if then.get(name) == wanted.metadata[name] != now.get(name)}
    declared = {name: text for name, text in wanted.metadata.items() if name not in theirs}
    if gone := _unlike(declared, found.metadata):
        yield f"the metadata {gone} differs from the declaration"
    for field in wanted.columns:
        if field.name in found.columns.names:
            have = text_metadata(found.columns.field(field.name).metadata)
            if gone := _unlike(text_metadata(field.metadata), have):
                yield f"{field.name}: the metadata {gone} differs from the declaration"


def _unlike(wanted: dict[str, str], found: dict[str, str]) -> str:
    return ", ".join(sorted(name for name, text in wanted.items() if found.get(name) != text))
