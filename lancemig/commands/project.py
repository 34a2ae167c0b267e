"""The verbs that work on files alone: a new project, a new revision, one branch put on another."""

import shlex
import uuid
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from lancemig.commands.hooks import OnWarning, unheard
from lancemig.commands.writing import carry_out, finish, form_a_line
from lancemig.config import Settings, template_ini
from lancemig.errors import ConfigError, ScriptError, TwoHeads
from lancemig.script.choice import find
from lancemig.script.header import Header, read_header, read_headers
from lancemig.script.journal import Journal, Written, replace, text_of
from lancemig.script.line import Line, heads_of, line_of
from lancemig.script.rebase import Moved, journal_of, moves_told, put_on_top
from lancemig.script.sum import Changes, has_sum, in_conflict, sides, write_sum
from lancemig.script.writer import Draft, revision_file


def init(folder: Path, content: str | None = None) -> list[Path]:
    """Make a project in `folder`: lancemig.ini and an empty versions/. Overwrites nothing."""
    ini, versions = folder / "lancemig.ini", folder / "versions"
    refuse_existing(ini, next_step=f"lancemig -c {ini} status")
    versions.mkdir(parents=True, exist_ok=True)
    replace(ini, (template_ini() if content is None else content).encode())
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
        written=(Written(name=new.path.name, text=text_of(new.content)),),
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


def rehash(settings: Settings, warn: OnWarning = unheard) -> Changes:
    """Write the sum file anew, from the files as they are, and say what is new in it."""
    directory = shown(settings.script_location)
    finish(settings, directory, warn)
    return write_sum(directory, read_line(settings))


def read_line(settings: Settings) -> Line:
    """The line of revisions in versions/, from their headers alone."""
    return line_of(read_headers(shown(settings.script_location)))


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
        return find(read_headers(directory), text).path


def edited(settings: Settings, path: Path) -> None:
    """Write what was edited in `path` into the sum file, if there is one; the other files keep their digests.

    Raises ScriptError, and leaves the sum file as it was, where the files do not form one line.
    """
    directory = shown(settings.script_location)
    if has_sum(directory):
        write_sum(directory, read_line(settings), {read_header(path).revision})


def rebase(
    settings: Settings, moved: str | None, applied: Mapping[str, str], warn: OnWarning = unheard
) -> list[Moved]:
    """Put the branch with the file or revision `moved` on top of the other, and say what became of its files.

    Without `moved`, it is the branch that has no revision in `applied`, which has the digests of the files
    that were applied. The sum file, if there is one, is
    written anew, also where git left nothing but a conflict in it. A rebase that was interrupted is finished.
    """
    directory = shown(settings.script_location)
    command = shlex.join(["lancemig", "rebase", *([moved] if moved else [])])
    finished = finish(settings, directory, warn)
    if finished is not None and finished.command.startswith("lancemig rebase"):
        return moves_told(finished)
    headers = read_headers(directory)
    if in_conflict(directory) and form_a_line(headers):
        write_sum(directory, line_of(headers), frozenset())
        return []
    journal = journal_of(put_on_top(headers, moved, applied, sides(directory)), command)
    carry_out(settings, directory, journal, warn)
    return moves_told(journal)
