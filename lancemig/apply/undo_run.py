"""Giving up a run: what it did in place and did not publish is put back, rows that came since are kept."""

from lancemig.apply.publish import PointerUpdate
from lancemig.apply.rebuild import staged
from lancemig.apply.run import RunContext, any_landed, published_count, step_commits, table_changes
from lancemig.apply.sidecar import Phase
from lancemig.catalog.lineage import Action, StepDone
from lancemig.catalog.operations import DropTable, Operation, UndoRows
from lancemig.catalog.schema import CatalogSchema
from lancemig.catalog.sources import count_text
from lancemig.catalog.stamps import is_withdrawal, undo_step
from lancemig.errors import RunUnfinished
from lancemig.plan.plan import CommitRef, PlannedMigration, Step
from lancemig.store.lance import Commit


def undo_run(context: RunContext, why: str, *, overwrite: bool = False) -> list[str]:
    """Undo the landed steps of the migration that was not published, newest first; what was done, as text.

    Once begun, it is all that can be done with the run, whatever kills it. A cell that others have changed
    since stays, unless `overwrite`. Migrations of the run that were published stay applied, a staged root is
    kept for inspection. The lineage gets an entry if anything had landed. Raises RunUnfinished when the flip
    has landed: then the way back is a rollback.
    """
    if staged(context):
        raise RunUnfinished(
            f"run {context.run.run} has already flipped the pointer",
            next_step="lancemig recover, then lancemig rollback",
        )
    if context.run.phase is not Phase.UNDO:
        context.save(phase=Phase.UNDO, undoing=why, overwrite=overwrite)
    said, done = [], []
    known = published_count(context)
    for number, migration in enumerate(context.plan.in_place):
        if number >= known and any_landed(context, migration):
            undone, steps = _undo(context, migration, _schema_before(context, number))
            said += undone
            done += steps
    if done and not _recorded(context):
        _record(context, done, why)
    if context.run.staged_prefix is not None:
        said.append(f"the staged root {context.run.staged_prefix} is kept for inspection")
    return said


def _recorded(context: RunContext) -> bool:
    """Whether an undo that died had been written down already."""
    pointer = context.seen.pointer
    if pointer is None or pointer.lineage is None:
        return False
    entry = context.store.pointers.entry(pointer.lineage)
    return entry.action is Action.RECOVER and entry.run == context.run.run


def _record(context: RunContext, done: list[StepDone], why: str) -> None:
    """Root and revision stay; that something was done and put back is told."""
    context.publish(
        PointerUpdate(
            action=Action.RECOVER,
            origin=context.active,
            target=context.active,
            run=context.run.run,
            started=context.run.started,
            plan_digest=context.run.plan_digest,
            tables=table_changes(context.run.before, context.facts(context.root)),
            steps=done,
            note=why,
        )
    )


def _schema_before(context: RunContext, number: int) -> CatalogSchema:
    schema = context.plan.start
    for migration in context.plan.in_place[:number]:
        for operation in context.operations(migration):
            schema = operation.after(schema)
    return schema


def _undo(
    context: RunContext, migration: PlannedMigration, schema: CatalogSchema
) -> tuple[list[str], list[StepDone]]:
    said, done, undone = [], [], []
    for step, operation in zip(migration.steps, context.operations(migration), strict=True):
        after = operation.after(schema)
        done.append((step, operation, schema, after))
        schema = after
    for step, operation, before, after in reversed(done):
        commits = step_commits(context, step)
        gone = [commit.version for commit in commits if commit.version in context.run.gone.values()]
        for inverse in _inverse(operation, before, step, context.run.overwrite) if commits else ():
            if isinstance(inverse, DropTable):
                said.append(_removed(context, step.table))
            elif isinstance(inverse, UndoRows) and gone:
                said.append(_not_put_back(step, gone[0], context.run.bases.get(step.table)))
            else:
                undone.append(_put_back(context, step, inverse, (before, after), commits))
                said.append(_told(step, undone[-1]))
    return said, undone


def _inverse(operation: Operation, before: CatalogSchema, step: Step, overwrite: bool) -> list[Operation]:
    return [
        one.model_copy(update={"step": step.id, "overwrite": overwrite}) if isinstance(one, UndoRows) else one
        for one in operation.inverse(before)
    ]


def _put_back(
    context: RunContext,
    step: Step,
    inverse: Operation,
    schemas: tuple[CatalogSchema, CatalogSchema],
    commits: list[Commit],
) -> StepDone:
    before, after = schemas
    undoes = tuple(
        CommitRef(prefix=context.root, table=step.table, version=c.version)
        for c in commits
        # What was withdrawn has been put back already: put back itself, it would be there for good.
        if isinstance(inverse, UndoRows) and not (c.stamp and is_withdrawal(c.stamp.step))
    )
    own = step.model_copy(update={"id": undo_step(step.id), "undoes": undoes, "describe": inverse.describe()})
    return context.perform(own, inverse, context.live_table(step, after, before))


def _not_put_back(step: Step, version: int, base: int | None) -> str:
    return (
        f"{step.table}: {step.describe}: NOT undone, because its version {version} was removed by "
        f"cleanup; compare the table with version {base}, where the run started"
    )


def _told(step: Step, done: StepDone) -> str:
    kept = f", {done.skipped:,} skipped: changed by another writer since" if done.skipped else ""
    return f"{step.table}: {step.describe}: undone ({count_text(done.changed, 'row')}{kept})"


def _removed(context: RunContext, table: str) -> str:
    """Remove a table that the run made, unless somebody else has written to it since."""
    tables = context.store.tables
    log = tables.search(tables.open(context.root, table), 0)
    others = any(commit.stamp is None or commit.stamp.run != context.run.run for commit in log.commits)
    if others or log.missing:
        return f"table {table} is kept: another writer has written to it since"
    context.lease.renew()
    folder = tables.folder(context.root, table)
    keys = [item.key for item in context.store.objects.list(folder)]
    # The manifests first, so that no death on the way leaves a table that opens and cannot be read.
    manifests = [key for key in keys if key.startswith(f"{folder}_versions/")]
    context.store.objects.delete(manifests)
    context.store.objects.delete([key for key in keys if key not in manifests])
    return f"table {table} was removed"
