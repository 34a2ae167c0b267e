"""Everything at once, beside a model: we upgrade, die, resume, undo and go down, and others write meanwhile.

HYPOTHESIS_PROFILE=nightly tries many more examples, other ones each time (CONTRIBUTING.md).
"""

import atexit
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import hypothesis
import lance
import lancedb
import pyarrow as pa
import pytest
from dying import Died, Fate, How, dying
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from lab import Lab
from model import Model, TableModel, spelt, told
from moments import Moments, watched
from others import KINDS, Deed, clean_up, do
from ours import ABOVE, Asserted, Operation, Rows, assertions, correcting, dropping, pool, values_of
from servers import Place

from lancemig.apply.lock import LOCK
from lancemig.apply.runner import RunOutcome
from lancemig.catalog.lineage import Action, LineageEntry
from lancemig.commands import adopt, recovery, status, upgrade
from lancemig.commands import check as check_command
from lancemig.commands.context import Catalog
from lancemig.errors import (
    BrakeTripped,
    CheckFailed,
    Incomplete,
    Irreversible,
    LancemigError,
    OutcomeUnknown,
    PlanError,
    Refused,
    RunUnfinished,
    ScriptError,
    StoreError,
    VerifyFailed,
)
from lancemig.plan.plan import AS_FILED, Overrides

EVERY_RUN = {"stateful_step_count": 30, "deadline": None, "print_blob": True,
             "suppress_health_check": list(HealthCheck)}  # fmt: skip
PROFILE = {
    "normal": settings(max_examples=15, derandomize=True, database=None, **EVERY_RUN),
    "nightly": settings(max_examples=300, derandomize=False, **EVERY_RUN),
}[os.environ.get("HYPOTHESIS_PROFILE", "normal")]

LATEST_MOMENT = 70
# A disk that has to be waited for makes each example twice as long.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
START = """
    CreateTable(table="t", key=("id",), schema=["id: int64", "x: int64", "y: int64"]),
    CreateTable(table="u", schema=["id: int64", "x: int64", "y: int64"]),
"""
ROWS = [{"id": n, "x": None if n == 4 else 10 * n, "y": n} for n in range(6)]


@dataclass(frozen=True)
class Event:
    """What comes in at a moment of a run: a deed of others, their cleanup, or another runner.

    Moments are counted; -2 is the one before the second commit.
    """

    moment: int
    what: Deed | str


@dataclass
class Going:
    """A command of ours under way: what is to come in, and what its steps have looked at."""

    verb: str
    events: dict[int, Deed | str]
    number: int = 0
    commits: int = 0
    since: dict[str, int] = field(default_factory=dict)
    looked: dict[str, list[int]] = field(default_factory=dict)
    disturbed: list[str] = field(default_factory=list)


@dataclass
class Snapshot:
    """Columns, and rows by id, of each table; and the ids that others have had their hands on since."""

    columns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    rows: dict[tuple[str, int], list[str]] = field(default_factory=dict)
    meddled: set[tuple[str, int]] = field(default_factory=set)

    def differs(self, now: "Snapshot") -> list[str]:
        """What is otherwise now, although nobody else did it."""
        said = [
            f"{key}: {self.rows.get(key)}, now {now.rows.get(key)}"
            for key in sorted({*self.rows, *now.rows} - self.meddled)
            if self.rows.get(key) != now.rows.get(key)
        ]
        kept = {name for name, _ in self.meddled}
        names = {*self.columns, *now.columns} - (kept - {*self.columns})
        return said + [
            f"{name}: {self.columns.get(name)}, now {now.columns.get(name)}"
            for name in sorted(names)
            if self.columns.get(name) != now.columns.get(name)
        ]


def note(text: str) -> None:
    """Tell of an example that fails, or of a machine that is driven by hand."""
    (hypothesis.note if hypothesis.currently_in_test_context() else print)(text)


