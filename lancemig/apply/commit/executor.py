"""Carrying out one step on one table: each of its parts, in order, and what came of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce

import pyarrow as pa

from lancemig.apply.commit.contended import add_column, fill_late_rows, undo, upsert
from lancemig.apply.commit.target import (
    ProgressCounter,
    StepCommits,
    StepCommitter,
    TargetTable,
    commits_only,
)
from lancemig.apply.effects.rewrite import (
    ChunkWindow,
    RewriteSource,
    TableWrite,
    WriteCheckpoint,
    WriteCheckpoints,
    changed_layout,
    rewrite_source,
    write_in_chunks,
)
from lancemig.apply.effects.stage import parts
from lancemig.apply.environment import Progress, Watch
from lancemig.apply.rows.context import RowCounts, StagingContext
from lancemig.catalog.lineage import StepDone
from lancemig.catalog.operations import (
    AddColumn,
    BackfillColumns,
    CreateIndex,
    DeleteRows,
    DropTable,
    Operation,
    RenameTable,
    UndoRows,
    UpdateRows,
    UpsertRows,
)
from lancemig.catalog.schema import TableSchema, has_column
from lancemig.catalog.stamps import part_stamp
from lancemig.errors import PlanError, StoreError
from lancemig.plan.plan import Step
from lancemig.store.lance import Commit, Stamp, Tables, volatile
from lancemig.store.lance.staging import no_index


def count_matches(
    tables: Tables, operation: Operation, target: TargetTable, landing: StepCommits
) -> tuple[int | None, int | None]:
    """How many rows matched before the operation, and do after it; None where it has no `where`."""
    where = getattr(operation, "where", None)
    if where is None:
        return None, None
    counts = sum((RowCounts(one.changed, one.skipped) for one in landing), RowCounts())
    before, landed = counts.changed + counts.skipped, commits_only(landing)
    if len(landed) == 1 and landed[0].version == landed[0].read_version + 1 and not volatile(where):
        # Nobody came in between, so that the rows that were looked at are all there were.
        after = _following(operation, before)
        if after is not None:
            return before, after
    table = tables.find(target.root, target.name, landed[-1].version if landed else None)
    return before, None if table is None else table.count(where)


def _following(operation: Operation, before: int) -> int | None:
    """How many rows match after `before` of them were looked at; None where that takes counting."""
    if isinstance(operation, DeleteRows):
        return 0
    if not isinstance(operation, UpdateRows | BackfillColumns):
        return None
    heads = {path.partition(".")[0] for path in operation.targets} | {operation.flag or "_row", "_row"}
    said = (operation.where or "").lower()
    # A name that has to be spelt in another way inside quotes would not be recognized.
    plain = all(head.isidentifier() for head in heads)
    return before if plain and not any(head.lower() in said for head in heads) else None


@dataclass(frozen=True)
class StepExecutor(StepCommitter):
    """Carries out steps for one run."""

    def perform(self, step: Step, operation: Operation, target: TargetTable) -> StepDone:
        """Do what `step` says, unless the table's log says that it has been done."""
        self.on_progress(Progress("step", step.table, step.id, step.describe, of=step.rows))
        if isinstance(operation, RenameTable | DropTable):
            return StepDone(step=step.id, table=target.name)
        watch, unfilled = ProgressCounter(self.on_progress, step), 0
        done: list[Commit | RowCounts] = []
        with naming_step(step):
            for number, part in enumerate(parts(operation, (target.before, target.after))):
                done += self._part(step, part, target, number, watch)
            if isinstance(operation, AddColumn) and operation.computed:
                late, unfilled = fill_late_rows(self, step, operation, target, done, watch)
                done += late
        before, after = count_matches(self.tables, operation, target, done)
        return StepDone(
            step=step.id,
            table=target.name,
            versions=tuple(commit.version for commit in commits_only(done)),
            changed=sum(one.changed for one in done),
            skipped=sum(one.skipped for one in done),
            indeterminate=sum(one.indeterminate for one in done),
            matched_before=before,
            matched_after=after,
            unfilled=unfilled,
        )

    def _part(
        self, step: Step, part: Operation, target: TargetTable, number: int, watch: Watch
    ) -> StepCommits:
        stamp = Stamp(self.run, step.revision, part_stamp(step.id, number))
        if isinstance(part, TableWrite):
            written = self.find_landed_part(target, stamp) or self._write(part, target, stamp, watch)
            self.guard_part(part, target, written)
            return [written]
        if isinstance(part, UndoRows):
            return undo(self, step, part, target, stamp)
        if isinstance(part, UpsertRows):
            return upsert(self, step, part, target, stamp, watch)
        if isinstance(part, AddColumn) and part.computed:
            return add_column(self, step, part, target, stamp, watch)
        context = StagingContext(watch=watch)
        commit = self.commit(step, part, target, stamp, context)
        if commit is not None and isinstance(part, CreateIndex):
            self._check_index(part, target, stamp)
        return [context.counts if commit is None else commit]

    def _write(self, part: TableWrite, target: TargetTable, stamp: Stamp, watch: Watch) -> Commit:
        if target.after is None:
            raise PlanError(f"step {stamp.step} does not write a table")
        there = self.tables.find(target.root, target.name)
        if there is not None and not target.private:
            raise PlanError(
                f"table {target.name!r} was created after the plan was made",
                next_step="lancemig upgrade --plan",
            )
        rows = rewrite_source(part, there or target.source, target.after)
        if there is None:
            rows = replace(rows, layout=reduce(changed_layout, target.layouts, rows.layout))
        read_version = there.version if there else 0
        place = (target.root, target.name, target.after)
        if rows.source is None:
            batches = _watched(rows.batches(), watch)
            staged = self.tables.written(*place, batches, rows.layout, read_version)
        else:
            checkpoints = self._portions(rows, (*place, read_version), stamp, watch)
            fragments = [fragment for checkpoint in checkpoints for fragment in checkpoint.fragments]
            staged = self.tables.assembled(*place, fragments, rows.layout, read_version)
            staged = staged.counted(sum(checkpoint.rows for checkpoint in checkpoints))
        self.lease.renew()
        if there is None:
            if self.intents is not None:
                self.intents.record_creation(target.root, target.name, stamp)
            version = self.tables.create(target.root, target.name, staged, rows.layout, stamp)
        else:
            version = self.tables.commit(there, staged, stamp)
        return Commit(version, part.op, stamp, read_version, changed=staged.changed)

    def _portions(
        self, rows: RewriteSource, place: tuple[str, str, TableSchema, int], stamp: Stamp, watch: Watch
    ) -> list[WriteCheckpoint]:
        """Write the table in portions, but for those that this run has written before."""
        root, name, schema, read_version = place
        folder = f"{self.results_folder}written/{stamp.step.replace('/', '.')}/"
        checkpoints = WriteCheckpoints(
            self.tables.objects, folder, rows.source or "", self.lease.renew
        ).load()
        kept = [fragment for checkpoint in checkpoints.kept for fragment in checkpoint.fragments]
        if kept and not self.tables.there(root, name, kept):
            checkpoints.kept.clear()
        watch(checkpoints.upto, 0)

        def write(batches: Iterator[pa.RecordBatch]) -> tuple[list[str], int]:
            watched = _watched(batches, watch)
            return self.tables.written_part(root, name, schema, watched, rows.layout, read_version)

        return write_in_chunks(
            checkpoints,
            ChunkWindow(rows.chunks(checkpoints.upto), self.environment.now, checkpoints.upto),
            write,
        )

    def _check_index(self, part: CreateIndex, target: TargetTable, stamp: Stamp) -> None:
        """Drop the index again where its column went meanwhile: it would make every query fail."""
        table = self.tables.open(target.root, target.name)
        if has_column(table.columns, part.column):
            return
        staged = no_index(table, [part.index.name])
        if staged is not None:
            self.tables.commit(table, staged, stamp)
        raise StoreError(
            f"{target.name}.{part.column} was dropped by another writer while its index was built",
            next_step="lancemig upgrade --plan",
        )


def _watched(batches: Iterator[pa.RecordBatch], watch: Watch) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        watch(batch.num_rows, batch.nbytes)
        yield batch


@contextmanager
def naming_step(step: Step) -> Iterator[None]:
    """Say which step it was that turned out to be impossible."""
    try:
        yield
    except PlanError as error:
        raise type(error)(
            f"step {step.id} ({step.describe} on {step.table}): {error.message}",
            next_step=error.next_step or "fix the migration, then run the same command again",
        ) from error
