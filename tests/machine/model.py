"""What the tables must hold, in plain Python: each version of each table, commit by commit.

Others' commits are known because they are made here; ours are known by their stamps, and what a stamped step
does to rows is said by `ours`. Only where a row lies is taken from the table itself, for without a key it is
by its place that an undo finds a row again.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import lance
from ours import Change, Operation, Row

_STEP = re.compile(r"(undo/)?(\d{4})/(down\.)?(\d+)\.(.+)")
_TAIL = re.compile(r"tail/\w+/(\d+)-(\d+)")


@dataclass(frozen=True)
class State:
    """One version of a table: rows by number, where each lies, and the fragments there are."""

    columns: tuple[str, ...]
    rows: Mapping[int, Row]
    places: Mapping[int, int] = field(default_factory=dict)
    fragments: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Landing:
    """A commit of ours: the version that it made, and the one it was staged from."""

    table: "TableModel"
    version: int
    read_version: int
    run: str
    step: str
    what: str


@dataclass
class TableModel:
    """One table in one root: every version of it."""

    root: str
    name: str
    uri: str
    keyed: bool
    stable: bool
    states: dict[int, State] = field(default_factory=dict)
    story: list[str] = field(default_factory=list)
    proven: int = 0

    @property
    def version(self) -> int:
        return max(self.states, default=0)

    @property
    def now(self) -> State:
        return self.states[self.version]

    def identity(self, state: State, number: int) -> Any:
        """By what an undo finds a row again."""
        if self.keyed:
            return state.rows[number]["id"]
        return number if self.stable else state.places[number]


@dataclass
class Model:
    """All tables in all roots, and what has landed in them."""

    revisions: dict[str, list[Operation]] = field(default_factory=dict)
    tables: dict[tuple[str, str], TableModel] = field(default_factory=dict)
    landings: list[Landing] = field(default_factory=list)
    applied: dict[str, str] = field(default_factory=dict)
    numbers: Any = field(default_factory=lambda: count(1))

    # ---- following the tables

    def begin(self, root: str, name: str, uri: str) -> TableModel:
        """Take a table that is there as it is."""
        dataset = lance.dataset(uri)
        keyed = b"lancemig.key" in (dataset.schema.metadata or {})
        table = TableModel(root, name, uri, keyed, bool(dataset.has_stable_row_ids))
        self.tables[root, name] = table
        columns, seen, fragments = read(dataset)
        rows = {next(self.numbers): row for row, _ in seen}
        places = dict(zip(rows, (place for _, place in seen), strict=True))
        table.states[int(dataset.version)] = State(columns, rows, places, fragments)
        return table

    def carried(self, old: TableModel, root: str, uri: str) -> TableModel:
        """Take a table that was carried into another root: it begins as the version that was pinned."""
        dataset = lance.dataset(uri)
        base = int(dataset.versions()[0]["version"])
        table = TableModel(root, old.name, uri, old.keyed, old.stable)
        self.tables[root, old.name] = table
        self.arrived(table, base, old.states[base].rows, old.states[base].columns, f"carried from {old.root}")
        return table

    def created(self, root: str, name: str, uri: str) -> TableModel:
        """Take a table that a step of ours made."""
        table = TableModel(root, name, uri, keyed=True, stable=False)
        self.tables[root, name] = table
        return table

    def follow(self, table: TableModel) -> None:
        """Take in what of ours has landed; a commit without a stamp is nobody's, for theirs are taken in."""
        latest = int(lance.dataset(table.uri).version)
        for version in range(table.version + 1, latest + 1):
            dataset = lance.dataset(table.uri, version=version)
            transaction = dataset.read_transaction(version)
            properties = transaction.transaction_properties or {}
            assert "lancemig.run" in properties, f"{table.name} {version}: a commit that nobody made"
            landing = Landing(
                table,
                version,
                int(properties["lancemig.read_version"]),
                properties["lancemig.run"],
                properties["lancemig.step"],
                type(transaction.operation).__name__,
            )
            self._ours(landing)

    def theirs(
        self, table: TableModel, effect: Callable[[Mapping[int, Row], Sequence[str]], Change], what: str
    ) -> None:
        """Take in what somebody else just did: `effect` is what the first of the new versions brought."""
        latest = int(lance.dataset(table.uri).version)
        for version in range(table.version + 1, latest + 1):
            state = table.now
            change = effect(state.rows, state.columns)
            self.arrived(table, version, self.changed(state.rows, change), state.columns, what)
            effect = lambda *_: Change()  # noqa: E731

    def _ours(self, landing: Landing) -> None:
        table = landing.table
        same = [o for o in self.landings if (o.run, o.step) == (landing.run, landing.step)]
        same = [o for o in same if (o.table.root, o.table.name) == (table.root, table.name)]
        assert not same, f"{landing.step} of {landing.run} landed twice in {table.name}: {landing.version}"
        self._in_order(landing)
        before = table.now if table.states else State((), {})
        columns, change = self.effect(landing)
        rows = self.changed(self._with_columns(before.rows, columns), change)
        self.landings.append(landing)
        self.arrived(table, landing.version, rows, columns, f"{landing.step} from {landing.read_version}")

    def _in_order(self, landing: Landing) -> None:
        """The steps of a run land in the order of its plan, and are undone in the opposite one."""
        known = [o for o in self.landings if o.run == landing.run and o.table is landing.table]
        orders = [order(one.step) for one in (*known, landing)]
        assert orders == sorted(orders), f"out of order: {[one.step for one in (*known, landing)]}"

    def arrived(
        self, table: TableModel, version: int, rows: Mapping[int, Row], columns: tuple[str, ...], what: str
    ) -> None:
        """Compare a version with what it must hold, and keep it."""
        table.story.append(f"{version}: {what}")
        places = table.now.places if table.states else {}
        found, seen, fragments = read(lance.dataset(table.uri, version=version))
        assert found == columns, (
            f"{table.name} {version} ({what}): columns {found}, not {columns}\n{told(table)}"
        )
        wanted, there = Counter(map(spelt, rows.values())), Counter(spelt(row) for row, _ in seen)
        assert there == wanted, (
            f"{table.name} at version {version} ({what}) in {table.root}:\n"
            f"  missing {sorted((wanted - there).elements())}\n"
            f"  not ours {sorted((there - wanted).elements())}\n{told(table)}"
        )
        table.states[version] = State(columns, rows, placed(rows, places, seen), fragments)

    def changed(self, rows: Mapping[int, Row], change: Change) -> dict[int, Row]:
        new = {number: row for number, row in rows.items() if number not in change.deleted}
        for number, values in change.updated.items():
            if number in new:
                new[number] = {**new[number], **values}
        for row in change.inserted:
            new[next(self.numbers)] = dict(row)
        return new

    def _with_columns(self, rows: Mapping[int, Row], columns: tuple[str, ...]) -> dict[int, Row]:
        return {number: {name: row.get(name) for name in columns} for number, row in rows.items()}

    # ---- what a step does

    def effect(self, landing: Landing) -> tuple[tuple[str, ...], Change]:
        """Columns and rows after a commit of ours."""
        table = landing.table
        tail = _TAIL.fullmatch(landing.step)
        if tail:
            return table.now.columns, self._tail(table, int(tail[1]), int(tail[2]))
        _, operation, _ = self.named(landing.step)
        if not table.states:
            return ("id", "x", "y"), Change(inserted=operation.rows)
        columns = table.now.columns
        if landing.what == "Project":
            return tuple(name for name in columns if name != operation.column), Change()
        if landing.what == "Merge":
            return (*columns, operation.column), Change()
        state = table.states[landing.read_version]
        return columns, self.change(landing.run, landing.step, state, table)

    def change(self, run: str, step: str, state: State, table: TableModel) -> Change:
        """What the part `step` does to rows that are as in `state`."""
        match = _STEP.fullmatch(step)
        assert match, step
        undo, _, down, _, rest = match.groups()
        _, operation, _ = self.named(step)
        if operation.kind == "value" and (undo or down):
            _, number, what = rest.split(".")
            return self.put_back(self.undone(run, step)[int(number)], what, state, table)
        if operation.kind == "value":
            return operation.effect(state.rows, state.columns)
        if operation.kind == "column" and operation.fill and not (undo or down):
            return self._filled(operation, state, late=rest.startswith("late"))
        return Change()

    def _filled(self, operation: Operation, state: State, *, late: bool) -> Change:
        assert operation.fill
        updated = {}
        for number, row in state.rows.items():
            value = operation.fill(row)
            if row[operation.column] != value and not (late and row[operation.column] is not None):
                updated[number] = {operation.column: value}
        return Change(updated)

    def named(self, step: str) -> tuple[str, Operation, str]:
        """The revision, operation and step that the stamp `step` concerns."""
        match = _STEP.fullmatch(step)
        assert match, step
        _, revision, down, index, _ = match.groups()
        operations = self.revisions[revision]
        at = len(operations) - 1 - int(index) if down else int(index)
        return revision, operations[at], f"{revision}/{at}"

    def undone(self, run: str, step: str) -> list[Landing]:
        """The commits that a step which puts back puts back, oldest first."""
        match = _STEP.fullmatch(step)
        assert match, step
        undo, revision, down, index, _ = match.groups()
        if undo:
            mark = f"{revision}/{down or ''}{index}."
        else:
            mark, run = f"{self.named(step)[2]}.", self.applied[revision]
        return [one for one in self.landings if one.run == run and one.step.startswith(mark)]

    def put_back(self, landing: Landing, what: str, state: State, table: TableModel) -> Change:
        """What of a commit is put back, in a table that is as in `state`."""
        then, was = landing.table.states[landing.version], landing.table.states[landing.version - 1]
        pairs = self._pairs(landing.table, was, then)
        found = {table.identity(state, number): number for number in state.rows}
        if what == "cells":
            return self._cells(pairs, (was, then), state, found, landing.table)
        if what == "inserted":
            new = [n for n in then.rows if n not in pairs.values()]
            there = {found.get(landing.table.identity(then, n)): then.rows[n] for n in new}
            return Change(
                deleted=frozenset(
                    n
                    for n, row in there.items()
                    if n is not None and all(state.rows[n][name] == row[name] for name in row)
                )
            )
        gone = [was.rows[n] for n in was.rows if n not in pairs]
        if table.keyed:
            gone = [row for row in gone if row["id"] not in found]
        return Change(inserted=tuple({name: row[name] for name in state.columns} for row in gone))

    def _pairs(self, table: TableModel, was: State, then: State) -> dict[int, int]:
        """Rows of two versions that are the same row to an undo."""
        there = {table.identity(then, number): number for number in then.rows}
        pairs = {number: there.get(table.identity(was, number)) for number in was.rows}
        return {number: other for number, other in pairs.items() if other is not None}

    def _cells(
        self,
        pairs: Mapping[int, int],
        versions: tuple[State, State],
        state: State,
        found: Mapping[Any, int],
        table: TableModel,
    ) -> Change:
        was, then = versions
        updated = {}
        for number, other in pairs.items():
            old, left = was.rows[number], then.rows[other]
            here = found.get(table.identity(then, other))
            if here is None:
                continue
            now = state.rows[here]
            values = {name: old[name] for name in left if old[name] != left[name] and now[name] == left[name]}
            if values:
                updated[here] = values
        return Change(updated)

    def _tail(self, table: TableModel, since: int, upto: int) -> Change:
        old = next(
            one
            for (root, name), one in self.tables.items()
            if name == table.name and root != table.root and since in one.states and upto in one.states
        )
        known = {row["id"] for row in table.now.rows.values()} if table.keyed else set()
        new = [row for n, row in old.states[upto].rows.items() if n not in old.states[since].rows]
        return Change(
            inserted=tuple(
                {name: row[name] for name in table.now.columns} for row in new if row["id"] not in known
            )
        )

    # ---- what must have landed when a step is said to be done

    def done(self, run: str, step: str, table: TableModel, looked: Sequence[State]) -> None:
        """The step has landed, part by part, or had nothing to do when it was looked at last."""
        _, operation, _ = self.named(f"{step}.0")
        landed = {one.step for one in self.landings if one.run == run}
        parts = self._parts(run, step, operation)
        for part in parts:
            if part in landed:
                continue
            changes = [self.change(run, part, state, table) for state in looked]
            nothing = operation.kind in ("value", "column") and any(not change for change in changes)
            assert nothing, f"{part} of {run} did not land, and had something to do: {changes}\n{told(table)}"
        if operation.kind == "column" and operation.fill and "/down." not in step and looked:
            late = [one for one in landed if one.startswith(f"{step}.late.")]
            left = self._filled(operation, looked[-1], late=True)
            assert not left or len(late) >= 5, (
                f"{step}: rows were left unfilled: {left.updated}\n{told(table)}"
            )

    def _parts(self, run: str, step: str, operation: Operation) -> list[str]:
        if operation.kind == "value" and ("/down." in step or step.startswith("undo/")):
            numbers = range(len(self.undone(run, f"{step}.0")))
            return [f"{step}.0.{n}.{what}" for n in numbers for what in ("cells", "inserted", "deleted")]
        if "/down." in step and operation.kind in ("column", "table"):
            return []
        if operation.kind == "column" and operation.fill:
            return [f"{step}.0", f"{step}.1"]
        return [f"{step}.0"]


