"""Carrying out one step on one table: look whether it has landed, stage, commit, and guard."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from lancemig.apply.answers import Answers, Shelf
from lancemig.apply.brakes import Tally
from lancemig.apply.caller import OnProgress, Progress, Watch, silent
from lancemig.apply.commits import Committer
from lancemig.apply.effects import stage
from lancemig.apply.left import OnLeft, lines, unheard
from lancemig.apply.parts import filling, parts
from lancemig.apply.scope import Scope
from lancemig.apply.undo import PUTTING_BACK, Reversal
from lancemig.apply.written import Writing, content
from lancemig.catalog.lineage import StepDone
from lancemig.catalog.operations import (
    AddColumn,
    BackfillColumns,
    CreateIndex,
    DropTable,
    Operation,
    RenameTable,
    UndoRows,
    ValueChange,
)
from lancemig.catalog.schema import TableSchema, has_column
from lancemig.errors import BrakeTripped, PlanError, StoreError
from lancemig.plan.plan import Step
from lancemig.store.tables import Commit, Staged, Stamp, Table, quoted
from lancemig.store.tables.staging import no_index, written_table

LATE_ROUNDS = 5


@dataclass(frozen=True)
class Site:
    """Where a step takes effect: the table `name` under `root`.

    `base` is the version its log is searched from. Only a `private` root may have a table overwritten.
    `source` is the live table a staged one is written from, while that does not exist yet.
    """

    root: str
    name: str
    base: int
    private: bool
    before: TableSchema | None
    after: TableSchema | None
    source: Table | None = None


@dataclass(frozen=True)
class Worker(Committer):
    """Carries out steps for one run.

    `on_left` is told of rows for which a step has no answer; `shelf` is the folder where answers are kept
    while the run is under way. While `guarding`, the versions around a value change are kept for its undo.
    """

    shelf: str
    on_progress: OnProgress = silent
    on_left: OnLeft = unheard
    guarding: bool = True

    def perform(self, step: Step, operation: Operation, site: Site) -> StepDone:
        """Do what `step` says, unless the table's log says that it has been done."""
        self.on_progress(Progress("step", step.table, step.id, step.describe, of=step.rows))
        if isinstance(operation, RenameTable | DropTable):
            return StepDone(step=step.id, table=site.name)
        done: list[Commit | Tally] = []
        with named(step):
            for number, part in enumerate(parts(operation, (site.before, site.after))):
                done += self._part(step, part, site, number)
        unfilled = 0
        if isinstance(operation, AddColumn) and operation.computed and not self._gone_on(step, site):
            late, unfilled = self._late_rows(step, operation, site, _commits(done))
            done += late
        before, after = self._matched(operation, site, done)
        return StepDone(
            step=step.id,
            table=site.name,
            versions=tuple(commit.version for commit in _commits(done)),
            changed=sum(one.changed for one in done),
            skipped=sum(one.skipped for one in done),
            indeterminate=sum(one.indeterminate for one in done),
            matched_before=before,
            matched_after=after,
            unfilled=unfilled,
        )

    def _part(self, step: Step, part: Operation, site: Site, number: int) -> Sequence[Commit | Tally]:
        stamp = Stamp(self.run, step.revision, f"{step.id}.{number}")
        watch = _Watching(self.on_progress, step)
        if isinstance(part, Writing):
            landed = self.landed(site.root, site.name, site.base, stamp)
            return [landed or self._write(part, site, stamp, watch)]
        if isinstance(part, UndoRows):
            return self._undo(part, step, site, stamp)
        scope = Scope(watch=watch)
        commit = self._commit(step, part, site, stamp, scope)
        if commit is not None:
            self._guard(part, site, commit)
        if commit is not None and isinstance(part, CreateIndex):
            self._check_index(part, site, stamp)
        return [scope.tally if commit is None else commit]

    def _guard(self, part: Operation, site: Site, commit: Commit) -> None:
        """Keep what an undo compares, and, among other writers, the stamp that says that it has landed."""
        if isinstance(part, ValueChange) and self.guarding:
            self.guard_versions(site.root, site.name, (commit.version - 1, commit.version))
        elif not site.private and self.guarding:
            self.guard_versions(site.root, site.name, (commit.version,))

    def _write(self, part: Writing, site: Site, stamp: Stamp, watch: Watch) -> Commit:
        if site.after is None:
            raise PlanError(f"step {stamp.step} writes no table")
        there = self.tables.find(site.root, site.name)
        if there is not None and not site.private:
            raise PlanError(
                f"table {site.name!r} appeared since the plan was made", next_step="lancemig upgrade --plan"
            )
        rows = content(part, there or site.source, site.after)
        uri, options = self.tables.uri(site.root, site.name), self.tables.options()
        read_version = there.version if there else 0
        batches = _watched(rows.batches, watch)
        staged = written_table(uri, site.after, batches, rows.layout, options, read_version)
        self.lease.hold()
        if there is None:
            version = self.tables.create(site.root, site.name, staged, rows.layout, stamp)
        else:
            version = self.tables.commit(there, staged, stamp)
        return Commit(version, part.op, stamp, read_version, changed=staged.changed)

    def _commit(self, step: Step, part: Operation, site: Site, stamp: Stamp, scope: Scope) -> Commit | None:
        landed = self.landed(site.root, site.name, site.base, stamp)
        if landed is not None:
            return landed
        scope.answers = self.answers(stamp, part)

        def staging(table: Table) -> Staged | None:
            staged = self._braked(step, part, table, scope)
            if scope.left:
                self.on_left(step.id, lines(table, scope.left))
            return staged

        return self.committed(site.root, site.name, stamp, staging, scope.forget)

    def _braked(self, step: Step, part: Operation, table: Table, scope: Scope) -> Staged | None:
        try:
            return stage(part, table, scope)
        except BrakeTripped:
            if scope.left:
                self.on_left(step.id, lines(table, scope.left))
            raise

    def answers(self, stamp: Stamp, part: Operation) -> Answers:
        """What the function of this part has answered so far, in this run."""
        if not isinstance(part, BackfillColumns | AddColumn):
            return Answers(self.caller.now)
        folder = f"{self.shelf}{stamp.step.replace('/', '.')}/"
        return Answers(self.caller.now, Shelf(self.tables.objects, folder, self.lease.hold))

    def _undo(self, undo: UndoRows, step: Step, site: Site, stamp: Stamp) -> list[Commit | Tally]:
        """Put back each commit, the newest first, in three commits: cells, inserted rows, deleted rows."""
        done: list[Commit | Tally] = []
        for number, landed in reversed(list(enumerate(step.undoes))):
            before = self.tables.open(landed.prefix, landed.table, landed.version - 1)
            after = self.tables.open(landed.prefix, landed.table, landed.version)
            reversal = Reversal(before, after, self.tables.options(), overwrite=undo.overwrite)
            for what, putting_back in PUTTING_BACK.items():
                own = Stamp(stamp.run, stamp.revision, f"{stamp.step}.{number}.{what}")
                reversal.tally = Tally()
                done.append(
                    self.landed(site.root, site.name, site.base, own)
                    or self.committed(site.root, site.name, own, partial(putting_back, reversal))
                    or reversal.tally
                )
                self.on_left(f"{step.id}.{number}.{what}", reversal.left)
        return done

    def _gone_on(self, step: Step, site: Site) -> bool:
        """Whether a later step of this run has landed: rows it wrote without the column keep their null."""
        log = self.tables.log(site.root, site.name, site.base)
        ours = [commit.stamp.step for commit in log if commit.stamp and commit.stamp.run == self.run]
        return bool(ours) and not ours[-1].startswith(f"{step.id}.")

    def _late_rows(
        self, step: Step, operation: AddColumn, site: Site, landed: Sequence[Commit]
    ) -> tuple[list[Commit], int]:
        """Fill the rows that writers added without the column since it was filled; how many were not.

        A few rounds, for a function slower than the writers would never catch up; what comes later is null,
        as all is that they write without the column from now on.
        """
        empty = f"{quoted(operation.column.name)} is null"
        done: list[Commit] = []
        covered = self._covered(site, landed[-1]) if landed else frozenset()
        for number in range(LATE_ROUNDS + 1):
            table = self.tables.open(site.root, site.name)
            new = table.fragment_ids - covered
            if not new or not has_column(table.columns, operation.column.name):
                break
            if number == LATE_ROUNDS:
                return done, table.count(empty, [f for f in table.fragments if f.fragment_id in new])
            stamp = Stamp(self.run, step.revision, f"{step.id}.late.{number}.{table.version}")
            scope = Scope(fragments=new, where=empty, watch=_Watching(self.on_progress, step))
            commit = self._commit(step, filling(operation), site, stamp, scope)
            covered |= new
            if commit is not None:
                done.append(commit)
        return done, 0

    def _covered(self, site: Site, commit: Commit) -> frozenset[int]:
        return self.tables.open(site.root, site.name, commit.read_version).fragment_ids

    def _matched(
        self, operation: Operation, site: Site, done: Sequence[Commit | Tally]
    ) -> tuple[int | None, int | None]:
        """How many rows matched the operation's `where` before it, and do after it."""
        where = getattr(operation, "where", None)
        if where is None:
            return None, None
        commits = _commits(done)
        table = self.tables.find(site.root, site.name, commits[-1].version if commits else None)
        return sum(one.changed + one.skipped for one in done), None if table is None else table.count(where)

    def _check_index(self, part: CreateIndex, site: Site, stamp: Stamp) -> None:
        """Drop the index again where its column went meanwhile: it would make every query fail."""
        table = self.tables.open(site.root, site.name)
        if has_column(table.columns, part.column):
            return
        staged = no_index(table, [part.index.name])
        if staged is not None:
            self.tables.commit(table, staged, stamp)
        raise StoreError(
            f"{site.name}.{part.column} was dropped by somebody else while its index was built",
            next_step="lancemig upgrade --plan",
        )


@dataclass
class _Watching:
    """Adds up what goes by in one step, and tells it."""

    on_progress: OnProgress
    step: Step
    rows: int = 0
    bytes: int = 0

    def __call__(self, rows: int, size: int) -> None:
        self.rows += rows
        self.bytes += size
        step = self.step
        self.on_progress(
            Progress(
                "step", step.table, step.id, step.describe, rows=self.rows, of=step.rows, bytes=self.bytes
            )
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
            next_step=error.next_step or "mend the migration, then the same command again",
        ) from error


def _commits(done: Sequence[Commit | Tally]) -> list[Commit]:
    return [one for one in done if isinstance(one, Commit)]
