"""The verbs that work on files alone: a new project, a new revision, one branch put on another."""

import uuid
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from lancemig.commands.hooks import OnWarning, run_hooks, unheard
from lancemig.config import Settings, template_ini
from lancemig.errors import ConfigError, ScriptError, TwoHeads
from lancemig.script.header import Header, read_header, read_headers
from lancemig.script.line import Line, heads_of, line_of
from lancemig.script.rebase import Moved, find, put_on_top
from lancemig.script.sum import Changes, has_sum, in_conflict, write_sum
from lancemig.script.writer import Draft, write_revision


def init(folder: Path, content: str | None = None) -> list[Path]:
    """Make a project in `folder`: lancemig.ini and an empty versions/. Overwrites nothing."""
    ini, versions = folder / "lancemig.ini", folder / "versions"
    refuse_existing(ini, next_step=f"lancemig -c {ini} status")
    versions.mkdir(parents=True, exist_ok=True)
    ini.write_text(template_ini() if content is None else content, encoding="utf-8")
    return [ini, versions]


def refuse_existing(ini: Path, *, next_step: str) -> None:
    """Refuse to make a project where there is one."""
    if ini.exists():
        raise ConfigError(f"{ini} exists already", next_step=next_step)


def revision(settings: Settings, draft: Draft, warn: OnWarning = unheard) -> Path:
    """Write a revision on top of the head, run the hooks on it, then write the sum file; say where it is."""
    directory = shown(settings.script_location)
    path = write_revision(
        directory,
        read_line(settings),
        draft,
        now=datetime.now(settings.zone),  # noqa: TID251 - a verb supplies the clock
        new_id=lambda: uuid.uuid4().hex[:12],  # noqa: TID251 - a verb supplies the ids
    )
    run_hooks(settings, [path], warn)
    write_sum(directory, read_line(settings), {read_header(path).revision})
    return path


def rehash(settings: Settings) -> Changes:
    """Write the sum file anew, from the files as they are, and say what is new in it."""
    return write_sum(shown(settings.script_location), read_line(settings))


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
            "base is no revision; it is the catalog before the first", next_step="lancemig history"
        )
    return next(header for header in line.headers if header.revision == wanted)


def edit(settings: Settings, text: str) -> Path:
    """The file to open for `text`: one in versions/, whatever is wrong in it, or a revision's.

    Of two heads, each is found by its id, but no relative target.
    """
    directory = shown(settings.script_location)
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
    settings: Settings, moved: str | None, applied: frozenset[str], warn: OnWarning = unheard
) -> list[Moved]:
    """Put the branch with the file or revision `moved` on top of the other, and say what became of its files.

    Without `moved`, it is the branch that has no revision in `applied`. The sum file, if there is one, is
    written anew, also where git left nothing but a conflict in it.
    """
    directory = shown(settings.script_location)
    headers = read_headers(directory)
    if in_conflict(directory) and _form_a_line(headers):
        write_sum(directory, line_of(headers), frozenset())
        return []
    result = put_on_top(headers, moved, applied)
    run_hooks(settings, [one.new for one in result], warn)
    after = read_headers(directory)
    # A third branch is left for the next rebase, and the conflict with it.
    if has_sum(directory) and _form_a_line(after):
        paths = {each.new for each in result}
        write_sum(directory, line_of(after), {header.revision for header in after if header.path in paths})
    return result


def _form_a_line(headers: Iterable[Header]) -> bool:
    try:
        line_of(headers)
    except ScriptError:
        return False
    return True
