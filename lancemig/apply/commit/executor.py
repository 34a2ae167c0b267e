"""Carrying out one step on one table: each of its parts, in order, and what came of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce

import pyarrow as pa

from lancemig.apply.commit.contended import add, fill_late_rows, undo, upsert
from lancemig.apply.commit.target import Hands, Landing, Site, Watching, commits
from lancemig.apply.effects.rewrite import (
    Content,
    Cut,
    Portion,
    Portions,
    Writing,
    changed_layout,
    content,
    written_in_portions,
)
from lancemig.apply.effects.stage import parts
from lancemig.apply.environment import Progress, Watch
from lancemig.apply.rows.context import Scope, Tally
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
from lancemig.errors import PlanError, StoreError
from lancemig.plan.plan import Step
from lancemig.store.lance import Commit, Stamp, Tables, volatile
from lancemig.store.lance.staging import no_index


def matched(
    tables: Tables, operation: Operation, site: Site, landing: Landing
) -> tuple[int | None, int | None]:
    """How many rows matched before the operation, and do after it; None where it has no `where`."""
    where = getattr(operation, "where", None)
    if where is None:
        return None, None
    tally = sum((Tally(one.changed, one.skipped) for one in landing), Tally())
    before, landed = tally.changed + tally.skipped, commits(landing)
    if len(landed) == 1 and landed[0].version == landed[0].read_version + 1 and not volatile(where):
        # Nobody came in between, so that the rows that were looked at are all there were.
        after = _following(operation, before)
        if after is not None:
            return before, after
    table = tables.find(site.root, site.name, landed[-1].version if landed else None)
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
class Worker(Hands):
    """Carries out steps for one run."""

    def perform(self, step: Step, operation: Operation, site: Site) -> StepDone:
        """Do what `step` says, unless the table's log says that it has been done."""
        self.on_progress(Progress("step", step.table, step.id, step.describe, of=step.rows))
        if isinstance(operation, RenameTable | DropTable):
            return StepDone(step=step.id, table=site.name)
        watch, unfilled = Watching(self.on_progress, step), 0
        done: list[Commit | Tally] = []
        with named(step):
            for number, part in enumerate(parts(operation, (site.before, site.after))):
                done += self._part(step, part, site, number, watch)
            if isinstance(operation, AddColumn) and operation.computed:
                late, unfilled = fill_late_rows(self, step, operation, site, done, watch)
                done += late
        before, after = matched(self.tables, operation, site, done)
        return StepDone(
            step=step.id,
            table=site.name,
            versions=tuple(commit.version for commit in commits(done)),
            changed=sum(one.changed for one in done),
            skipped=sum(one.skipped for one in done),
            indeterminate=sum(one.indeterminate for one in done),
            matched_before=before,
            matched_after=after,
            unfilled=unfilled,
        )

    def _part(self, step: Step, part: Operation, site: Site, number: int, watch: Watch) -> Landing:
        stamp = Stamp(self.run, step.revision, f"{step.id}.{number}")
        if isinstance(part, Writing):
            written = self.found(site, stamp) or self._write(part, site, stamp, watch)
            self.guard_landed(part, site, written)
            return [written]
        if isinstance(part, UndoRows):
            return undo(self, step, part, site, stamp)
        if isinstance(part, UpsertRows):
            return upsert(self, step, part, site, stamp, watch)
        if isinstance(part, AddColumn) and part.computed:
            return add(self, step, part, site, stamp, watch)
        scope = Scope(watch=watch)
        commit = self.commit(step, part, site, stamp, scope)
        if commit is not None and isinstance(part, CreateIndex):
            self._check_index(part, site, stamp)
        return [scope.tally if commit is None else commit]

    def _write(self, part: Writing, site: Site, stamp: Stamp, watch: Watch) -> Commit:
        if site.after is None:
            raise PlanError(f"step {stamp.step} does not write a table")
        there = self.tables.find(site.root, site.name)
        if there is not None and not site.private:
            raise PlanError(
                f"table {site.name!r} was created after the plan was made",
                next_step="lancemig upgrade --plan",
            )
        rows = content(part, there or site.source, site.after)
        if there is None:
            rows = replace(rows, layout=reduce(changed_layout, site.layouts, rows.layout))
        read_version = there.version if there else 0
        place = (site.root, site.name, site.after)
        if rows.source is None:
            batches = _watched(rows.batches(), watch)
            staged = self.tables.written(*place, batches, rows.layout, read_version)
        else:
            portions = self._portions(rows, (*place, read_version), stamp, watch)
            fragments = [fragment for portion in portions for fragment in portion.fragments]
            staged = self.tables.assembled(*place, fragments, rows.layout, read_version)
            staged = staged.counted(sum(portion.rows for portion in portions))
        self.lease.hold()
        if there is None:
            if self.attempts is not None:
                self.attempts.announce_creation(site.root, site.name, stamp)
            version = self.tables.create(site.root, site.name, staged, rows.layout, stamp)
        else:
            version = self.tables.commit(there, staged, stamp)
        return Commit(version, part.op, stamp, read_version, changed=staged.changed)

    def _portions(
        self, rows: Content, place: tuple[str, str, TableSchema, int], stamp: Stamp, watch: Watch
    ) -> list[Portion]:
        """Write the table in portions, but for those that this run has written before."""
        root, name, schema, read_version = place
        folder = f"{self.shelf}written/{stamp.step.replace('/', '.')}/"
        portions = Portions(self.tables.objects, folder, rows.source or "", self.lease.hold).found()
        kept = [fragment for portion in portions.kept for fragment in portion.fragments]
        if kept and not self.tables.there(root, name, kept):
            portions.kept.clear()
        watch(portions.upto, 0)

        def write(batches: Iterator[pa.RecordBatch]) -> tuple[list[str], int]:
            watched = _watched(batches, watch)
            return self.tables.written_part(root, name, schema, watched, rows.layout, read_version)

        return written_in_portions(
            portions, Cut(rows.pieces(portions.upto), self.caller.now, portions.upto), write
        )

    def _check_index(self, part: CreateIndex, site: Site, stamp: Stamp) -> None:
        """Drop the index again where its column went meanwhile: it would make every query fail."""
        table = self.tables.open(site.root, site.name)
        if has_column(table.columns, part.column):
            return
        staged = no_index(table, [part.index.name])
        if staged is not None:
            self.tables.commit(table, staged, stamp)
        raise StoreError(
            f"{site.name}.{part.column} was dropped by another writer while its index was built",
            next_step="lancemig upgrade --plan",
        )


def _watched(batches: Iterator[pa.RecordBatch], watch: Watch) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        watch(batch.num_rows, batch.nbytes)
        yield batch


@contextmanager
def named(step: Step) -> Iterator[None]:
    """Say which step it was that turned out to be impossible."""
    try:
        yield
    except PlanError as error:
        raise type(error)(
            f"step {step.id} ({step.describe} on {step.table}): {error.message}",
            next_step=error.next_step or "fix the migration, then run the same command again",
        ) from error
