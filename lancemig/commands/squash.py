"""`squash`: combine several revisions into one file."""

import shlex
from datetime import datetime

from lancemig.catalog.lineage import LineageEntry
from lancemig.commands.context import Catalog
from lancemig.commands.files import (
    OnWarning,
    display_path,
    finish_same_command,
    ignore_warning,
    run_journal,
)
from lancemig.errors import PlanError, RunUnfinished, ScriptError
from lancemig.revisions.chain import SQUASHED
from lancemig.revisions.header import Header, read_headers
from lancemig.revisions.squash import Squashed
from lancemig.revisions.squash import squash as squash_files


def squash(catalog: Catalog, span: str, warn: OnWarning = ignore_warning) -> Squashed:
    """Combine the revisions of `span`, written as `A:B`, into one file with the id of B.

    Refused during a run, and if the catalog is between A and B.
    """
    settings = catalog.settings
    command = shlex.join(["lancemig", "squash", span])
    finished = finish_same_command(settings, command, warn)
    if finished is not None:
        return Squashed.model_validate(finished.told)
    directory = display_path(settings.script_location)
    now = datetime.now(settings.zone)  # noqa: TID251 - a verb supplies the clock
    journal = squash_files(directory, catalog.chain, _ends(catalog, span), command, now)
    run_journal(settings, directory, journal, warn)
    return Squashed.model_validate(journal.told)


def _ends(catalog: Catalog, span: str) -> tuple[str, str]:
    """Resolve `A:B`; refused if the catalog is between them."""
    chain, active = catalog.chain, catalog.active(catalog.seen())
    texts = span.partition(":")
    if not texts[1]:
        raise ScriptError(f"{span} is not a range of revisions", next_step="lancemig squash FIRST:LAST")
    first, last = (chain.resolve(text, active.revision) for text in (texts[0], texts[2]))
    if first is None or last is None:
        raise ScriptError("base is not a revision", next_step="lancemig squash FIRST:LAST")
    run = catalog.in_flight()
    if run is not None:
        raise RunUnfinished(f"run {run.run} is in progress", next_step="lancemig recover")
    ids = chain.revisions
    if active.revision in ids[ids.index(first) : ids.index(last)]:
        raise PlanError(
            f"the catalog is at {active.revision}, inside this range", next_step=f"lancemig upgrade {last}"
        )
    return first, last


def originals(catalog: Catalog) -> list[Header]:
    """The headers of the squashed files that are kept in versions/squashed/."""
    folder = catalog.settings.script_location / SQUASHED
    return list(read_headers(display_path(folder))) if folder.is_dir() else []


def refuse_squashed(headers: tuple[Header, ...], entries: list[LineageEntry]) -> None:
    """Refuse to revert by a squashed file what was applied one by one."""
    for header in headers:
        if not header.replaces:
            continue
        for entry in entries:
            applied = {migration.revision: migration.sha256 for migration in entry.migrations}
            if entry.direction != "up" or header.revision not in applied:
                continue
            if not header.has_digest(applied[header.revision]):
                raise PlanError(
                    f"{header.revision} was applied before it was squashed, so its steps cannot be inverted",
                    next_step="check out the files from before the squash (git), then downgrade",
                )
            break
