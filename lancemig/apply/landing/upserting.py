"""Landing an upsert among other writers, who may insert the same keys at the same time."""

from collections.abc import Sequence
from functools import partial

import pyarrow as pa

from lancemig.apply.caller import Watch
from lancemig.apply.landing.commits import ATTEMPTS, Committer, Outrun
from lancemig.apply.landing.hands import Hands, Landing, Site
from lancemig.apply.rows.brakes import Tally
from lancemig.apply.rows.duplicates import once_more, repeated_insertions, withdrawn
from lancemig.apply.rows.scope import Scope
from lancemig.catalog.operations import UpsertRows
from lancemig.plan.plan import Step
from lancemig.store.tables import Commit, Stamp

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
