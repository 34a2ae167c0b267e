"""The verbs that work on files alone: a new project, a new revision, one branch put on another."""

import shlex
import sys
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from importlib.metadata import entry_points
from pathlib import Path

from lancemig.config import HOOKS, Hook, Settings, template_ini
from lancemig.errors import ConfigError, ScriptError, TwoHeads
from lancemig.revisions.branches import find_header
from lancemig.revisions.chain import RevisionChain, chain_of, heads_of
from lancemig.revisions.header import Header, read_header, read_headers
from lancemig.revisions.journal import (
    Journal,
    PendingFile,
    apply_journal,
    begin_journal,
    end_journal,
    read_journal,
    text_of,
    write_atomically,
)
from lancemig.revisions.rebase import MovedFile, journal_of, moved_files, rebase_branch
from lancemig.revisions.sumfile import SumChanges, has_sum, in_conflict, sides, write_sum
from lancemig.revisions.writer import Draft, revision_file
from lancemig.store.process import Command, run

LONGEST = 120.0
"""Seconds for which a hook may run."""

OnWarning = Callable[[str], None]


def unheard(_: str) -> None:
    """Nobody listens."""


def run_hooks(settings: Settings, paths: Iterable[Path], warn: OnWarning) -> None:
    """Run every hook on every file; where one fails, say so and go on: the file stays as it is then."""
    for path in paths:
        for hook in settings.hooks:
            said = _run(hook, path)
            if said is not None:
                warn(f"hook {hook.name} on {path}: {said}")


def _run(hook: Hook, path: Path) -> str | None:
    """What went wrong; None where nothing did."""
    key = f"[{HOOKS}] {hook.name}.{'executable' if hook.type == 'exec' else 'type'}"
    try:
        words = (*_program(hook), *hook.arguments(path.absolute()))
        ended = run(Command(words, hook.folder, LONGEST, key), {})
    except ConfigError as error:
        return error.message
    if ended.status == 0:
        return None
    how = (
        f"took longer than {LONGEST:g} s"
        if ended.status is None
        else f"failed with exit status {ended.status}"
    )
    return f"{how}\n{ended.tail}".strip()


def _program(hook: Hook) -> tuple[str, ...]:
    if hook.type == "exec":
        return (hook.program,)
    if hook.type == "module":
        return (sys.executable, "-m", hook.program)
    found = list(entry_points(group="console_scripts", name=hook.program))
    if not found:
        raise ConfigError(f"this environment has no console script {hook.program!r}")
    called = f"import sys, {found[0].module}; sys.exit({found[0].module}.{found[0].attr}())"
    return (sys.executable, "-c", called)


def carry_out(settings: Settings, directory: Path, journal: Journal, warn: OnWarning) -> None:
    """Do what the journal says to the files in `directory`.

    A death in between is made good by the same command, or by any other one that writes files.
    """
    begin_journal(directory, journal)
    _go_on(settings, directory, journal, warn)


def finish(settings: Settings, directory: Path, warn: OnWarning) -> Journal | None:
    """Finish what was interrupted in `directory`, and return what it was; None where nothing was."""
    journal = read_journal(directory)
    if journal is not None:
        _go_on(settings, directory, journal, warn)
        warn(f"finished `{journal.command}`, which had been interrupted")
    return journal


def _go_on(settings: Settings, directory: Path, journal: Journal, warn: OnWarning) -> None:
    apply_journal(directory, journal)
    paths = [directory / each.name for each in journal.written]
    run_hooks(settings, paths, warn)
    try:
        after = read_headers(directory, unfinished=True)
        # A third branch is left for the next rebase, and the conflict with it.
        if (journal.sums or has_sum(directory)) and form_a_line(after):
            mine = {header.revision for header in after if header.path in paths}
            write_sum(directory, chain_of(after), mine | _given_up(directory, journal))
    except ScriptError:
        # A hook left a file that cannot be read: what was asked for is done, the rest is in the message.
        end_journal(directory)
        raise
    end_journal(directory)


def _given_up(directory: Path, journal: Journal) -> set[str]:
    """The ids that the sum file has for files which have others now: another branch's file keeps them."""
    old = {*journal.removed.values(), *(each.over for each in journal.written)}
    return {revision for side in sides(directory) for revision, digest in side if digest in old}


def form_a_line(headers: Iterable[Header]) -> bool:
    """Whether they do."""
    try:
        chain_of(headers)
    except ScriptError:
        return False
    return True


def init(folder: Path, content: str | None = None) -> list[Path]:
    """Make a project in `folder`: lancemig.ini and an empty versions/. Overwrites nothing."""
    ini, versions = folder / "lancemig.ini", folder / "versions"
    refuse_existing(ini, next_step=f"lancemig -c {ini} status")
    versions.mkdir(parents=True, exist_ok=True)
    write_atomically(ini, (template_ini() if content is None else content).encode())
    return [ini, versions]


