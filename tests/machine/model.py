"""What the tables must hold, in plain Python: each version of each table, commit by commit.

Others' commits are known because they are made here; ours are known by their stamps, and what a stamped step
does to rows is said by `ours`. Only where a row lies is taken from the table itself: without a key an undo
does not find a row again that others have moved.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import lance
from ours import Change, Operation, Row

_STEP = re.compile(r"(undo/)?(\d{4})/(down\.)?(\d+)\.(.+)")
_TAIL = re.compile(r"tail/(?:[^/]+/)*(\d+)-(\d+)(?:\.again)*(\.withdrawn)?")
_ALONG = re.compile(r"along/[^/]+/\d+\.\d+")


@dataclass(frozen=True)
class State:
    """One version of a table: rows by number, where each lies, and the fragments there are.

    `moved` says how often others have moved a row.
    """

    columns: tuple[str, ...]
    rows: Mapping[int, Row]
    places: Mapping[int, int] = field(default_factory=dict)
    moved: Mapping[int, int] = field(default_factory=dict)
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
    """One table in one root: every version of it; `origin` is the root that it was carried from.

    After version `private` of it the root was live: until then nobody else could write there.
    """

    root: str
    name: str
    uri: str
    keyed: bool
    stable: bool
    states: dict[int, State] = field(default_factory=dict)
    story: list[str] = field(default_factory=list)
    touched: set[int] = field(default_factory=set)
    their_own: set[int] = field(default_factory=set)
    proven: int = 0
    origin: str = ""
    private: int = 0

    @property
    def version(self) -> int:
        return max(self.states, default=0)

    @property
    def now(self) -> State:
        return self.states[self.version]

    def identity(self, state: State, number: int, *, on: bool = False) -> Any:
        """By what an undo finds a row again; `on` when it was by `id` that the row was written."""
        if self.keyed or on:
            return state.rows[number]["id"]
        return number if self.stable else (number, state.moved.get(number, 0))

    def repeated(self) -> list[Row]:
        """Rows of ours, which nobody else has changed, whose `id` another row has as well."""
        ids = Counter(row["id"] for row in self.now.rows.values())
        theirs = self.touched | self.their_own
        return [row for n, row in self.now.rows.items() if ids[row["id"]] > 1 and n not in theirs]


@dataclass
class Model:
    """All tables in all roots, and what has landed in them."""

    revisions: dict[str, list[Operation]] = field(default_factory=dict)
    tables: dict[tuple[str, str], TableModel] = field(default_factory=dict)
    landings: list[Landing] = field(default_factory=list)
    applied: dict[str, str] = field(default_factory=dict)
    numbers: Any = field(default_factory=lambda: count(1))
    overwriting: Callable[[str], bool] = lambda _: False

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
        table.states[int(dataset.version)] = State(columns, rows, places, fragments=fragments)
        return table

    def carried(self, old: TableModel, root: str, uri: str) -> TableModel:
        """Take a table that was carried into another root: it begins as the version that was pinned."""
        dataset = lance.dataset(uri)
        base = int(dataset.versions()[0]["version"])
        table = TableModel(root, old.name, uri, old.keyed, old.stable, origin=old.root)
        self.tables[root, old.name] = table
        then = old.states[base]
        self.arrived(table, base, then.rows, then.columns, f"carried from {old.root}")
        table.states[base] = replace(table.now, moved=then.moved)
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
            gone = [n for n, place in state.places.items() if table.now.places.get(n, place) != place]
            moved = {**state.moved, **{n: state.moved.get(n, 0) + 1 for n in gone}}
            table.states[version] = replace(table.now, moved=moved)
            table.touched |= set(change.updated)
            table.their_own |= set(table.now.rows) - set(state.rows)
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
        before = table.now if table.states else State((), {})
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
        places = placed(rows, before.places, seen)
        table.states[version] = State(columns, rows, places, before.moved, fragments)

    def changed(self, rows: Mapping[int, Row], change: Change) -> dict[int, Row]:
        new = {number: row for number, row in rows.items() if number not in change.deleted}
        for number, values in change.updated.items():
            if number in new:
                new[number] = {**new[number], **values}
        for row in change.inserted:
            new[next(self.numbers)] = dict(row)
        for number, row in change.restored.items():
            if number in new:
                # It came back before, and others kept it from going again: the last to come back is the row.
                new[next(self.numbers)] = new.pop(number)
            new[number] = dict(row)
        return new

    def _with_columns(self, rows: Mapping[int, Row], columns: tuple[str, ...]) -> dict[int, Row]:
        return {number: {name: row.get(name) for name in columns} for number, row in rows.items()}

    # ---- what a step does

    def effect(self, landing: Landing) -> tuple[tuple[str, ...], Change]:
        """Columns and rows after a commit of ours."""
        table = landing.table
        if ".indices." in landing.step:
            # An index that is built again changes no row.
            return table.now.columns, Change()
        tail = _TAIL.fullmatch(landing.step)
        if tail:
            return table.now.columns, self._tail(landing, int(tail[1]), int(tail[2]))
        if _ALONG.fullmatch(landing.step):
            return table.now.columns, Change()
        _, operation, _ = self.named(landing.step)
        if not table.states:
            return ("id", "x", "y"), Change(inserted=operation.rows)
        columns = table.now.columns
        if landing.what == "Project":
            return tuple(name for name in columns if name != operation.column), Change()
        state = table.states[landing.read_version]
        if landing.what == "Merge":
            empty = operation.fill is None or landing.step.endswith(".null")
            filled = Change() if empty else self._filled(operation, state, late=False)
            return (*columns, operation.column), filled
        change = self.change(landing.run, landing.step, state, table)
        if landing.step.endswith(".0") and "down." not in landing.step:
            assert not operation.tripped(state.rows, columns), f"{landing.step}: past its brake{told(table)}"
        return columns, change

    def change(self, run: str, step: str, state: State, table: TableModel) -> Change:
        """What the part `step` does to rows that are as in `state`."""
        match = _STEP.fullmatch(step)
        assert match, step
        undo, _, down, _, rest = match.groups()
        _, operation, _ = self.named(step)
        if rest.endswith(".withdrawn"):
            return self._withdrawn(self.landing(run, step.removesuffix(".withdrawn"), table), state)
        if operation.kind == "value" and (undo or down):
            _, number, what = rest.split(".")
            on = operation.on and not (undo and down)
            back = self.undone(run, step)[int(number)]
            overwrite = self.overwriting(step)
            return self.put_back(back, what, state, table, on=on, ours=bool(undo), overwrite=overwrite)
        if rest.endswith(".again") and operation.again:
            before = self.landing(run, step.removesuffix(".again"), table)
            then = before.table.states[before.version]
            effect = operation.again([then.rows[n] for n in repeated(before)])
            change: Change = effect(state.rows, state.columns)
            return change
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
            now = row.get(operation.column)
            if now != value and not (late and now is not None):
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
        found = [one for one in self.landings if one.run == run and one.step.startswith(mark)]
        # What was withdrawn is already put back.
        return [one for one in found if not (one.step.endswith(".withdrawn") or ".indices." in one.step)]

    def landing(self, run: str, step: str, table: TableModel) -> Landing:
        """The commit of a step."""
        return next(o for o in self.landings if (o.run, o.step, o.table.name) == (run, step, table.name))

    def _withdrawn(self, landing: Landing, state: State) -> Change:
        """Of each key that a commit inserted although it was there, our row goes, unless it was changed."""
        then, doomed = landing.table.states[landing.version], set()
        for number in repeated(landing):
            wrote = then.rows[number]
            there = [n for n, row in state.rows.items() if row["id"] == wrote["id"]]
            same = [
                n
                for n in there
                if all(state.rows[n][name] == wrote[name] for name in {*wrote} & {*state.columns})
            ]
            if len(there) > 1 and same:
                doomed.add(number if number in same else same[0])
        return Change(deleted=frozenset(doomed))

    def put_back(
        self,
        landing: Landing,
        what: str,
        state: State,
        table: TableModel,
        *,
        on: bool,
        ours: bool,
        overwrite: bool,
    ) -> Change:
        """What of a commit is put back, in a table that is as in `state`."""
        then, was = landing.table.states[landing.version], landing.table.states[landing.version - 1]
        found = {table.identity(state, number, on=on): number for number in state.rows}
        if what == "cells":
            here = {n: found.get(table.identity(then, n, on=on)) for n in was.rows if n in then.rows}
            return self._cells(here, (was, then), state, overwrite=overwrite)
        by_id = table.keyed or on
        if what == "inserted":
            known = {row["id"] for row in was.rows.values()} if by_id else set()
            new = [n for n in then.rows if n not in was.rows and then.rows[n]["id"] not in known]
            there = {found.get(table.identity(then, n, on=on)): then.rows[n] for n in new}
            same = frozenset(
                n
                for n, row in there.items()
                if n is not None and all(state.rows[n][name] == row[name] for name in row)
            )
            # Only a run that died before it withdrew them has left keys twice.
            twice = self._withdrawn(landing, state).deleted if by_id and ours else frozenset[int]()
            return Change(deleted=same | twice)
        gone = {n: row for n, row in was.rows.items() if n not in then.rows}
        gone = {n: {name: row[name] for name in state.columns} for n, row in gone.items()}
        if by_id:
            return Change(inserted=tuple(row for row in gone.values() if row["id"] not in found))
        return Change(restored=gone)

    def _cells(
        self, here: Mapping[int, int | None], versions: tuple[State, State], state: State, *, overwrite: bool
    ) -> Change:
        was, then = versions
        updated = {}
        for number, place in here.items():
            if place is None:
                continue
            old, left, now = was.rows[number], then.rows[number], state.rows[place]
            ours = [name for name in old if old[name] != left[name]]
            values = {n: old[n] for n in ours if now[n] != old[n] and (overwrite or now[n] == left[n])}
            if values:
                updated[place] = values
        return Change(updated)

    def _tail(self, landing: Landing, since: int, upto: int) -> Change:
        """What came to the root that the table was carried from, as far as it was not there when staged."""
        table, step = landing.table, landing.step
        state = table.states[landing.read_version]
        if step.endswith(".withdrawn"):
            return self._withdrawn(self.landing(landing.run, step.removesuffix(".withdrawn"), table), state)
        old = self.tables[table.origin, table.name]
        new = [row for n, row in old.states[upto].rows.items() if n not in old.states[since].rows]
        if step.endswith(".again"):
            before = self.landing(landing.run, step.removesuffix(".again"), table)
            twice = {before.table.states[before.version].rows[n]["id"] for n in repeated(before)}
            new = [row for row in new if row["id"] in twice]
        columns = table.now.columns
        known = {row["id"]: n for n, row in state.rows.items()} if table.keyed else {}
        # A row of the target that the source did not have is one that was put back: the late one is newer.
        updated = {
            known[row["id"]]: {name: row[name] for name in columns} for row in new if row["id"] in known
        }
        inserted = tuple({name: row[name] for name in columns} for row in new if row["id"] not in known)
        return Change(updated, inserted=inserted)

    # ---- what must have landed when a step is said to be done

    def done(self, run: str, step: str, table: TableModel, looked: Sequence[State]) -> None:
        """The step has landed, part by part, or had nothing to do when it was looked at last."""
        _, operation, _ = self.named(f"{step}.0")
        landed = {one.step for one in self.landings if one.run == run}
        parts = self._parts(run, step, operation, table)
        for part in parts:
            if part in landed:
                continue
            may_be_nothing = operation.kind == "value" or part.endswith(".fill")
            changes = [self.change(run, part, state, table) for state in looked] if may_be_nothing else []
            nothing = any(not change for change in changes)
            assert nothing, f"{part} of {run} did not land, and had something to do: {changes}\n{told(table)}"
        back = "/down." in step or step.startswith("undo/")
        if operation.kind == "column" and operation.fill and not back and looked:
            late = [one for one in landed if one.startswith(f"{step}.late.")]
            left = self._filled(operation, looked[-1], late=True)
            assert not left or len(late) >= 5, (
                f"{step}: rows were left unfilled: {left.updated}\n{told(table)}"
            )

    def _parts(self, run: str, step: str, operation: Operation, table: TableModel) -> list[str]:
        first = f"{step}.0"
        if operation.kind == "value" and ("/down." in step or step.startswith("undo/")):
            numbers = range(len(self.undone(run, first)))
            parts = [f"{first}.{n}.{what}" for n in numbers for what in PUTTING_BACK]
            if not table.keyed and not (operation.on and not ("/down." in step and step.startswith("undo/"))):
                return parts
            return [one for part in parts for one in (part, *self._after(run, part, table))]
        if "/down." in step and operation.kind in ("column", "table"):
            return []
        if operation.kind == "column" and operation.fill and not step.startswith("undo/"):
            halves = [f"{first}.null", f"{first}.fill"]
            return halves if any(o.step in halves and o.run == run for o in self.landings) else [first]
        return [first, *self._after(run, first, table)] if operation.on else [first]

    def _after(self, run: str, part: str, table: TableModel) -> list[str]:
        """What has to follow a commit whose keys others inserted as well."""
        landed = [o for o in self.landings if (o.run, o.step, o.table.name) == (run, part, table.name)]
        if not landed or not repeated(landed[0]):
            return []
        if part.endswith(".deleted"):
            return [f"{part}.withdrawn"]
        if part.endswith((".cells", ".inserted")):
            return []
        again = f"{part}.again"
        return [f"{part}.withdrawn", again, *self._after(run, again, table)]


PUTTING_BACK = ("cells", "inserted", "deleted")


def repeated(landing: Landing) -> list[int]:
    """The rows that a commit inserted although their `id` was there by then."""
    then, was = landing.table.states[landing.version], landing.table.states[landing.version - 1]
    there = {row["id"] for row in was.rows.values()}
    return [n for n, row in then.rows.items() if n not in was.rows and row["id"] in there]


def order(step: str) -> tuple[int, ...]:
    """Where a step stands among those of its run."""
    match = _STEP.fullmatch(step)
    if not match:
        return (2,)
    undo, revision, down, index, rest = match.groups()
    place = (int(revision), int(index)) if not down else (-int(revision), int(index))
    if undo:
        return (1, -place[0], -place[1], *_part(rest))
    return (0, *place, *_part(rest))


def _part(rest: str) -> tuple[int, ...]:
    """Where a commit stands among those of its step; what puts back begins with the newest."""
    number, *words = rest.split(".")
    if number == "indices":
        return (98,)
    if number == "late":
        return (99,)
    if words and words[0].isdigit():
        return (int(number), -int(words[0]), PUTTING_BACK.index(words[1]), len(words))
    after = {"null": 1, "fill": 2, "again": 2, "withdrawn": 1}
    return (int(number), sum(after[word] for word in words))


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