tables = st.sampled_from(["t", "t", "u", "made"])
deeds = st.builds(Deed, st.sampled_from(KINDS), tables, st.integers(0, 30))
runners = st.sampled_from(["runner", "take over", "clean up"])
comings = st.builds(
    Event,
    st.integers(1, LATEST_MOMENT) | st.integers(-5, -1),
    st.one_of(deeds, deeds, deeds, deeds, runners),
)
races = st.builds(
    Event,
    st.integers(-3, -1),
    st.builds(Deed, st.just("append what is upserted"), tables, st.integers(0, 30)),
)
events = st.lists(st.one_of(comings, comings, races), max_size=4)
deaths = st.none() | st.tuples(st.integers(1, 30), st.sampled_from(["before", "after", "after", "half"]))


@lru_cache(maxsize=4)
def beginning(stable: bool, indexed: bool) -> Path:
    """A catalog at revision 0001, to be copied: two tables of two fragments each."""
    folder = Path(tempfile.mkdtemp(prefix="lancemig-machine-", dir=MEMORY))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "store").mkdir()
    lab = Lab(folder / "lab", Place("local", str(folder / "store")))
    lab.revision(START)
    lab.upgrade()
    for name in ("t", "u"):
        old = lab.dataset(name)
        uri, schema = old.uri, old.schema
        if stable:
            shutil.rmtree(uri)
            lance.write_dataset(schema.empty_table(), uri, enable_stable_row_ids=True)
        for rows in (ROWS[:3], ROWS[3:]):
            lance.write_dataset(pa.Table.from_pylist(rows, schema=schema), uri, mode="append")
        if indexed:
            lance.dataset(uri).create_scalar_index("id", "BTREE")
    return folder