def order(step: str) -> tuple[Any, ...]:
    """Where a step stands among those of its run."""
    match = _STEP.fullmatch(step)
    if not match:
        return (2,)
    undo, revision, down, index, rest = match.groups()
    place = (int(revision), int(index)) if not down else (-int(revision), int(index))
    if undo:
        return (1, -place[0], -place[1])
    return (0, *place, rest if rest.isdigit() else "9")


def read(dataset: lance.LanceDataset) -> tuple[tuple[str, ...], list[tuple[Row, int]], frozenset[int]]:
    """Columns, rows with their addresses, and fragments, by a scan."""
    rows = dataset.scanner(with_row_address=True).to_table().to_pylist()
    fragments = frozenset(fragment.fragment_id for fragment in dataset.get_fragments())
    return tuple(dataset.schema.names), [(row, row.pop("_rowaddr")) for row in rows], fragments


def placed(rows: Mapping[int, Row], places: Mapping[int, int], seen: list[tuple[Row, int]]) -> dict[int, int]:
    """Where each row lies: where it lay, if that place holds it still."""
    free = {place: spelt(row) for row, place in seen}
    found = {}
    for number, row in rows.items():
        place = places.get(number)
        if place is not None and free.get(place) == spelt(row):
            found[number] = place
            del free[place]
    for number, row in rows.items():
        if number not in found:
            found[number] = next(place for place, text in free.items() if text == spelt(row))
            del free[found[number]]
    return found


def spelt(row: Row) -> str:
    return json.dumps(row, sort_keys=True)


def told(table: TableModel) -> str:
    """What happened to a table, for whoever reads a failure."""
    lines = [f"  {line}" for line in table.story]
    if table.states:
        lines += [f"  {n} at {table.now.places.get(n)}: {spelt(row)}" for n, row in table.now.rows.items()]
    return "\n".join(["", *lines])
