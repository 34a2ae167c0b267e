"""Landing a column with values among other writers, who append rows without it all the while."""

from lancemig.apply.caller import Watch
from lancemig.apply.landing.commits import Outrun
from lancemig.apply.landing.hands import Hands, Landing, Site, commits
from lancemig.apply.rows.scope import Scope
from lancemig.apply.steps.parts import filling
from lancemig.catalog.operations import AddColumn
from lancemig.catalog.schema import has_column
from lancemig.plan.plan import Step
from lancemig.store.tables import Commit, Stamp, quoted

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
