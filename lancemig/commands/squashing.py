"""`squash`: several revisions become one, which a catalog that has them is at."""

from datetime import datetime

from lancemig.catalog.lineage import LineageEntry
from lancemig.commands.hooks import OnWarning, run_hooks, unheard
from lancemig.commands.opening import Catalog
from lancemig.commands.project import read_line, shown
from lancemig.errors import PlanError, RunUnfinished, ScriptError
from lancemig.script.header import Header, read_headers
from lancemig.script.line import SQUASHED
from lancemig.script.squash import Squashed
from lancemig.script.squash import squash as squash_files
from lancemig.script.sum import has_sum, write_sum


def squash(catalog: Catalog, span: str, warn: OnWarning = unheard) -> Squashed:
    """Put the revisions of `span`, `A:B`, into one file that has the id of B.

    Refused while a run is under way, and where the catalog is in the midst of them.
    """
    settings, line = catalog.settings, catalog.line
    place = catalog.place(catalog.seen())
    first, colon, last = span.partition(":")
    if not colon:
        raise ScriptError(f"{span} is no span of revisions", next_step="lancemig squash FIRST:LAST")
    ends = [line.resolve(text, place.revision) for text in (first, last)]
    if ends[0] is None or ends[1] is None:
        raise ScriptError("base is no revision", next_step="lancemig squash FIRST:LAST")
    run = catalog.in_flight()
    if run is not None:
        raise RunUnfinished(f"run {run.run} is under way", next_step="lancemig recover")
    ids = line.revisions
    midst = ids[ids.index(ends[0]) : ids.index(ends[1])]
    if place.revision in midst:
        raise PlanError(
            f"the catalog is at {place.revision}, in the midst of them",
            next_step=f"lancemig upgrade {ends[1]}",
        )
    now = datetime.now(settings.zone)  # noqa: TID251 - a verb supplies the clock
    done = squash_files(shown(settings.script_location), line, ends[0], ends[1], now)
    run_hooks(settings, [done.path], warn)
    directory = shown(settings.script_location)
    if has_sum(directory):
        write_sum(directory, read_line(settings), {ends[1]})
    return done


def originals(catalog: Catalog) -> list[Header]:
    """The headers of the files that were squashed, as far as they are kept."""
    folder = catalog.settings.script_location / SQUASHED
    return list(read_headers(shown(folder))) if folder.is_dir() else []


def refuse_squashed(headers: tuple[Header, ...], entries: list[LineageEntry]) -> None:
    """Refuse to take back by a squashed file what was applied one by one."""
    for header in headers:
        if not header.replaces:
            continue
        for entry in entries:
            applied = {migration.revision: migration.sha256 for migration in entry.migrations}
            if entry.direction != "up" or header.revision not in applied:
                continue
            if applied[header.revision] != header.sha256:
                raise PlanError(
                    f"{header.revision} was applied before it was squashed, so its steps are others",
                    next_step="the files from before the squash (git) know the way back",
                )
            break
