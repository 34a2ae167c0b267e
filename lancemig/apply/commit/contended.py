"""Landing a column with values among other writers, who append rows without it all the while."""

from collections.abc import Sequence
from functools import partial

import pyarrow as pa

from lancemig.apply.commit.committer import ATTEMPTS, Committer, Outrun
from lancemig.apply.commit.target import Hands, Landing, Site, commits
from lancemig.apply.effects.stage import filling
from lancemig.apply.effects.undo import PUTTING_BACK, Reversal
from lancemig.apply.environment import Watch
from lancemig.apply.rows.context import Scope, Tally
from lancemig.apply.rows.upserts import once_more, repeated_insertions, withdrawn
from lancemig.catalog.operations import AddColumn, UndoRows, UpsertRows
from lancemig.catalog.schema import has_column
from lancemig.errors import Irreversible
from lancemig.plan.plan import Landed, Step
from lancemig.store.lance import Commit, Stamp, Table, Tables, quoted

AT_ONCE = 6
"""How often a column with values is tried to be added in one commit."""

LATE_ROUNDS = 5


def add(hands: Hands, step: Step, part: AddColumn, site: Site, stamp: Stamp, watch: Watch) -> Landing:
    """Add a column with its values in one commit; where writers append all the time, null, then filled.

    An append makes the one commit impossible, and a column without values takes but a moment to add.
    """
    null = Stamp(stamp.run, stamp.revision, f"{stamp.step}.null")
    if hands.found(site, null) is None:
        try:
            whole = hands.commit(step, part, site, stamp, Scope(watch=watch), AT_ONCE)
        except Outrun:
            pass
        else:
            return [whole] if whole else []
    scope = Scope(watch=watch)
    fill = Stamp(stamp.run, stamp.revision, f"{stamp.step}.fill")
    first = hands.commit(step, AddColumn(table=part.table, column=part.column), site, null, Scope())
    second = hands.commit(step, filling(part), site, fill, scope)
    return [*([first] if first else []), second or scope.tally]


def fill_late_rows(
    hands: Hands, step: Step, operation: AddColumn, site: Site, landing: Landing, watch: Watch
) -> tuple[Landing, int]:
    """Fill the rows that writers added without the column since it was filled; how many were not.

    A few rounds, for a function slower than the writers would never catch up; what comes later is null, as
    all is that they write without the column from now on.
    """
    landed = commits(landing)
    if not landed or _gone_on(hands, step, site):
        return [], 0
    empty = f"{quoted(operation.column.name)} is null"
    done: list[Commit] = []
    covered = hands.tables.open(site.root, site.name, landed[-1].read_version).fragment_ids
    for number in range(LATE_ROUNDS + 1):
        table = hands.tables.open(site.root, site.name)
        new = table.fragment_ids - covered
        if not new or not has_column(table.columns, operation.column.name):
            break
        if number == LATE_ROUNDS:
            return done, table.count(empty, [f for f in table.fragments if f.fragment_id in new])
        stamp = Stamp(hands.run, step.revision, f"{step.id}.late.{number}.{table.version}")
        scope = Scope(fragments=new, where=empty, watch=watch)
        commit = hands.commit(step, filling(operation), site, stamp, scope)
        covered |= new
        if commit is not None:
            done.append(commit)
    return done, 0


def _gone_on(hands: Hands, step: Step, site: Site) -> bool:
    """Whether a later step of this run has landed: rows it wrote without the column keep their null."""
    log = hands.tables.search(hands.tables.open(site.root, site.name), site.base)
    ours = [commit.stamp.step for commit in log.commits if commit.stamp and commit.stamp.run == hands.run]
    return bool(ours) and not ours[-1].startswith(f"{step.id}.")


WITHDRAWN = ".withdrawn"
"""How the stamp of a commit ends that takes back what another one inserted, under that one's stamp."""