class Catalogs(RuleBasedStateMachine):
    """The catalog, and what it must be."""

    def __init__(self) -> None:
        super().__init__()
        self.folder: Path | None = None
        self.model = Model()
        self.revision = "0001"
        self.pointer = self.proven = b""
        self.begun = ""
        self.noted: set[str] = set()
        self.stuck = False
        self.cleaned = False
        self.going: list[Going] = []
        self.asserted: dict[str, list[Asserted]] = {}
        self.whole = Snapshot()
        self.earlier: dict[str, Snapshot] = {}
        self.model.overwriting = self.overwriting

    def teardown(self) -> None:
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    # ---- the beginning

    @initialize(
        stable=st.booleans(),
        indexed=st.booleans(),
        without_key=st.sampled_from([False, False, True]),
        choices=st.lists(st.lists(st.integers(0, 999), min_size=1, max_size=3), min_size=3, max_size=5),
        checks=st.lists(st.sampled_from(assertions()), min_size=5, max_size=5),
    )
    def begin(
        self,
        stable: bool,
        indexed: bool,
        without_key: bool,
        choices: list[list[int]],
        checks: list[Asserted | None],
    ) -> None:
        """Some examples are all about a table `without_key`, whose rows one step after another moves."""
        self.folder = Path(tempfile.mkdtemp(prefix="lancemig-machine-", dir=MEMORY))
        shutil.copytree(beginning(stable, indexed) / "store", self.folder / "store")
        self.lab = Lab(self.folder / "lab", Place("local", str(self.folder / "store")))
        self.lab.revision(START)
        number = 0
        made: list[Operation] = []
        for indexes, check in zip(choices, checks, strict=False):
            operations = []
            for index in indexes:
                number += 1
                found = list(values_of("u", number)) if without_key else [*pool(number), *later(made)]
                operations.append(found[index % len(found)])
                made.append(operations[-1])
            revision = self.lab.revision(
                ",\n    ".join(operation.text for operation in operations),
                above=ABOVE + (f"\nchecks = [{check.text}]\n" if check else ""),
            )
            self.model.revisions[revision] = operations
            self.asserted[revision] = [check] if check else []
            note(f"{revision}: " + "; ".join(f"{o.table}: {o.text}" for o in operations))
            note(f"      {check.text if check else ''}")
        self.root = self.lab.root
        self.pointer = self.pointer_now()
        for name in ("t", "u"):
            self.model.begin(self.root, name, self.uri(name))

    # ---- others

    @rule(what=st.one_of(deeds, deeds, deeds, deeds, st.just("clean up")))
    def somebody(self, what: Deed | str) -> None:
        if isinstance(what, Deed):
            self.done_by_others(what)
        else:
            self.cleaned_up()

    # ---- us

    @precondition(lambda self: not self.stuck)
    @rule(
        verb=st.sampled_from(["upgrade +1", "upgrade head", "downgrade", "downgrade overwriting"]),
        events=events,
        death=deaths,
    )
    def go(self, verb: str, events: list[Event], death: tuple[int, How] | None) -> None:
        """Up or down, where there is a way; while a run is in flight, whatever began it goes on with it."""
        if self.flying():
            verb = self.begun
        elif verb.startswith("downgrade") and self.revision == "0001":
            verb = "upgrade +1"
        elif verb.startswith("upgrade") and self.revision == self.lab.written[-1]:
            verb = "downgrade"
        self.ours(verb, events, death)

    @precondition(lambda self: not self.stuck and self.flying())
    @rule(verb=st.sampled_from(["recover", "undo", "undo", "undo overwriting"]), events=events, death=deaths)
    def go_on(self, verb: str, events: list[Event], death: tuple[int, How] | None) -> None:
        self.ours(verb, events, death)

    @precondition(lambda self: not self.stuck and self.flying())
    @rule()
    def something_else_is_refused(self) -> None:
        before = self.tree()
        with pytest.raises(Refused):
            self.command("downgrade" if self.begun.startswith("up") else "upgrade head", self.lab.catalog())
        assert self.tree() == before

    @rule(stamps=st.booleans())
    def look(self, stamps: bool) -> None:
        """What only looks writes nothing; a stamp of where the catalog is moves nothing."""
        before = self.tree()
        fate = Fate(0)
        catalog = dying(self.lab.catalog(), fate)
        check_command.check(catalog)
        status.status(catalog)
        with suppress(PlanError, Refused):
            upgrade.prepare(catalog, "head", "up", no_flip=False, note=None)
        assert fate.effects == []
        assert self.tree() == before
        if stamps and catalog.in_flight() is not None:
            with pytest.raises(Refused):
                adopt.stamp(self.lab.catalog(), "current")
        elif stamps:
            adopt.stamp(self.lab.catalog(), "current")
            self.pointer = self.pointer_now()

    # ---- what holds after each

    @invariant()
    def all_is_well(self) -> None:
        """The pointer names what we published, by a chain of lineage; every table is as the model says."""
        if not self.pointer:
            return
        if self.pointer_now() != self.proven:
            self.proven = self.pointer
            assert self.pointer_now() == self.pointer
            place = status.current(self.lab.catalog())
            assert (place.prefix, place.revision) == (self.root, self.revision)
            entries = status.history(self.lab.catalog())
            assert [entry.seq for entry in entries] == list(range(len(entries), 0, -1))
        for table in self.live():
            self.model.follow(table)
            if table.proven != table.version:
                table.proven = table.version
                readable(table)
            assert not table.keyed or not table.repeated() or self.flying(), told(table)
        assert set(self.lab.tables()) == {table.name for table in self.live()}
        catalog = self.lab.catalog()
        if catalog.in_flight() is None:
            left = [item.key for item in catalog.store.objects.list(catalog.store.scratch("")[:-1])]
            assert not left, f"nothing is under way, and yet there are {left}"

    # ---- how it is done

    def ours(self, verb: str, events: list[Event], death: tuple[int, How] | None) -> None:
        """Run a command of ours with what comes in; whatever it says has to be called for."""
        going = Going(verb, {event.moment: event.what for event in events})
        going.since = {table.name: table.version for table in self.live()}
        self.going.append(going)
        flying = self.lab.catalog().in_flight()
        if flying is None:
            self.begins(verb)
        fate = Moments(
            *(death or (None, "before")),
            happen=self.happen,
            landed=self.landed,
            looked=self.looked,
        )
        note(f"{verb}{f', dying {death[1]} effect {death[0]}' if death else ''}")
        try:
            self.command(verb, watched(self.lab.catalog(), fate))
        except Died:
            note("  died")
            self.lab.outlive_the_lock()
            self.catch_up()
        except LancemigError as error:
            note(f"  {type(error).__name__}: {error}")
            self.catch_up()
            self.called_for(error, going, flying)
        else:
            note(f"  done: {len(fate.effects)} effects, {going.number} moments")
            self.catch_up()
            self.ended(going)
            if verb.startswith("undo"):
                self.put_back()
        finally:
            self.going.pop()

    def begins(self, verb: str) -> None:
        """A run is about to begin, if it is not refused; what it does not publish, it may put back."""
        self.begun = verb
        self.whole = self.snapshot()

    def snapshot(self) -> Snapshot:
        """The live tables as they are."""
        taken = Snapshot({table.name: table.now.columns for table in self.live()})
        for table in self.live():
            for row in table.now.rows.values():
                rows = taken.rows.setdefault((table.name, row["id"]), [])
                rows[:] = sorted([*rows, spelt(row)])
        return taken

    def put_back(self) -> None:
        """A run was put back: all is as when it began, or published last, but for what others did."""
        assert self.lab.catalog().in_flight() is None
        assert not self.whole.differs(self.snapshot()), self.whole.differs(self.snapshot())

    def overwriting(self, step: str) -> bool:
        """Whether what is being put back is put back whatever others made of it since."""
        # What is undone by another command than `undo` is undone as if that had not been said.
        verb = self.going[-1].verb if step.startswith("undo/") else self.begun
        return verb.endswith(" overwriting")

    def command(self, verb: str, catalog: Catalog) -> None:
        word, _, target = verb.partition(" ")
        if word == "recover":
            recovery.recover(catalog)
        elif word == "undo":
            for line in recovery.undo(catalog, overwrite=bool(target)):
                note(f"  {line}")
        else:
            direction: Any = "up" if word == "upgrade" else "down"
            overrides = Overrides(overwrite=True) if target == "overwriting" else AS_FILED
            prepared = upgrade.prepare(
                catalog,
                target if word == "upgrade" else "-1",
                direction,
                no_flip=False,
                note=None,
                overrides=overrides,
            )
            outcome: RunOutcome = upgrade.apply_prepared(catalog, prepared)
            note(f"  {[f'{step.step}: {step.changed}, {step.skipped}' for step in outcome.steps]}")

    def happen(self, what: str) -> None:
        going = self.going[-1]
        going.number += 1
        event = going.events.pop(going.number, None)
        if what.startswith("before commit"):
            going.commits += 1
            event = event or going.events.pop(-going.commits, None)
        if event is None:
            return
        note(f"  moment {going.number}, {what}: {event}")
        self.catch_up()
        if isinstance(event, Deed):
            going.disturbed.append(event.kind)
            self.done_by_others(event)
        elif event == "clean up":
            going.disturbed.append(event)
            self.cleaned_up()
        else:
            self.beside(event, what, going)

    def beside(self, event: str, what: str, going: Going) -> None:
        """Another runner starts while this one is at work, or when its lock has run out."""
        # Between the question whether the lease is held and the effect nothing protects.
        if len(self.going) > 1 or (event == "take over" and what.startswith("before")):
            return
        if event == "take over":
            self.lab.outlive_the_lock()
        verb = going.verb if self.lab.catalog().in_flight() is None else "recover"
        if verb.startswith("downgrade") and self.revision <= "0002":
            # Two of them would leave what the model knows: its tables begin with revision 0001.
            return
        before = self.tree() if self.locked() else None
        going.disturbed.append(event)
        inner = Going(verb, {}, since=going.since)
        self.going.append(inner)
        if before is None and verb.startswith(("upgrade", "downgrade")):
            self.begins(verb)
        fate = Moments(happen=self.happen, landed=self.landed, looked=self.looked)
        try:
            self.command(verb, watched(self.lab.catalog(machine="another"), fate))
        except LancemigError as error:
            note(f"    the other runner: {type(error).__name__}: {error}")
            if before is not None:
                assert error.exit_status in (2, 3)
                assert self.tree() == before
            else:
                self.called_for(error, inner, None, beside=True)
        else:
            note("    the other runner is done")
            # Beside a lock that is held only what has nothing to do is done.
            assert before is None or self.tree() == before
            self.catch_up()
        finally:
            self.going.pop()

    def locked(self) -> bool:
        catalog = self.lab.catalog()
        found = catalog.store.objects.read(catalog.store.lock_key)
        return found is not None and not LOCK.decode(found.body, "").expired(catalog.environment.now())

    def landed(self, what: str) -> None:
        """After an effect of ours: only its own write moves the pointer; what is said to be done is done."""
        if what.startswith("write ") and what.endswith("ACTIVE.json"):
            self.catch_up()
            if self.pointer_now() != self.pointer:
                self.published()
        elif what.startswith("write ") and "/runs/" in what:
            self.steps_done(self.document(what.removeprefix("write ")))
        else:
            assert self.pointer_now() == self.pointer, what

    def looked(self, root: str, name: str, version: int | None) -> None:
        if root == self.root and version is not None:
            self.going[-1].looked.setdefault(name, []).append(version)

    def steps_done(self, run: Mapping[str, Any]) -> None:
        going = self.going[-1]
        for step in run["done"]:
            if f"{run['run']} {step}" in self.noted:
                continue
            self.noted.add(f"{run['run']} {step}")
            table = self.model.tables.get((self.root, run["done"][step]["table"]))
            if run["staged_prefix"] is None and table is not None:
                self.model.follow(table)
                looked = [table.states[v] for v in going.looked.pop(table.name, []) if v in table.states]
                if looked:
                    self.model.done(run["run"], step, table, looked)

    def published(self) -> None:
        """The pointer was written: to the next revision of the way, and all of its steps have landed."""
        self.pointer = self.pointer_now()
        entry = status.history(self.lab.catalog())[0]
        assert entry.origin.revision == self.revision
        assert entry.origin.prefix == self.root
        if entry.action is Action.RECOVER:
            self.recorded(entry)
            return
        [migration] = entry.migrations if entry.direction else [None]
        marks = f"undo/{migration.revision if migration else ''}/"
        back = [one for one in self.model.landings if one.run == entry.run and one.step.startswith(marks)]
        assert not back, f"published, and yet put back: {[one.step for one in back]}"
        if migration is not None and entry.direction == "up":
            assert int(migration.revision) == int(self.revision) + 1 == int(entry.target.revision or 0)
            self.model.applied[migration.revision] = entry.run
            self.guarantees(migration.revision)
        elif migration is not None:
            assert migration.revision == self.revision
            assert int(entry.target.revision or 0) == int(self.revision) - 1
        self.revision = entry.target.revision or ""
        if entry.target.prefix != self.root:
            self.flipped(entry.target.prefix, migration.revision if migration else "")
        self.all_guarded(entry)
        if migration is not None and entry.direction == "up":
            self.earlier[migration.revision] = self.whole
        elif migration is not None:
            before = self.earlier.pop(migration.revision)
            assert not before.differs(self.snapshot()), before.differs(self.snapshot())
        self.whole = self.snapshot()

    def recorded(self, entry: LineageEntry) -> None:
        """A run was put back, and the lineage says so: root and revision stay."""
        assert (entry.target.revision, entry.target.prefix) == (self.revision, self.root)
        assert entry.steps
        assert all(one.step.startswith("undo/") for one in entry.steps)

    def guarantees(self, revision: str) -> None:
        """What a revision asserts after it held of some version of its tables of late."""
        for check in self.asserted[revision]:
            assert not check.due("after") or any(map(check.holds, self.late())), check.text

    def late(self) -> Iterator[dict[str, Rows]]:
        """The rows of t and u in each version since the command began."""
        since = self.going[0].since
        t, u = (self.model.tables[self.root, name] for name in ("t", "u"))
        for one in (n for n in sorted(t.states) if n >= since.get("t", t.version)):
            for other in (n for n in sorted(u.states) if n >= since.get("u", u.version)):
                yield {"t": t.states[one].rows, "u": u.states[other].rows}

    def all_guarded(self, entry: LineageEntry) -> None:
        """What the lineage names is guarded, and every commit of ours that landed in the live root."""
        if self.cleaned:
            return
        # A reconciliation tells up to which version of the root that was left all was brought.
        root = self.root if entry.reconciled is None else entry.reconciled
        wanted = {(root, one.table, one.version_after) for one in entry.tables if one.version_after}
        if entry.origin.prefix == entry.target.prefix:
            ours = [o for o in self.model.landings if o.run == entry.run and o.table.root == self.root]
            wanted |= {(self.root, o.table.name, o.version) for o in ours if o.version > o.table.private}
        for place, name, version in wanted:
            table = self.model.tables[place, name]
            assert version in guarded(table), f"{name} {version} is not guarded{told(table)}"

    def flipped(self, root: str, revision: str) -> None:
        """A rebuild: the tables were carried, and what was put back there is in their logs."""
        old, self.root = self.root, root
        gone = {one.table for one in self.model.revisions[revision] if one.kind == "table"}
        for table in [one for (place, _), one in self.model.tables.items() if place == old]:
            if table.name in gone:
                assert not Path(self.uri(table.name)).exists()
                continue
            new = self.model.carried(table, root, self.uri(table.name))
            self.model.follow(new)
            new.private = new.version
            dropped = {o.column for o in self.model.revisions[revision] if o.kind == "column"}
            assert not dropped & set(new.now.columns) or table.name not in {
                o.table for o in self.model.revisions[revision] if o.kind == "column"
            }

    def ended(self, going: Going) -> None:
        """A command that says it is done leaves nothing in flight."""
        catalog = self.lab.catalog()
        assert catalog.in_flight() is None
        assert catalog.store.objects.read(catalog.store.lock_key) is None
        if going.verb == "upgrade head":
            assert self.revision == self.lab.written[-1]
        self.readers_agree()
        self.cleaned = False

    def called_for(self, error: LancemigError, going: Going, flying: Any, *, beside: bool = False) -> None:
        """What a command refuses has a reason that the model sees too."""
        run = self.lab.catalog().in_flight()
        if isinstance(error, Incomplete):
            # Part of it is done, as the message says; the rest was refused for its own reason.
            assert error.next_step
            assert isinstance(error.__cause__, LancemigError), error
            self.called_for(error.__cause__, going, flying, beside=beside)
        elif isinstance(error, BrakeTripped | CheckFailed) or "the undo is now complete" in error.message:
            self.ended_itself(error)
        elif isinstance(error, OutcomeUnknown):
            assert self.cleaned, "nothing was cleaned up, and yet the outcome is unknown"
            self.stuck = True
        elif isinstance(error, VerifyFailed):
            # A row with the key of one that came back in the staged root reached the live one.
            assert "with different values" in error.message, error
            assert run, error
        elif isinstance(error, Refused):
            assert flying or run or going.disturbed or beside, error
        elif isinstance(error, PlanError):
            assert self.impossible(error), error
        elif isinstance(error, StoreError):
            assert self.cleaned, error
            assert "no longer exists" in error.message or "was removed by cleanup" in error.message, error
        else:
            assert isinstance(error, ScriptError) or type(error) is LancemigError, error

    def ended_itself(self, error: LancemigError) -> None:
        """A run that was stopped by what it was told to look at, or whose undo was finished, is put back."""
        if isinstance(error, BrakeTripped):
            assert self.tripped(), error
        elif isinstance(error, CheckFailed):
            assert self.failing(), error
        else:
            assert isinstance(error, RunUnfinished), error
        self.put_back()

    def impossible(self, error: PlanError) -> bool:
        """Whether an operation cannot be done, or put back, for what is in the tables."""
        if isinstance(error, Irreversible):
            return not self.live_keyed_only()
        if "with different values" in error.message:
            return self.differing()
        return "more than once" in error.message and any(map(self.several, self.live()))

    def differing(self) -> bool:
        """Whether an upsert that refuses would meet other values, in any version of late."""
        return any(
            operation.refuses(table.states[version].rows)
            for operations in self.model.revisions.values()
            for operation in operations
            for table in self.live()
            if table.name == operation.table
            for version in sorted(table.states)[-30:]
        )

    def tripped(self) -> bool:
        """Whether a brake ahead trips, on versions of late or what earlier steps make of them."""
        ahead = [o for number in self.lab.written[int(self.revision) :] for o in self.model.revisions[number]]
        behind = [o for number, made in self.model.revisions.items() if number <= self.revision for o in made]
        for table in self.live():
            own = [o for o in ahead if o.table == table.name]
            added = {o.column for o in behind if o.table == table.name and o.kind == "column"}
            for version in sorted(table.states)[-60:]:
                rows, columns = dict(table.states[version].rows), list(table.states[version].columns)
                if not added <= set(columns):
                    continue
                for operation in own:
                    if operation.tripped(rows, columns):
                        return True
                    if operation.kind == "column" and operation.column not in columns:
                        columns.append(operation.column)
                        fill = operation.fill or (lambda _: None)
                        rows = {n: {**row, operation.column: fill(row)} for n, row in rows.items()}
                    elif operation.kind == "value":
                        rows = self.model.changed(rows, operation.effect(rows, columns))
        return False

    def failing(self) -> bool:
        """Whether a check of what lies ahead fails on versions of late."""
        ahead = [check for n in self.lab.written[int(self.revision) :] for check in self.asserted[n]]
        return any(not check.holds(rows) for check in ahead for rows in self.late())

    def several(self, table: TableModel) -> bool:
        """Whether a table has an id more than once, in any version of late."""
        return any(
            len({row["id"] for row in table.states[version].rows.values()}) < len(table.states[version].rows)
            for version in sorted(table.states)[-30:]
        )

    def live_keyed_only(self) -> bool:
        return all(table.keyed for table in self.live())

    def flying(self) -> bool:
        return self.lab.catalog().in_flight() is not None

    def staging(self) -> bool:
        run = self.lab.catalog().in_flight()
        return run is not None and bool(run.plan.staged)

    def done_by_others(self, deed: Deed) -> None:
        if self.staging() and deed.kind not in QUIET:
            return
        names = [table.name for table in self.live()]
        made = [name for name in names if name not in ("t", "u")]
        name = (made or ["u"])[0] if deed.table == "made" else deed.table
        table = self.model.tables[self.root, name]
        self.model.follow(table)
        rows = dict(table.now.rows)
        self.model.theirs(table, do(deed, table), f"others: {deed.kind} {deed.seed}")
        new = table.now.rows
        changed = [n for n in {*rows, *new} if rows.get(n) != new.get(n)]
        for known in (self.whole, *self.earlier.values()):
            known.meddled |= {(name, {**rows, **new}[n]["id"]) for n in changed}

    def cleaned_up(self) -> None:
        self.cleaned = True
        for table in self.live():
            self.model.follow(table)
            clean_up(table)
        for table in self.model.tables.values():
            if Path(table.uri).exists():
                guards_hold(table)

    def catch_up(self) -> None:
        """Take in what of ours has landed in the live root: new tables, tables gone, and new versions."""
        for name in self.lab.catalog().store.tables.names(self.root):
            if (self.root, name) not in self.model.tables:
                self.model.created(self.root, name, self.uri(name))
        for table in self.live():
            if not Path(table.uri, "_versions").exists() or not any(Path(table.uri, "_versions").iterdir()):
                del self.model.tables[self.root, table.name]
            else:
                self.model.follow(table)

    def readers_agree(self) -> None:
        """LanceDB reads what Lance reads."""
        database = lancedb.connect(str(Path(self.uri("t")).parent))
        for table in self.live():
            rows = database.open_table(table.name).to_arrow().to_pylist()
            assert sorted(map(repr, rows)) == sorted(map(repr, table.now.rows.values()))

    def live(self) -> list[TableModel]:
        return [table for (root, _), table in list(self.model.tables.items()) if root == self.root]

    def uri(self, name: str) -> str:
        return self.lab.catalog().store.tables.uri(self.root, name)

    def pointer_now(self) -> bytes:
        catalog = self.lab.catalog()
        found = catalog.store.objects.read(catalog.store.pointer_key)
        return found.body if found else b""

    def document(self, key: str) -> Any:
        found = self.lab.catalog().store.objects.read(key)
        assert found
        return json.loads(found.body)

    def tree(self) -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in Path(self.lab.place.store).rglob("*")}


