"""Writing a whole table: created at once, or as a new version of a table in a private root."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import reduce

import pyarrow as pa

from lancemig.apply.commit.target import StepCommit, StepCommits, StepCommitter
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
from lancemig.apply.environment import Watch
from lancemig.apply.rows.keys import KeyScan
from lancemig.catalog.schema import TableSchema
from lancemig.errors import PlanError
from lancemig.store.lance import Commit, Layout, Staged


def write_table(committer: StepCommitter, step_commit: StepCommit[TableWrite], watch: Watch) -> StepCommits:
    """Write the rows of the table, and create the table or replace its content in one commit.

    Raises PlanError where other writers may know the table, and it exists.
    """
    part, target, stamp = step_commit.part, step_commit.target, step_commit.stamp
    commit = committer.find_landed_part(target, stamp)
    if commit is None:
        if target.after is None:
            raise PlanError(f"step {stamp.step} does not write a table")
        commit = _TableWriter(committer, step_commit, target.after, watch).write()
    committer.guard_part(part, target, commit)
    return [commit]


@dataclass(frozen=True)
class _TableWriter:
    committer: StepCommitter
    step_commit: StepCommit[TableWrite]
    schema: TableSchema
    watch: Watch

    def write(self) -> Commit:
        committer, tables = self.committer, self.committer.tables
        part, target, stamp = self.step_commit.part, self.step_commit.target, self.step_commit.stamp
        existing = tables.find(target.root, target.name)
        if existing is not None and not target.private:
            raise PlanError(
                f"table {target.name!r} was created after the plan was made",
                next_step="lancemig upgrade --plan",
            )
        rows = rewrite_source(part, existing or target.source, self.schema)
        if existing is None:
            rows = replace(rows, layout=reduce(changed_layout, target.layouts, rows.layout))
        read_version = existing.version if existing else 0
        destination = (target.root, target.name, self.schema)
        if rows.source is None:
            staged = self._written(self._watched(rows.batches()), rows.layout, read_version)
        else:
            checkpoints = self._write_chunks(rows, read_version)
            fragments = [fragment for checkpoint in checkpoints for fragment in checkpoint.fragments]
            staged = tables.assembled(*destination, fragments, rows.layout, read_version)
            staged = staged.counted(sum(checkpoint.rows for checkpoint in checkpoints))
        committer.lease.renew()
        if existing is None:
            if committer.intents is not None:
                committer.intents.record_creation(target.root, target.name, stamp)
            version = tables.create(target.root, target.name, staged, rows.layout, stamp)
        else:
            version = tables.commit(existing, staged, stamp)
        return Commit(version, part.op, stamp, read_version, changed=staged.changed)

    def _written(self, batches: Iterable[pa.RecordBatch], layout: Layout, read_version: int) -> Staged:
        """Write the rows, and check their keys unless verification reads the table before a flip.

        Raises PlanError, before the table is created, where a key is null or occurs twice.
        """
        target, schema, tables = self.step_commit.target, self.schema, self.committer.tables
        if target.private or not schema.key:
            return tables.written(target.root, target.name, schema, batches, layout, read_version)
        with closing(KeyScan(schema.key)) as scan:
            staged = tables.written(
                target.root, target.name, schema, scan.watched(batches), layout, read_version
            )
            faults = scan.faults(lambda: tables.written_rows(target.root, target.name, staged, schema.key))
        if faults:
            raise PlanError(
                f"table {target.name!r} is not created with the key {', '.join(schema.key)}: {faults.text}",
                next_step="fix the rows in the migration file, or declare another key",
            )
        return staged

    def _write_chunks(self, rows: RewriteSource, read_version: int) -> list[WriteCheckpoint]:
        """Write the table chunk by chunk, without the chunks that this run wrote before it died."""
        committer, target = self.committer, self.step_commit.target
        step = self.step_commit.stamp.step.replace("/", ".")
        folder = f"{committer.results_folder}written/{step}/"
        checkpoints = WriteCheckpoints(
            committer.tables.objects, folder, rows.source or "", committer.lease.renew
        ).load()
        kept = [fragment for checkpoint in checkpoints.kept for fragment in checkpoint.fragments]
        if kept and not committer.tables.there(target.root, target.name, kept):
            checkpoints.kept.clear()
        self.watch(checkpoints.upto, 0)

        def write(batches: Iterator[pa.RecordBatch]) -> tuple[list[str], int]:
            return committer.tables.written_part(
                target.root, target.name, self.schema, self._watched(batches), rows.layout, read_version
            )

        window = ChunkWindow(rows.chunks(checkpoints.upto), committer.environment.now, checkpoints.upto)
        return write_in_chunks(checkpoints, window, write)

    def _watched(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            self.watch(batch.num_rows, batch.nbytes)
            yield batch