def upsert(hands: Hands, step: Step, part: UpsertRows, site: Site, stamp: Stamp, watch: Watch) -> Landing:
    """Land the upsert; keys that others inserted meanwhile are withdrawn, and upserted again."""
    done: list[Commit | Tally] = []
    scope = Scope(watch=watch)
    commit = hands.commit(step, part, site, stamp, scope)
    for _ in range(ATTEMPTS):
        done.append(scope.tally if commit is None else commit)
        if commit is None or site.private:
            return done
        repeated = taken_back(hands, (site.root, site.name), site.base, commit, part.on)
        if not repeated.num_rows:
            return done
        done.append(Tally(-repeated.num_rows))
        stamp = Stamp(stamp.run, stamp.revision, f"{stamp.step}.again")
        part, scope = once_more(part, repeated), Scope()
        commit = hands.commit(step, part, site, stamp, scope)
    raise Outrun(
        f"other writers inserted the same keys in all {ATTEMPTS} attempts; step {step.id} on "
        f"{site.name} is incomplete",
        next_step="run the same command again when fewer writers are active; it continues from here",
    )


def taken_back(
    committer: Committer, place: tuple[str, str], base: int, commit: Commit, on: Sequence[str]
) -> pa.Table:
    """Withdraw the rows that `commit` inserted although somebody else did, too; the rows.

    `place` is root and table. Asked again after a death it finds the same rows, for it looks at versions
    that do not change, and withdraws them once.
    """
    root, name = place
    tables = committer.tables
    read = tables.find(root, name, base) if base else None
    before, after = (tables.find(root, name, version) for version in (commit.version - 1, commit.version))
    if before is None or after is None:
        # Cleaned away before it could be guarded, so nobody can tell what it inserted.
        return pa.table({})
    repeated = repeated_insertions(read, before, after, on)
    if repeated.num_rows and commit.stamp is not None:
        own = Stamp(committer.run, commit.stamp.revision, f"{commit.stamp.step}{WITHDRAWN}")
        landed = committer.landed(root, name, commit.version, own) or committer.committed(
            root, name, own, partial(withdrawn, repeated, on)
        )
        if landed is not None:
            committer.guard_commit(root, name, landed, before=False)
    return repeated


UNDOING = "undo/"
"""How the id of a step begins that puts back one of its own run."""


def undo(hands: Hands, step: Step, part: UndoRows, site: Site, stamp: Stamp) -> Landing:
    """Put back each commit that the step undoes, the newest first."""
    done: list[Commit | Tally] = []
    unfinished = step.id.startswith(UNDOING)
    for number, landed in reversed(list(enumerate(step.undoes))):
        if unfinished:
            # It may have died before it did, and rows that it moved are followed as long as it is there.
            hands.guard_versions(landed.prefix, landed.table, versions_of(landed))
        before, after = (_as_it_was(hands.tables, landed, version) for version in versions_of(landed))
        reversal = Reversal(before, after, hands.tables, site.base, part.on, part.overwrite, unfinished)
        for what, putting_back in PUTTING_BACK.items():
            own = Stamp(stamp.run, stamp.revision, f"{stamp.step}.{number}.{what}")
            reversal.tally = Tally()
            commit = hands.found(site, own) or hands.committed(
                site.root, site.name, own, partial(putting_back, reversal)
            )
            done.append(commit or reversal.tally)
            hands.on_left(f"{step.id}.{number}.{what}", reversal.left)
            if commit is not None and (commit.moves or not site.private):
                hands.guard_commit(site.root, site.name, commit, before=True)
            if commit is not None and not site.private:
                done += _there_once(hands, site, commit, reversal) if what == "deleted" else ()
    return done


def versions_of(landed: Landed) -> tuple[int, int]:
    """The version before a commit, and the one it made."""
    return landed.version - 1, landed.version


def _as_it_was(tables: Tables, landed: Landed, version: int) -> Table:
    found = tables.find(landed.prefix, landed.table, version)
    if found is None:
        raise Irreversible(
            f"version {version} of {landed.table} was removed by cleanup, so the changes of version "
            f"{landed.version} are unknown",
            next_step="list the versions with lancemig history --lineage -v, then compare them and "
            "repair the "
            "table by hand",
        )
    return found


def _there_once(hands: Hands, site: Site, commit: Commit, reversal: Reversal) -> Landing:
    """Withdraw rows that came back while somebody inserted their key again."""
    identity = reversal.identity(hands.tables.open(site.root, site.name))
    if not identity:
        return []
    repeated = taken_back(hands, (site.root, site.name), site.base, commit, identity)
    return [Tally(-repeated.num_rows, repeated.num_rows)]