# While a root is staged, rows that others update come to it as they are live: what a downgrade put back in
# their other columns is overwritten (test_found.py::test_an_update_during_a_downgrade_by_rebuild…). Without a
# key such a run stops. So the model has appends and maintenance only.
QUIET = (
    "append",
    "append what is upserted",
    "append without the new columns",
    "compact",
    "optimize indices",
    "index",
)


def later(made: list[Operation]) -> list[Operation]:
    """Operations on what earlier ones made."""
    dropped = {one.column for one in made if one.kind == "no index"}
    return [
        correcting(one.table, one.column) if one.kind == "column" else dropping(one.table, one.column)
        for one in made
        if one.kind in ("column", "index") and one.column not in dropped
    ]


def readable(table: TableModel) -> None:
    """An answer through an index is the answer of a scan."""
    dataset = lance.dataset(table.uri)
    for index in dataset.describe_indices():
        column = index.field_names[0]
        known = sorted({row[column] for row in table.now.rows.values() if row[column] is not None})
        for value in {*known[:1], *known[-1:]}:
            rows = dataset.to_table(filter=f"{column} = {value}").to_pylist()
            wanted = [row for row in table.now.rows.values() if row[column] == value]
            assert sorted(map(repr, rows)) == sorted(map(repr, wanted)), (table.name, index.name, value)


def guarded(table: TableModel) -> set[int]:
    """The versions that branches of ours name."""
    folder = Path(table.uri, "_refs", "branches")
    branches = [json.loads(path.read_text()) for path in folder.iterdir()] if folder.exists() else []
    return {one.get("parentVersion") or one.get("parent_version") for one in branches}


def guards_hold(table: TableModel) -> None:
    """Every version that a branch of ours names opens, and holds what it held."""
    for parent in guarded(table):
        state_then = table.states.get(parent)
        if state_then is not None:
            rows = lance.dataset(table.uri, version=parent).to_table().to_pylist()
            assert sorted(map(repr, rows)) == sorted(map(repr, state_then.rows.values()))


TestCatalogs = Catalogs.TestCase
TestCatalogs.settings = settings(PROFILE)
