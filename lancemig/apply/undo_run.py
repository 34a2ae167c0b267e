"""Undoing a run: its unpublished changes in place are reversed, later changes of other writers are kept."""

from collections.abc import Sequence
from dataclasses import replace

from lancemig.apply.publish import PointerUpdate
from lancemig.apply.run import (
    PlannedStep,
    RunContext,
    any_landed,
    published_count,
    step_commits,
    table_changes,
)
from lancemig.apply.stages import Phase
from lancemig.catalog.lineage import Action, StepDone
from lancemig.catalog.operations import DropTable, Operation, UndoRows
from lancemig.catalog.sources import count_text
from lancemig.catalog.stamps import is_withdrawal, undo_step
from lancemig.errors import RunUnfinished
from lancemig.plan.plan import CommitRef, Step
from lancemig.store.lance import Commit


def undo_run(context: RunContext, why: str, *, overwrite: bool = False) -> list[str]:
    """Undo the committed steps of the migration that is not published, newest first.

    Once begun, an undo is all that can be done with the run, whatever kills it. Published migrations of the
    run stay applied, and a staged root is kept for inspection. The lineage gets an entry if anything had
    been committed.

    Args:
        context: The run.
        why: The reason, for the sidecar and the lineage.
        overwrite: Whether to restore cells that others have changed since.

    Returns:
        One message for each change that was undone, or kept.

    Raises:
        RunUnfinished: The pointer was flipped already; then only a rollback leads back.
    """
    if context.flipped:
        raise RunUnfinished(
            f"run {context.run.run} has already flipped to {context.run.staged_prefix}",
            next_step="lancemig recover, then lancemig rollback",
        )
    if context.run.phase is not Phase.UNDO:
        context.record.save(phase=Phase.UNDO, undoing=why, overwrite=overwrite)
    messages, done = [], []
    unpublished = context.plan.in_place[published_count(context) :]
    landed = [migration for migration in unpublished if any_landed(context, migration)]
    for _, steps in context.steps_by_migration(landed):
        undone, undone_steps = _undo(context, steps)
        messages += undone
        done += undone_steps
    if done and not _in_lineage(context):
        _publish(context, done, why)
    if context.run.staged_prefix is not None:
        messages.append(f"the staged root {context.run.staged_prefix} is kept for inspection")
    return messages


def _in_lineage(context: RunContext) -> bool:
    """Whether an earlier attempt at this undo published its lineage entry before it died."""
    pointer = context.seen.pointer
    if pointer is None or pointer.lineage is None:
        return False
    entry = context.store.pointers.entry(pointer.lineage)
    return entry.action is Action.RECOVER and entry.run == context.run.run


def _publish(context: RunContext, done: list[StepDone], why: str) -> None:
    """Publish a lineage entry for the undo; root and revision stay."""
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


def _undo(context: RunContext, steps: Sequence[PlannedStep]) -> tuple[list[str], list[StepDone]]:
    messages, undone = [], []
    for planned in reversed(steps):
        step, commits = planned.step, step_commits(context, planned.step)
        cleaned_up = [c.version for c in commits if c.version in context.run.gone.values()]
        for inverse in _inverse(planned, context.run.overwrite) if commits else ():
            if isinstance(inverse, DropTable):
                messages.append(_remove_table(context, step.table))
            elif isinstance(inverse, UndoRows) and cleaned_up:
                messages.append(_not_undone(step, cleaned_up[0], context.run.bases.get(step.table)))
            else:
                undone.append(_perform(context, planned, inverse, commits))
                messages.append(_undone(step, undone[-1]))
    return messages, undone


def _inverse(planned: PlannedStep, overwrite: bool) -> list[Operation]:
    return [
        inverse.model_copy(update={"step": planned.step.id, "overwrite": overwrite})
        if isinstance(inverse, UndoRows)
        else inverse
        for inverse in planned.operation.inverse(planned.before)
    ]


def _perform(
    context: RunContext, planned: PlannedStep, inverse: Operation, commits: list[Commit]
) -> StepDone:
    """Execute one inverse of a step, under a step id of its own."""
    undoes = tuple(
        CommitRef(prefix=context.root, table=planned.step.table, version=c.version)
        for c in commits
        # A withdrawal already reversed its own commit: were it undone, the duplicates would be back for good.
        if isinstance(inverse, UndoRows) and not (c.stamp and is_withdrawal(c.stamp.step))
    )
    reverse = PlannedStep(planned.step, inverse, before=planned.after, after=planned.before)
    fields = {"id": undo_step(planned.step.id), "undoes": undoes, "describe": inverse.describe()}
    return context.perform(
        replace(reverse, step=planned.step.model_copy(update=fields)), context.live_table(reverse)
    )


def _not_undone(step: Step, version: int, base: int | None) -> str:
    return (
        f"{step.table}: {step.describe}: NOT undone, because its version {version} was removed by "
        f"cleanup; compare the table with version {base}, where the run started"
    )


def _undone(step: Step, done: StepDone) -> str:
    skipped = f", {done.skipped:,} skipped: changed by another writer since" if done.skipped else ""
    return f"{step.table}: {step.describe}: undone ({count_text(done.changed, 'row')}{skipped})"


def _remove_table(context: RunContext, table: str) -> str:
    """Remove a table that the run created, unless another writer has committed to it since."""
    tables = context.store.tables
    log = tables.search(tables.open(context.root, table), 0)
    others = any(commit.stamp is None or commit.stamp.run != context.run.run for commit in log.commits)
    if others or log.missing:
        return f"table {table} is kept: another writer has written to it since"
    context.lease.renew()
    folder = tables.folder(context.root, table)
    keys = [item.key for item in context.store.objects.list(folder)]
    # The manifests first: a death in between must not leave a table that opens and cannot be read.
    manifests = [key for key in keys if key.startswith(f"{folder}_versions/")]
    context.store.objects.delete(manifests)
    context.store.objects.delete([key for key in keys if key not in manifests])
    return f"table {table} was removed"