def refuse_existing(ini: Path, *, next_step: str) -> None:
    """Refuse to make a project where there is one."""
    if ini.exists():
        raise ConfigError(f"{ini} already exists", next_step=next_step)


def revision(settings: Settings, draft: Draft, warn: OnWarning = unheard) -> Path:
    """Write a revision on top of the head, run the hooks on it, then write the sum file; say where it is."""
    finished = resumed(settings, command_of(draft), warn)
    if finished is not None:
        return Path(finished.told["path"])
    directory = shown(settings.script_location)
    new = revision_file(
        directory,
        read_line(settings),
        draft,
        now=datetime.now(settings.zone),  # noqa: TID251 - a verb supplies the clock
        new_id=lambda: uuid.uuid4().hex[:12],  # noqa: TID251 - a verb supplies the ids
    )
    journal = Journal(
        command=command_of(draft),
        written=(PendingFile(name=new.path.name, text=text_of(new.content)),),
        told={"path": str(new.path)},
        sums=True,
    )
    carry_out(settings, directory, journal, warn)
    return new.path


def command_of(draft: Draft) -> str:
    """What is typed to have this draft written."""
    words = ["lancemig", "revision", "-m", draft.message]
    return shlex.join([*words, *(["--rev-id", draft.rev_id] if draft.rev_id else [])])


def resumed(settings: Settings, command: str, warn: OnWarning) -> Journal | None:
    """Finish what was interrupted in versions/; what it was, if it was this very command."""
    finished = finish(settings, shown(settings.script_location), warn)
    return finished if finished is not None and finished.command == command else None


def rehash(settings: Settings, warn: OnWarning = unheard) -> SumChanges:
    """Write the sum file anew, from the files as they are, and say what is new in it."""
    directory = shown(settings.script_location)
    finish(settings, directory, warn)
    return write_sum(directory, read_line(settings))


def read_line(settings: Settings) -> RevisionChain:
    """The line of revisions in versions/, from their headers alone."""
    return chain_of(read_headers(shown(settings.script_location)))


def shown(path: Path) -> Path:
    """A path as messages show it: relative where it lies below the working directory."""
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path


def heads(settings: Settings) -> tuple[Header, ...]:
    """The heads: one, unless two revisions follow the same one."""
    return heads_of(read_headers(shown(settings.script_location)))


def find_revision(settings: Settings, text: str) -> Header:
    """The header that `text` names: an id, a unique prefix, `head`, `head-1`."""
    line = read_line(settings)
    wanted = line.resolve(text, None)
    if wanted is None:
        raise ScriptError(
            "base is not a revision but the catalog before the first one", next_step="lancemig history"
        )
    return next(header for header in line.headers if header.revision == wanted)


def edit(settings: Settings, text: str, warn: OnWarning = unheard) -> Path:
    """The file to open for `text`: one in versions/, whatever is wrong in it, or a revision's.

    Of two heads, each is found by its id, but no relative target.
    """
    directory = shown(settings.script_location)
    finish(settings, directory, warn)
    for path in (directory / text, Path(text)):
        if path.is_file() and path.parent.resolve() == directory.resolve():
            return path
    try:
        return find_revision(settings, text).path
    except TwoHeads:
        return find_header(read_headers(directory), text).path


def edited(settings: Settings, path: Path) -> None:
    """Write what was edited in `path` into the sum file, if there is one; the other files keep their digests.

    Raises ScriptError, and leaves the sum file as it was, where the files do not form one line.
    """
    directory = shown(settings.script_location)
    if has_sum(directory):
        write_sum(directory, read_line(settings), {read_header(path).revision})


def rebase(
    settings: Settings, moved: str | None, applied: Mapping[str, str], warn: OnWarning = unheard
) -> list[MovedFile]:
    """Put the branch with the file or revision `moved` on top of the other, and say what became of its files.

    Without `moved`, it is the branch that has no revision in `applied`, which has the digests of the files
    that were applied. The sum file, if there is one, is
    written anew, also where git left nothing but a conflict in it. A rebase that was interrupted is finished.
    """
    directory = shown(settings.script_location)
    command = shlex.join(["lancemig", "rebase", *([moved] if moved else [])])
    finished = finish(settings, directory, warn)
    if finished is not None and finished.command.startswith("lancemig rebase"):
        return moved_files(finished)
    headers = read_headers(directory)
    if in_conflict(directory) and form_a_line(headers):
        write_sum(directory, chain_of(headers), frozenset())
        return []
    journal = journal_of(rebase_branch(headers, moved, applied, sides(directory)), command)
    carry_out(settings, directory, journal, warn)
    return moved_files(journal)
