"""All gates, table by table: what two roots must have in common, given what leads from one to the other."""

from collections.abc import Iterator

from lancemig.apply.caller import Progress
from lancemig.apply.proof.columns import columns_gate, rows_gate
from lancemig.apply.proof.coverage import coverage_gate
from lancemig.apply.proof.indices import indices_gate
from lancemig.apply.proof.pairs import Pair
from lancemig.apply.proof.recall import recall_gate
from lancemig.apply.proof.recomputed import recomputed_gate
from lancemig.apply.proof.schema import expected, schema_gate
from lancemig.apply.proof.terms import Ground
from lancemig.apply.steps.flow import unfollowed
from lancemig.apply.steps.transform import Passage
from lancemig.catalog.operations import BuildTable, CreateTable
from lancemig.catalog.proof import Outcome
from lancemig.catalog.schema import TableSchema
from lancemig.store.tables import Table


def proven(ground: Ground) -> tuple[list[Outcome], dict[str, int]]:
    """Each gate's outcome for each table and column, and the versions of the staged tables it is about."""
    outcomes: list[Outcome] = []
    versions: dict[str, int] = {}
    for passage in ground.passages:
        if passage.target is None:
            continue
        found = _staged(ground, passage.target)
        if found is None:
            said = _gone(ground, passage.target)
            outcomes.append(Outcome(gate="present", table=passage.target, ok=False, detail=said))
            continue
        versions[passage.target] = found.version
        for outcome in _of_table(ground, passage, found):
            ground.on_progress(Progress("verify", found.name, text=_told(outcome)))
            outcomes.append(outcome)
    return [*outcomes, *_strangers(ground)], versions


def _staged(ground: Ground, name: str) -> Table | None:
    if ground.after and name not in ground.after:
        return None
    return ground.tables.find(ground.staged, name, ground.after.get(name))


def _gone(ground: Ground, name: str) -> str:
    version = ground.after.get(name)
    if version is None or ground.tables.find(ground.staged, name) is None:
        return "the table is missing"
    return f"its version {version} in {ground.staged} no longer exists"


def _told(outcome: Outcome) -> str:
    column = f" {outcome.column}" if outcome.column else ""
    return f"{'' if outcome.ok else 'FAILED '}{outcome.gate}{column}: {outcome.detail}"


def _of_table(ground: Ground, passage: Passage, found: Table) -> Iterator[Outcome]:
    wanted = expected(passage, ground.start)
    pair = _pair(ground, passage, found)
    if isinstance(pair, Outcome):
        yield pair
        return
    schema = schema_gate(wanted, found, (pair.start, pair.live.schema()) if pair else (None, None))
    yield schema
    if wanted is None:
        return
    if not schema.ok:
        # Columns that are not what they should be have no values to compare.
        return
    values: list[Outcome] = []
    for outcome in _of_values(passage, found, wanted, pair):
        values.append(outcome)
        yield outcome
    key = pair.key if pair is not None else ()
    yield from coverage_gate(found.name, found.columns.names, key, values, unfollowed(passage))
    yield from indices_gate(ground.tables, passage, wanted, found, pair)
    yield from recall_gate(pair, found)


def _pair(ground: Ground, passage: Passage, found: Table) -> Pair | Outcome | None:
    if passage.source is None or passage.derived:
        return None
    version = ground.versions[passage.source]
    live = ground.tables.find(ground.origin, passage.source, version)
    if live is None:
        said = f"version {version} of {passage.source} in {ground.origin or './'} no longer exists"
        return Outcome(gate="present", table=found.name, ok=False, detail=said)
    return Pair(ground, passage, ground.start.table(passage.source), live, found)


def _of_values(passage: Passage, found: Table, wanted: TableSchema, pair: Pair | None) -> Iterator[Outcome]:
    """The outcomes of the gates that look at rows and their values."""
    if pair is None:
        yield from _derived(passage, found, wanted)
        return
    yield from rows_gate(pair)
    yield from columns_gate(pair)
    yield from recomputed_gate(pair)


def _derived(passage: Passage, found: Table, wanted: TableSchema) -> Iterator[Outcome]:
    """The columns of a table whose rows come from a source: no live table has them."""
    made = [s.operation for s in passage.steps if isinstance(s.operation, BuildTable | CreateTable)]
    if not made:
        return
    why = f"{made[-1].describe()}: no rows to compare with"
    yield Outcome(gate="rows", table=found.name, ok=True, way="not compared", rows=found.count(), detail=why)
    for name in wanted.columns.names:
        yield Outcome(
            gate="columns", table=found.name, column=name, ok=True, way="not compared", declared=True,
            detail=f"{made[-1].describe()}: its rows come from there, not from a live table",
        )  # fmt: skip


def _strangers(ground: Ground) -> Iterator[Outcome]:
    if ground.after:
        return
    known = {passage.target for passage in ground.passages}
    for name in ground.tables.names(ground.staged):
        if name not in known:
            yield Outcome(gate="unknown table", table=name, ok=False, detail="no step created it")
