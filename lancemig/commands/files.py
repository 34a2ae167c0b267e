"""Verbs on files alone: `init`, `revision`, `edit`, `rehash`, `rebase`; hooks and the journal."""

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
    unwritable,
    write_atomically,
)
from lancemig.revisions.rebase import MovedFile, journal_of, moved_files, rebase_branch
from lancemig.revisions.sumfile import SumChanges, has_sum, in_conflict, sides, write_sum
from lancemig.revisions.writer import Draft, revision_file
from lancemig.store.process import Command, run

HOOK_TIMEOUT = 120.0
"""In seconds."""

OnWarning = Callable[[str], None]


def ignore_warning(_: str) -> None:
    """Drop the warning."""


def run_hooks(settings: Settings, paths: Iterable[Path], warn: OnWarning) -> None:
    """Run every hook on every file. A hook that fails is a warning; the file stays."""
    for path in paths:
        for hook in settings.hooks:
            problem = _run_hook(hook, path)
            if problem is not None:
                warn(f"hook {hook.name} on {path}: {problem}")


def _run_hook(hook: Hook, path: Path) -> str | None:
    """Run one hook on one file; returns the problem, if any."""
    key = f"[{HOOKS}] {hook.name}.{'executable' if hook.type == 'exec' else 'type'}"
    try:
        words = (*_hook_command(hook), *hook.arguments(path.absolute()))
        ended = run(Command(words, hook.folder, HOOK_TIMEOUT, key), {})
    except ConfigError as error:
        return error.message
    if ended.status == 0:
        return None
    how = (
        f"took longer than {HOOK_TIMEOUT:g} s"
        if ended.status is None
        else f"failed with exit status {ended.status}"
    )
    return f"{how}\n{ended.tail}".strip()


def _hook_command(hook: Hook) -> tuple[str, ...]:
    if hook.type == "exec":
        return (hook.program,)
    if hook.type == "module":
        return (sys.executable, "-m", hook.program)
    scripts = list(entry_points(group="console_scripts", name=hook.program))
    if not scripts:
        raise ConfigError(f"this environment has no console script {hook.program!r}")
    called = f"import sys, {scripts[0].module}; sys.exit({scripts[0].module}.{scripts[0].attr}())"
    return (sys.executable, "-c", called)


def run_journal(settings: Settings, directory: Path, journal: Journal, warn: OnWarning) -> None:
    """Make the changes of a journal to the files in `directory`.

    After a crash, the same command completes them, or any other command that writes files.
    """
    begin_journal(directory, journal)
    _complete(settings, directory, journal, warn)


def finish_interrupted(settings: Settings, directory: Path, warn: OnWarning) -> Journal | None:
    """Complete an interrupted change in `directory` and return its journal, if there is one."""
    journal = read_journal(directory)
    if journal is not None:
        _complete(settings, directory, journal, warn)
        warn(f"finished `{journal.command}`, which had been interrupted")
    return journal


def _complete(settings: Settings, directory: Path, journal: Journal, warn: OnWarning) -> None:
    apply_journal(directory, journal)
    paths = [directory / pending.name for pending in journal.written]
    run_hooks(settings, paths, warn)
    try:
        headers = read_headers(directory, unfinished=True)
        # A third branch is left for the next rebase, and the conflict with it.
        if (journal.sums or has_sum(directory)) and form_chain(headers):
            mine = {header.revision for header in headers if header.path in paths}
            write_sum(directory, chain_of(headers), mine | _released_ids(directory, journal))
    except ScriptError:
        # A hook left a file that cannot be read: what was asked for is done, the rest is in the message.
        end_journal(directory)
        raise
    end_journal(directory)


def _released_ids(directory: Path, journal: Journal) -> set[str]:
    """Ids that the sum file records for replaced contents; another branch's file may keep them."""
    old = {*journal.removed.values(), *(pending.over for pending in journal.written)}
    return {revision for side in sides(directory) for revision, digest in side if digest in old}


def form_chain(headers: Iterable[Header]) -> bool:
    """Whether the revisions form one chain."""
    try:
        chain_of(headers)
    except ScriptError:
        return False
    return True


_GITATTRIBUTES = """\
# The same line ends in every checkout. lancemig accepts others, but git would show them as changes.
*.py text eol=lf
lancemig.sum text eol=lf
"""


def init(folder: Path, content: str | None = None) -> list[Path]:
    """Create a project in `folder`: lancemig.ini and an empty versions/. Never overwrites a file."""
    ini, versions = folder / "lancemig.ini", folder / "versions"
    refuse_existing(ini, next_step=f"lancemig -c {ini} status")
    attributes = versions / ".gitattributes"
    try:
        versions.mkdir(parents=True, exist_ok=True)
        if not attributes.exists():
            write_atomically(attributes, _GITATTRIBUTES.encode())
        write_atomically(ini, (template_ini() if content is None else content).encode())
    except OSError as error:
        path = Path(error.filename) if error.filename else ini
        raise unwritable(path, error, f"make {folder} writable, then run the same command again") from error
    return [ini, versions]


def refuse_existing(ini: Path, *, next_step: str) -> None:
    """Refuse to create a project if `ini` exists."""
    if ini.exists():
        raise ConfigError(f"{ini} already exists", next_step=next_step)


