"""Catching up: what came to the live root since it was pinned, brought into the staged one, in rounds."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial

from lancemig.apply.commit.committer import Outrun
from lancemig.apply.effects.replay import Passage
from lancemig.apply.effects.stage import stage
from lancemig.apply.environment import Progress
from lancemig.apply.replicate.replicate import bring
from lancemig.apply.replicate.types import Brought, Tail
from lancemig.apply.rows.context import Scope
from lancemig.apply.run import Flight
from lancemig.catalog.operations import CreateIndex, Operation, RenameColumn, SetMetadata
from lancemig.catalog.schema import Index, TableSchema, has_column
from lancemig.catalog.sources import counted
from lancemig.errors import VerifyFailed
from lancemig.store.lance import Staged, Stamp, Table

_AGAIN = "lancemig recover --undo, then upgrade again, which includes the change"


def others_did(
    passage: Passage, before: TableSchema, now: TableSchema, target: TableSchema
) -> list[Operation]:
    """The operations that bring `target` what became of its source since it was pinned as `before`.

    An index that is gone from the source stays in the target, where the gates look for it. VerifyFailed for
    what cannot be brought: other columns, another key, an index that no operation makes.
    """
    name = passage.source or ""
    if before.columns != now.columns:
        raise VerifyFailed(f"the columns of {name} were changed during the rebuild", next_step=_AGAIN)
    if before.key != now.key:
        raise VerifyFailed(f"the key of {name} was changed during the rebuild", next_step=_AGAIN)
    return [*_indices(passage, before, now, target), *_metadata(passage, before, now)]


def _indices(
    passage: Passage, before: TableSchema, now: TableSchema, target: TableSchema
) -> Iterator[Operation]:
    table, there = passage.target or "", {index.name: index for index in target.indices}
    for index in now.indices:
        wanted = _called(passage, index)
        if index in before.indices or wanted is None or not has_column(target.columns, wanted.column):
            continue
        if there.get(wanted.name) == wanted:
            continue
        try:
            yield CreateIndex(table=table, **wanted.model_dump())
        except ValueError as error:
            raise VerifyFailed(
                f"the index {index.name} ({index.type}) of {passage.source} was built during the "
                "rebuild, and no operation can create this type of index",
                next_step=_AGAIN,
            ) from error


def _called(passage: Passage, index: Index) -> Index | None:
    """The index with its column called as at the end of the way."""
    column = index.column
    for step in passage.steps:
        if isinstance(step.operation, RenameColumn) and step.operation.column == column:
            column = step.operation.to
    return index.model_copy(update={"column": column})


def _metadata(passage: Passage, before: TableSchema, now: TableSchema) -> Iterator[Operation]:
    own = {
        name
        for step in passage.steps
        if isinstance(step.operation, SetMetadata) and step.operation.column is None
        for name in step.operation.metadata
    }
    names = sorted({*before.metadata, *now.metadata} - own)
    changed = {n: now.metadata.get(n) for n in names if now.metadata.get(n) != before.metadata.get(n)}
    if changed:
        yield SetMetadata(table=passage.target or "", metadata=changed)


ROUNDS = 100


def catch_up(flight: Flight) -> tuple[int, int]:
    """Round after round, until one is short: what comes later is for the reconciliation.

    How many rounds it took, and how many rows they brought.

    Outrun when the tail does not get shorter: writers bring rows faster than they are carried over.
    """
    _refuse_new_tables(flight)
    store, began, brought = flight.store, flight.caller.now(), 0
    for number in range(ROUNDS):
        start = flight.caller.now()
        rows = _round(flight)
        brought += rows
        took = (flight.caller.now() - start).total_seconds()
        if rows <= store.catch_up_rows and took <= store.catch_up_seconds:
            break
        if number and flight.caller.now() - began > timedelta(seconds=store.retry_seconds):
            raise Outrun(
                f"{counted(rows, 'row')} arrived in {took:.0f} s, more than catch_up_rows = "
                f"{store.catch_up_rows:,} allows at the flip: the live tables are written to faster "
                "than the staged root catches up",
                next_step="run the same command again when fewer writers are active; or raise "
                "catch_up_rows in "
                "lancemig.ini",
            )
    _tell_of_derived(flight)
    return number + 1, brought


def behind(flight: Flight) -> int:
    """About how many rows have come since the staged root was last caught up, as the manifests tell."""
    tables, rows = flight.store.tables, 0
    for name, version in flight.run.caught_up.items():
        now, then = tables.find(flight.root, name), tables.find(flight.root, name, version)
        if now is not None and then is not None and now.version != version:
            rows += abs(now.count() - then.count())
    return rows


def _round(flight: Flight) -> int:
    brought = []
    for passage in _with_tail(flight):
        brought.append(bring(flight.worker, _tail(flight, passage), flight.staged_revision))
        _others_did(flight, passage)
    flight.note(caught_up={**flight.run.caught_up, **{b.source: b.upto for b in brought}})
    for one in brought:
        tell(flight, one)
    return sum(one.rows for one in brought)


def _others_did(flight: Flight, passage: Passage) -> None:
    """Indices and metadata that others made or took away; asked twice, it does nothing twice."""
    tables, source, target = flight.store.tables, passage.source or "", passage.target or ""
    live = tables.open(flight.root, source)
    if live.version == flight.run.caught_up[source]:
        return
    before = tables.open(flight.root, source, flight.run.bases[source]).schema()
    staged = tables.open(flight.staged_prefix, target)
    for number, operation in enumerate(others_did(passage, before, live.schema(), staged.schema())):
        stamp = Stamp(flight.run.run, flight.staged_revision, f"along/{source}/{live.version}.{number}")
        flight.worker.committed(flight.staged_prefix, target, stamp, partial(_staged, operation))
        flight.messages.append(f"{target}: {operation.describe()}, as another writer did to {source}")


def _staged(operation: Operation, table: Table) -> Staged | None:
    return stage(operation, table, Scope())


def _refuse_new_tables(flight: Flight) -> None:
    """A table that somebody created in the live root meanwhile would be left behind by the flip."""
    known = {carried.table for carried in flight.plan.carried}
    new = [name for name in flight.store.tables.names(flight.root) if name not in known]
    if new:
        raise VerifyFailed(
            f"created in {flight.root} during the rebuild: {', '.join(new)}",
            next_step="lancemig recover --undo, then upgrade again, which includes the table",
        )


def _tell_of_derived(flight: Flight) -> None:
    """Rows that came to a table that is derived anew are not followed: they come from its source, or not."""
    for passage in flight.passages():
        if passage.source and passage.target and passage.derived:
            found = flight.store.tables.find(flight.root, passage.source)
            if found is not None and found.version != flight.run.bases[passage.source]:
                text = (
                    "changed while it was derived again from its source; check that the source has those rows"
                )
                flight.messages.append(f"{passage.source}: {text}")


def _with_tail(flight: Flight) -> Iterator[Passage]:
    return (p for p in flight.passages() if p.source and p.target and not p.derived)


def _tail(flight: Flight, passage: Passage) -> Tail:
    source = passage.source or ""
    start = flight.staging_start().table(source)
    copied = any(c.table == source and c.copied for c in flight.plan.carried)
    tail = Tail(
        passage=passage,
        origin=flight.root,
        target=flight.staged_prefix,
        start=start,
        since=flight.run.bases[source],
        base=flight.run.bases[source] if copied else 0,
        private=True,
    )
    return replace(tail, since=flight.run.caught_up[source]) if tail.keyed else tail


def tell(flight: Flight, brought: Brought) -> None:
    """Say what was brought, and what was not."""
    if brought.rows:
        flight.on_progress(Progress("catch-up", brought.source, text="rows replicated", rows=brought.rows))
        flight.messages.append(f"{brought.source}: {counted(brought.rows, 'new row')} replicated")
    flight.messages.extend(brought.left)
