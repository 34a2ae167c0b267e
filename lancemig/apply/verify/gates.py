"""Runs all gates, table by table: the staged root is what the operations make of the live one."""

from collections.abc import Iterator
from time import perf_counter

from lancemig.apply.effects.replay import TablePath, derived_again
from lancemig.apply.environment import Progress
from lancemig.apply.rows.keys import key_faults
from lancemig.apply.verify.columns import columns_gate, rows_gate
from lancemig.apply.verify.coverage import coverage_gate
from lancemig.apply.verify.derived import derived_gate
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
    """The schema of a table after all operations of its path."""
    if table_path.steps:
        return table_path.steps[-1].after
    return start.tables.get(table_path.source or "")


def schema_gate(wanted: TableSchema | None, table: Table, sides: Sides = (None, None)) -> GateOutcome:
    """The table has the declared columns, types, key and metadata.

    Args:
        wanted: the schema after all operations.
        table: the staged table.
        sides: the live table's schema when the plan was made, and now. Metadata that another program changed
            in between, and no step changes, is not compared.
    """
    found = table.schema()
    if wanted is None:
        return GateOutcome(
            gate="schema", table=table.name, ok=False, detail="the plan has no schema for this table"
        )
    without = wanted.model_copy(update={"indices": ()})
    messages = [finding.message for finding in drift(without, found) if finding.structural]
    messages += _metadata(wanted, found, sides)
    detail = "; ".join(messages) or count_text(len(found.columns), "column")
    return GateOutcome(gate="schema", table=table.name, ok=not messages, detail=detail)


def _metadata(wanted: TableSchema, found: TableSchema, sides: Sides) -> Iterator[str]:
    """Declared metadata that is missing or differs; entries that Lance adds are not compared."""
    planned, now = (side.metadata if side else {} for side in sides)
    theirs = {name for name in wanted.metadata if planned.get(name) == wanted.metadata[name] != now.get(name)}
    declared = {name: text for name, text in wanted.metadata.items() if name not in theirs}
    if differing := _differing_entries(declared, found.metadata):
        yield f"the metadata {differing} differs from the declaration"
    names = frozenset(found.columns.names)
    for field in wanted.columns:
        if field.name in names:
            have = text_metadata(found.columns.field(field.name).metadata)
            if differing := _differing_entries(text_metadata(field.metadata), have):
                yield f"{field.name}: the metadata {differing} differs from the declaration"


def _differing_entries(wanted: dict[str, str], found: dict[str, str]) -> str:
    return ", ".join(sorted(name for name, text in wanted.items() if found.get(name) != text))


def run_gates(given: VerificationInput) -> tuple[list[GateOutcome], dict[str, int]]:
    """Run all gates.

    Returns:
        The outcomes of all tables and columns, and the versions of the staged tables that were compared.
    """
    outcomes: list[GateOutcome] = []
    versions: dict[str, int] = {}
    for table_path in given.paths:
        if table_path.target is None:
            continue
        found = _staged(given, table_path.target)
        if found is None:
            message = _absence_text(given, table_path.target)
            outcomes.append(GateOutcome(gate="present", table=table_path.target, ok=False, detail=message))
            continue
        versions[table_path.target] = found.version
        for outcome in _table_outcomes(given, table_path, found):
            given.on_progress(Progress("verify", found.name, text=_progress_text(outcome)))
            outcomes.append(outcome)
    return [*outcomes, *_unknown_tables(given)], versions


def _staged(given: VerificationInput, name: str) -> Table | None:
    if given.after and name not in given.after:
        return None
    return given.tables.find(given.staged, name, given.after.get(name))


def _absence_text(given: VerificationInput, name: str) -> str:
    version = given.after.get(name)
    if version is None or given.tables.find(given.staged, name) is None:
        return "the table is missing"
    return f"its version {version} in {given.staged} no longer exists"


def _progress_text(outcome: GateOutcome) -> str:
    column = f" {outcome.column}" if outcome.column else ""
    return f"{'' if outcome.ok else 'FAILED '}{outcome.gate}{column}: {outcome.detail}"


