"""Carrying out one step on one table: stage, look whether it has landed, commit, and guard."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from lancemig.apply.caller import Caller, OnProgress, Progress, Watch
from lancemig.apply.changes import Scope
from lancemig.apply.effects import stage
from lancemig.apply.lease import Lease
from lancemig.apply.parts import filling, parts
from lancemig.apply.undo import cells_put_back, deletions_restored, insertions_removed
from lancemig.apply.written import Writing, content
from lancemig.catalog.lineage import StepDone
from lancemig.catalog.operations import (
    AddColumn,
    CreateIndex,
    DropTable,
    Operation,
    RenameTable,
    UndoRows,
    ValueChange,
)
from lancemig.catalog.schema import TableSchema, has_column
from lancemig.errors import PlanError, Refused, StoreError
from lancemig.plan.plan import Landed, Step
from lancemig.store.tables import Commit, Conflict, Missing, Staged, Stamp, Table, Tables, quoted
from lancemig.store.tables.staging import no_index, written_table

Staging = Callable[[Table], Staged | None]

ATTEMPTS = 30
LATE_ROUNDS = 5
_LONGEST_PAUSE = 2.0


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
class Worker:
    """Carries out steps for one run; every effect first makes sure that the lease is still held."""

    tables: Tables
    run: str
    lease: Lease
    caller: Caller
    on_progress: OnProgress

    def perform(self, step: Step, operation: Operation, site: Site) -> StepDone:
        """Do what `step` says, unless the table's log says that it has been done."""
        self.on_progress(Progress("step", step.table, step.id, step.describe, of=step.rows))
        if isinstance(operation, RenameTable | DropTable):
            return StepDone(step=step.id, table=site.name)
        with _named(step):
            done = [
                self._part(step, part, site, number)
                for number, part in enumerate(parts(operation, (site.before, site.after)))
            ]
        landed = [commit for commit in done if commit is not None]
        if isinstance(operation, AddColumn) and operation.computed and not self._gone_on(step, site):
            landed += self._late_rows(step, operation, site, landed)
        return StepDone(
            step=step.id,
            table=site.name,
            versions=tuple(commit.version for commit in landed),
            changed=sum(commit.changed for commit in landed),
            skipped=sum(commit.skipped for commit in landed),
            indeterminate=sum(commit.indeterminate for commit in landed),
        )

    def _part(self, step: Step, part: Operation, site: Site, number: int) -> Commit | None:
        stamp = Stamp(self.run, step.revision, f"{step.id}.{number}")
        watch = _Watching(self.on_progress, step)
        if isinstance(part, Writing):
            return self.landed(site, stamp) or self._write(part, site, stamp, watch)
        if isinstance(part, UndoRows):
            return self._undo(step.undoes, site, stamp)
        landed = self.landed(site, stamp) or self._commit(part, site, stamp, Scope(watch=watch))
        if landed is not None and isinstance(part, ValueChange):
            self._guard(site, (landed.version - 1, landed.version))
        if landed is not None and isinstance(part, CreateIndex):
            self._check_index(part, site, stamp)
        return landed

    def landed(self, site: Site, stamp: Stamp) -> Commit | None:
        """The commit with this stamp, if the table's log since its base has one."""
        table = self.tables.find(site.root, site.name)
        return None if table is None else self._stamped(table, site.base, stamp)

    def _stamped(self, table: Table, since: int, stamp: Stamp) -> Commit | None:
        log = self.tables.commits(table, since)
        return next((commit for commit in log if commit.stamp == stamp), None)

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

    def _commit(self, part: Operation, site: Site, stamp: Stamp, scope: Scope) -> Commit | None:
        return self.committed(site.root, site.name, stamp, lambda table: stage(part, table, scope.afresh()))

    def committed(self, root: str, name: str, stamp: Stamp, staging: Staging) -> Commit | None:
        """Stage from the newest version and commit; again after each conflict, so nothing stale lands.

        None when there is nothing to do. Refused when other writers came in between too often.
        """
        last: Conflict | None = None
        for attempt in range(ATTEMPTS):
            table = self.tables.open(root, name)
            staged = staging(table)
            if staged is None:
                return None
            self.lease.hold()
            try:
                version = self.tables.commit(table, staged, stamp)
            except Conflict as conflict:
                # A commit whose answer was lost and that is tried again conflicts with itself.
                landed = self._stamped(self.tables.open(root, name), table.version, stamp)
                if landed is not None:
                    return landed
                last = conflict
                self.caller.sleep(min(0.05 * 2**attempt, _LONGEST_PAUSE))
                continue
            return _made(version, table, staged, stamp)
        raise Refused(
            f"other writers came in between {ATTEMPTS} times; step {stamp.step} on {name} has not "
            f"landed: {last}",
            next_step="the same command again goes on from here; it needs a quieter moment",
        )

    def _undo(self, undoes: Iterable[Landed], site: Site, stamp: Stamp) -> Commit | None:
        """Put back each commit's effect in three commits: cells, inserted rows, deleted rows."""
        last = None
        for number, landed in enumerate(undoes):
            change = (
                self.tables.open(landed.prefix, landed.table, landed.version - 1),
                self.tables.open(landed.prefix, landed.table, landed.version),
            )
            stagings: dict[str, Staging] = {
                "cells": partial(cells_put_back, change),
                "inserted": partial(insertions_removed, change),
                "deleted": partial(deletions_restored, change, self.tables.options()),
            }
            for what, staging in stagings.items():
                own = Stamp(stamp.run, stamp.revision, f"{stamp.step}.{number}.{what}")
                last = self.landed(site, own) or self.committed(site.root, site.name, own, staging) or last
        return last

    def _gone_on(self, step: Step, site: Site) -> bool:
        """Whether a later step of this run has landed: rows it wrote without the column keep their null."""
        log = self.tables.log(site.root, site.name, site.base)
        ours = [commit.stamp.step for commit in log if commit.stamp and commit.stamp.run == self.run]
        return bool(ours) and not ours[-1].startswith(f"{step.id}.")

    def _late_rows(self, step: Step, operation: AddColumn, site: Site, landed: list[Commit]) -> list[Commit]:
        """Fill the rows that writers added without the column since it was filled.

        A few rounds, for a function slower than the writers would never catch up; what comes later is null,
        as all is that they write without the column from now on.
        """
        name = operation.column.name
        done: list[Commit] = []
        covered = self._covered(site, landed[-1]) if landed else frozenset()
        for number in range(LATE_ROUNDS):
            table = self.tables.open(site.root, site.name)
            new = table.fragment_ids - covered
            if not new or not has_column(table.columns, name):
                break
            scope = Scope(fragments=new, where=f"{quoted(name)} is null")
            stamp = Stamp(self.run, step.revision, f"{step.id}.late.{number}.{table.version}")
            commit = self._commit(filling(operation), site, stamp, scope)
            covered |= new
            if commit is not None:
                done.append(commit)
        return done

    def _covered(self, site: Site, commit: Commit) -> frozenset[int]:
        return self.tables.open(site.root, site.name, commit.read_version).fragment_ids

    def _guard(self, site: Site, versions: Iterable[int]) -> None:
        for version in versions:
            table = self.tables.find(site.root, site.name, version)
            # Gone already: undo will say so, should it ever be asked for.
            if table is not None:
                with suppress(Missing):
                    self._kept(table)

    def guard(self, table: Table) -> None:
        """Keep this version from being cleaned up, for as long as this run's history may be asked for.

        StoreError when somebody's cleanup was faster.
        """
        try:
            self._kept(table)
        except Missing as error:
            raise StoreError(
                f"version {table.version} of {table.name} was cleaned away before it could be guarded",
                next_step="the same command again",
            ) from error

    def _kept(self, table: Table) -> None:
        self.lease.hold()
        self.tables.guard(table, f"lancemig/{self.run}/v{table.version}")

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
def _named(step: Step) -> Iterator[None]:
    """Say which step it was that turned out to be impossible."""
    try:
        yield
    except PlanError as error:
        raise type(error)(
            f"step {step.id} ({step.describe} on {step.table}): {error.message}",
            next_step=error.next_step or "mend the migration, then the same command again",
        ) from error


def _made(version: int, table: Table, staged: Staged, stamp: Stamp) -> Commit:
    return Commit(
        version,
        type(staged.operation).__name__,
        stamp,
        table.version,
        staged.changed,
        staged.skipped,
        staged.indeterminate,
    )
