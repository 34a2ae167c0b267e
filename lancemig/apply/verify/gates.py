"""All gates, table by table: what two roots must have in common, given what leads from one to the other."""

from collections.abc import Iterator

from lancemig.apply.effects.replay import TablePath
from lancemig.apply.environment import Progress
from lancemig.apply.verify.columns import columns_gate, rows_gate
from lancemig.apply.verify.coverage import coverage_gate
from lancemig.apply.verify.indices import indices_gate, recall_gate
from lancemig.apply.verify.pairs import TablePair, VerificationInput
from lancemig.apply.verify.recompute import recomputed_gate
from lancemig.catalog.drift import drift
from lancemig.catalog.lineage import GateOutcome
from lancemig.catalog.schema import CatalogSchema, TableSchema, text_metadata
from lancemig.catalog.sources import count_text
from lancemig.catalog.value import format_root
from lancemig.store.lance import Table

Sides = tuple[TableSchema | None, TableSchema | None]


def expected(table_path: TablePath, start: CatalogSchema) -> TableSchema | None:
    """The schema a table should have at the end of its way."""
    if table_path.steps:
        return table_path.steps[-1].after
    return start.tables.get(table_path.source or "")


def schema_gate(wanted: TableSchema | None, table: Table, sides: Sides = (None, None)) -> GateOutcome:
    """The table has the declared columns, types, key and metadata.

    `sides` are the live table's schema when it was planned, and now: metadata that others changed meanwhile,
    and no step did, is theirs.
    """
    found = table.schema()
    if wanted is None:
        return GateOutcome(
            gate="schema", table=table.name, ok=False, detail="the plan has no schema for this table"
        )
    without = wanted.model_copy(update={"indices": ()})
    said = [one.message for one in drift(without, found) if one.structural]
    said += _metadata(wanted, found, sides)
    detail = "; ".join(said) or count_text(len(found.columns), "column")
    return GateOutcome(gate="schema", table=table.name, ok=not said, detail=detail)


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


def run_gates(ground: VerificationInput) -> tuple[list[GateOutcome], dict[str, int]]:
    """Each gate's outcome for each table and column, and the versions of the staged tables it is about."""
    outcomes: list[GateOutcome] = []
    versions: dict[str, int] = {}
    for table_path in ground.paths:
        if table_path.target is None:
            continue
        found = _staged(ground, table_path.target)
        if found is None:
            said = _gone(ground, table_path.target)
            outcomes.append(GateOutcome(gate="present", table=table_path.target, ok=False, detail=said))
            continue
        versions[table_path.target] = found.version
        for outcome in _of_table(ground, table_path, found):
            ground.on_progress(Progress("verify", found.name, text=_told(outcome)))
            outcomes.append(outcome)
    return [*outcomes, *_strangers(ground)], versions


def _staged(ground: VerificationInput, name: str) -> Table | None:
    if ground.after and name not in ground.after:
        return None
    return ground.tables.find(ground.staged, name, ground.after.get(name))


def _gone(ground: VerificationInput, name: str) -> str:
    version = ground.after.get(name)
    if version is None or ground.tables.find(ground.staged, name) is None:
        return "the table is missing"
    return f"its version {version} in {ground.staged} no longer exists"


def _told(outcome: GateOutcome) -> str:
    column = f" {outcome.column}" if outcome.column else ""
    return f"{'' if outcome.ok else 'FAILED '}{outcome.gate}{column}: {outcome.detail}"


def _of_table(ground: VerificationInput, table_path: TablePath, found: Table) -> Iterator[GateOutcome]:
    wanted = expected(table_path, ground.start)
    pair = _pair(ground, table_path, found)
    if isinstance(pair, GateOutcome):
        yield pair
        return
    schema = schema_gate(wanted, found, (pair.start, pair.live.schema()) if pair else (None, None))
    yield schema
    if wanted is None:
        return
    if not schema.ok:
        # Columns that are not what they should be have no values to compare.
        return
    values: list[GateOutcome] = []
    for outcome in _of_values(table_path, found, wanted, pair):
        values.append(outcome)
        yield outcome
    key = pair.key if pair is not None else ()
    yield from coverage_gate(found.name, found.columns.names, key, values)
    yield from indices_gate(ground.tables, table_path, wanted, found, pair)
    yield from recall_gate(pair, found)


def _pair(ground: VerificationInput, table_path: TablePath, found: Table) -> TablePair | GateOutcome | None:
    if table_path.source is None or table_path.derived:
        return None
    version = ground.versions[table_path.source]
    live = ground.tables.find(ground.origin, table_path.source, version)
    if live is None:
        said = f"version {version} of {table_path.source} in {format_root(ground.origin)} no longer exists"
        return GateOutcome(gate="present", table=found.name, ok=False, detail=said)
    return TablePair(ground, table_path, ground.start.table(table_path.source), live, found)


def _of_values(
    table_path: TablePath, found: Table, wanted: TableSchema, pair: TablePair | None
) -> Iterator[GateOutcome]:
    """The outcomes of the gates that look at rows and their values."""
    if pair is None:
        yield from _derived(table_path, found, wanted)
        return
    yield from rows_gate(pair)
    yield from columns_gate(pair)
    yield from recomputed_gate(pair)


def _derived(table_path: TablePath, found: Table, wanted: TableSchema) -> Iterator[GateOutcome]:
    """The columns of a table whose rows come from a source: no live table has them."""
    made = [step.operation for step in table_path.steps if step.operation.row_effect.from_source]
    if not made:
        return
    why = f"{made[-1].describe()}: no rows to compare with"
    yield GateOutcome(
        gate="rows", table=found.name, ok=True, way="not compared", rows=found.count(), detail=why
    )
    for name in wanted.columns.names:
        yield GateOutcome(
            gate="columns", table=found.name, column=name, ok=True, way="not compared", declared=True,
            detail=f"{made[-1].describe()}: its rows come from there, not from a live table",
        )  # fmt: skip


def _strangers(ground: VerificationInput) -> Iterator[GateOutcome]:
    if ground.after:
        return
    known = {table_path.target for table_path in ground.paths}
    for name in ground.tables.names(ground.staged):
        if name not in known:
            yield GateOutcome(gate="unknown table", table=name, ok=False, detail="no step created it")
