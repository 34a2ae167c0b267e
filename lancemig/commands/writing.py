"""Changes to the files in versions/: begun, done, hooks run on them, the sum file written, and ended."""

from collections.abc import Iterable
from pathlib import Path

from lancemig.commands.hooks import OnWarning, run_hooks
from lancemig.config import Settings
from lancemig.errors import ScriptError
from lancemig.script.header import Header, read_headers
from lancemig.script.journal import Journal, begin, end, place, read_journal
from lancemig.script.line import line_of
from lancemig.script.sum import has_sum, sides, write_sum


def carry_out(settings: Settings, directory: Path, journal: Journal, warn: OnWarning) -> None:
    """Do what the journal says to the files in `directory`.

    A death in between is made good by the same command, or by any other one that writes files.
    """
    begin(directory, journal)
    _go_on(settings, directory, journal, warn)


def finish(settings: Settings, directory: Path, warn: OnWarning) -> Journal | None:
    """Finish what was interrupted in `directory`, and return what it was; None where nothing was."""
    journal = read_journal(directory)
    if journal is not None:
        _go_on(settings, directory, journal, warn)
        warn(f"finished `{journal.command}`, which had been interrupted")
    return journal


def _go_on(settings: Settings, directory: Path, journal: Journal, warn: OnWarning) -> None:
    place(directory, journal)
    paths = [directory / each.name for each in journal.written]
    run_hooks(settings, paths, warn)
    try:
        after = read_headers(directory, unfinished=True)
        # A third branch is left for the next rebase, and the conflict with it.
        if (journal.sums or has_sum(directory)) and form_a_line(after):
            mine = {header.revision for header in after if header.path in paths}
            write_sum(directory, line_of(after), mine | _given_up(directory, journal))
    except ScriptError:
        # A hook left a file that cannot be read: what was asked for is done, the rest is in the message.
        end(directory)
        raise
    end(directory)


def _given_up(directory: Path, journal: Journal) -> set[str]:
    """The ids that the sum file has for files which have others now: another branch's file keeps them."""
    old = {*journal.removed.values(), *(each.over for each in journal.written)}
    return {revision for side in sides(directory) for revision, digest in side if digest in old}


def form_a_line(headers: Iterable[Header]) -> bool:
    """Whether they do."""
    try:
        line_of(headers)
    except ScriptError:
        return False
    return True