def revision(settings: Settings, draft: Draft, warn: OnWarning = ignore_warning) -> Path:
    """Write a revision on top of the head, run the hooks, then update the sum file; returns its path."""
    finished = finish_same_command(settings, revision_command(draft), warn)
    if finished is not None:
        return Path(finished.told["path"])
    directory = display_path(settings.script_location)
    new = revision_file(
        directory,
        read_chain(settings),
        draft,
        now=datetime.now(settings.zone),  # noqa: TID251 - a verb supplies the clock
        new_id=lambda: uuid.uuid4().hex[:12],  # noqa: TID251 - a verb supplies the ids
    )
    journal = Journal(
        command=revision_command(draft),
        written=(PendingFile(name=new.path.name, text=text_of(new.content)),),
        told={"path": str(new.path)},
        sums=True,
    )
    run_journal(settings, directory, journal, warn)
    return new.path


def revision_command(draft: Draft) -> str:
    """The command that writes this draft."""
    words = ["lancemig", "revision", "-m", draft.message]
    return shlex.join([*words, *(["--rev-id", draft.rev_id] if draft.rev_id else [])])


def finish_same_command(settings: Settings, command: str, warn: OnWarning) -> Journal | None:
    """Complete an interrupted change; returns its journal if it was made by `command`."""
    finished = finish_interrupted(settings, display_path(settings.script_location), warn)
    return finished if finished is not None and finished.command == command else None


def rehash(settings: Settings, warn: OnWarning = ignore_warning) -> SumChanges:
    """Rewrite the sum file from the files as they are, and return the differences."""
    directory = display_path(settings.script_location)
    finish_interrupted(settings, directory, warn)
    return write_sum(directory, read_chain(settings))


def read_chain(settings: Settings) -> RevisionChain:
    """Read the chain of revisions in versions/, from the headers alone; its files may be loaded then."""
    prepend_sys_path(settings)
    return chain_of(read_headers(display_path(settings.script_location)))


def prepend_sys_path(settings: Settings) -> None:
    """Let migration files import the modules in the folders that `prepend_sys_path` names.

    A function of a migration may import a module when it is called, so the folders stay in `sys.path`.
    """
    folders = [str(folder) for folder in settings.prepend_sys_path]
    if sys.path[: len(folders)] != folders:
        sys.path[:] = [*folders, *(entry for entry in sys.path if entry not in folders)]


def display_path(path: Path) -> Path:
    """The path for messages: relative if it is below the working directory."""
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path


def heads(settings: Settings) -> tuple[Header, ...]:
    """The heads: one, or several if revisions follow the same one."""
    return heads_of(read_headers(display_path(settings.script_location)))


def find_revision(settings: Settings, text: str) -> Header:
    """Find the header of a revision by id, unique prefix, or target (`head`, `head-1`)."""
    chain = read_chain(settings)
    revision_id = chain.resolve(text, None)
    if revision_id is None:
        raise ScriptError(
            "base is not a revision but the catalog before the first one", next_step="lancemig history"
        )
    return next(header for header in chain.headers if header.revision == revision_id)


def edit(settings: Settings, text: str, warn: OnWarning = ignore_warning) -> Path:
    """Find the file to open: a file in versions/, even if it does not load, or the file of a revision.

    If there are two heads, revisions are found by id only, not by a relative target.
    """
    directory = display_path(settings.script_location)
    finish_interrupted(settings, directory, warn)
    for path in (directory / text, Path(text)):
        if path.is_file() and path.parent.resolve() == directory.resolve():
            return path
    try:
        return find_revision(settings, text).path
    except TwoHeads:
        return find_header(read_headers(directory), text).path


def record_edit(settings: Settings, path: Path) -> None:
    """Record an edited file in the sum file, if there is one; the digests of other files stay.

    Raises:
        ScriptError: The files do not form one chain; the sum file is unchanged.
    """
    directory = display_path(settings.script_location)
    if has_sum(directory):
        write_sum(directory, read_chain(settings), {read_header(path).revision})


def rebase(
    settings: Settings, moved: str | None, applied: Mapping[str, str], warn: OnWarning = ignore_warning
) -> list[MovedFile]:
    """Put one branch of the history on top of the other.

    Rewrites the sum file, if there is one, even if git left a conflict in it. Completes an interrupted
    rebase.

    Args:
        settings: The settings of the catalog.
        moved: A file or revision of the branch to move; default: the one that was not applied.
        applied: The digests of the applied files, by revision.
        warn: Called with each warning.

    Returns:
        The files that were moved or rewritten.
    """
    directory = display_path(settings.script_location)
    command = shlex.join(["lancemig", "rebase", *([moved] if moved else [])])
    finished = finish_interrupted(settings, directory, warn)
    if finished is not None and finished.command.startswith("lancemig rebase"):
        return moved_files(finished)
    headers = read_headers(directory)
    if in_conflict(directory) and form_chain(headers):
        write_sum(directory, chain_of(headers), frozenset())
        return []
    journal = journal_of(rebase_branch(headers, moved, applied, sides(directory)), command)
    run_journal(settings, directory, journal, warn)
    return moved_files(journal)
