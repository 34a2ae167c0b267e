"""Landing the reversal of earlier commits: cells, then inserted rows, then deleted ones."""

from functools import partial

from lancemig.apply.landing.hands import Hands, Landing, Site
from lancemig.apply.landing.upserting import taken_back
from lancemig.apply.rows.brakes import Tally
from lancemig.apply.steps.undo import PUTTING_BACK, Reversal
from lancemig.catalog.operations import UndoRows
from lancemig.errors import Irreversible
from lancemig.plan.plan import Landed, Step
from lancemig.store.tables import Commit, Stamp, Table, Tables

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