def _table_outcomes(given: VerificationInput, table_path: TablePath, found: Table) -> Iterator[GateOutcome]:
    wanted = expected(table_path, given.start)
    pair = _pair(given, table_path, found)
    if isinstance(pair, GateOutcome):
        yield pair
        return
    schema = schema_gate(wanted, found, (pair.start, pair.live.schema()) if pair else (None, None))
    yield schema
    if wanted is None:
        return
    if not schema.ok:
        # Values are compared only between columns of the declared type.
        return
    if wanted.key:
        yield unique_gate(found, wanted.key, pair.live if pair else None)
    values: list[GateOutcome] = []
    for outcome in _value_outcomes(given, table_path, found, wanted, pair):
        values.append(outcome)
        yield outcome
    key = pair.key if pair is not None else ()
    yield from coverage_gate(found.name, found.columns.names, key, values)
    yield from indices_gate(given.tables, wanted, found, pair)
    yield from recall_gate(pair, found)


def _pair(given: VerificationInput, table_path: TablePath, found: Table) -> TablePair | GateOutcome | None:
    if table_path.source is None or table_path.derived:
        return None
    version = given.versions[table_path.source]
    live = given.tables.find(given.origin, table_path.source, version)
    if live is None:
        message = f"version {version} of {table_path.source} in {format_root(given.origin)} no longer exists"
        return GateOutcome(gate="present", table=found.name, ok=False, detail=message)
    return TablePair(given, table_path, given.start.table(table_path.source), live, found)


def unique_gate(table: Table, key: tuple[str, ...], live: Table | None) -> GateOutcome:
    """No key is null, and none occurs twice, whatever wrote the rows.

    Args:
        table: The staged table.
        key: Its declared key.
        live: The live table that it continues.
    """
    start, faults = perf_counter(), key_faults(table, key)
    detail = faults.text or f"{count_text(table.count(), 'key')}, each once"
    if faults and live is not None and set(key) <= set(live.columns.names) and key_faults(live, key):
        detail += (
            f"; the live table {live.name} has them as well: remove them there in a data-only revision "
            "(DeduplicateRows), or declare another key with SetKey"
        )
    return GateOutcome(
        gate="unique",
        table=table.name,
        ok=not faults,
        rows=table.count(),
        detail=f"key {', '.join(key)}: {detail}",
        seconds=round(perf_counter() - start, 3),
    )


def _value_outcomes(
    given: VerificationInput,
    table_path: TablePath,
    found: Table,
    wanted: TableSchema,
    pair: TablePair | None,
) -> Iterator[GateOutcome]:
    """The outcomes of the gates that compare rows and values."""
    if pair is None:
        yield from _derived(given, table_path, found, wanted)
        return
    yield from rows_gate(pair)
    yield from columns_gate(pair)
    yield from recomputed_gate(pair)


def _derived(
    given: VerificationInput, table_path: TablePath, found: Table, wanted: TableSchema
) -> Iterator[GateOutcome]:
    """The outcomes of a table with rows from a source."""
    made = [step.operation for step in table_path.steps if step.operation.row_effect.from_source]
    if not made:
        return
    for name, target in derived_again(given.paths).items():
        live = given.tables.find(given.origin, name, given.versions.get(name))
        if target == found.name and live is not None:
            yield derived_gate(live, found, wanted.key, made[-1])
    why = f"{made[-1].describe()}: no rows to compare with"
    yield GateOutcome(
        gate="rows", table=found.name, ok=True, way="not compared", rows=found.count(), detail=why
    )
    for name in wanted.columns.names:
        yield GateOutcome(
            gate="columns", table=found.name, column=name, ok=True, way="not compared", declared=True,
            detail=f"{made[-1].describe()}: its rows come from there, not from a live table",
        )  # fmt: skip


def _unknown_tables(given: VerificationInput) -> Iterator[GateOutcome]:
    if given.after:
        return
    known = {table_path.target for table_path in given.paths}
    for name in given.tables.names(given.staged):
        if name not in known:
            yield GateOutcome(gate="unknown table", table=name, ok=False, detail="no step created it")
