"""A journal that changes several files of versions/ atomically, also if the process crashes in between.

`begin_journal` writes the intended changes to one hidden file, the journal. `apply_journal` makes them, then
the caller updates the sum file, and `end_journal` removes the journal. While the journal exists,
`read_headers` refuses the folder, and every command that writes files finishes the journal first. Applying a
journal is idempotent.
"""

import errno
import json
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from lancemig.catalog.value import FrozenModel, text_digest
from lancemig.errors import ConfigError, ScriptError

NAME = ".lancemig.journal"
FORMAT = 1


class PendingFile(FrozenModel):
    """A file to write."""

    name: str
    text: str
    """The content; bytes that are not UTF-8 are surrogates."""
    like: str | None = None
    """The file whose mode is copied."""
    over: str | None = None
    """The sha256 of the file that may be overwritten; None where no file may exist."""

    @property
    def content(self) -> bytes:
        """The bytes of the file."""
        return self.text.encode("utf-8", "surrogateescape")

    @property
    def sha256(self) -> str:
        """The digest of the file."""
        return text_digest(self.content)


class Journal(FrozenModel):
    """The changes that a command makes to the files of a folder: files are written, moved, then removed."""

    command: str
    """The command line, which also finishes an interrupted journal."""
    written: tuple[PendingFile, ...] = ()
    moved: dict[str, str] = Field(default_factory=dict)
    """The old name of each moved file, with its new name."""
    removed: dict[str, str] = Field(default_factory=dict)
    """The name of each removed file, with its sha256."""
    told: dict[str, Any] = Field(default_factory=dict)
    """What the command reports, so that a command that finishes the journal can report it as well."""
    sums: bool = False
    """Whether to create the sum file where there is none."""
    placed: bool = False
    """Whether all files are changed, and only the sum file remains to be written."""

    @model_validator(mode="after")
    def _stays_in_its_folder(self) -> Self:
        names = (*(file.name for file in self.written), *self.moved, *self.moved.values(), *self.removed)
        outside = [name for name in names if Path(name).is_absolute() or ".." in Path(name).parts]
        if outside:
            raise ValueError(f"{outside[0]} is outside of the folder")
        return self


def begin_journal(directory: Path, journal: Journal) -> None:
    """Write the journal; from then on, its changes are made.

    Raises:
        ScriptError: There is another journal, or a file has changed since the journal was composed.
        ConfigError: The folder is not writable.
    """
    refuse_unfinished(directory)
    for file in journal.written:
        if digest(directory / file.name) != file.over:
            raise _changed_error(directory, file.name, journal, "run the same command again")
    _write(directory, journal)


def apply_journal(directory: Path, journal: Journal) -> None:
    """Make the changes of the journal that are not made yet.

    Raises ScriptError, and keeps the journal, where a file has neither its old nor its new content.
    """
    if journal.placed:
        return
    _refuse_changed(directory, journal)
    try:
        for file in journal.written:
            if digest(directory / file.name) != file.sha256:
                like = directory / file.like if file.like else None
                write_atomically(directory / file.name, file.content, like)
        for name, new_name in journal.moved.items():
            _move(directory, name, new_name, journal)
        for name in journal.removed:
            (directory / name).unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable_error(directory, error, journal.command) from error
    _write(directory, journal.model_copy(update={"placed": True}))


def end_journal(directory: Path) -> None:
    """Remove the journal, after everything is done."""
    (directory / NAME).unlink(missing_ok=True)


def read_journal(directory: Path) -> Journal | None:
    """The unfinished journal in `directory`; None where there is none.

    Raises ConfigError where it is unreadable, or of a newer format.
    """
    path = directory / NAME
    try:
        document = json.loads(read_regular(path))
        if document.pop("format") > FORMAT:
            raise ConfigError(
                f"{path} has a newer format than this version of lancemig supports ({FORMAT})",
                next_step="upgrade lancemig",
            )
        return Journal.model_validate(document)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}",
            next_step="fix its permissions, then run the same command again",
        ) from error
    except (ValueError, AttributeError, TypeError, KeyError, ValidationError) as error:
        raise ConfigError(
            f"{path} is not a lancemig journal", next_step=f"inspect and remove it: {path}"
        ) from error


def refuse_unfinished(directory: Path) -> None:
    """Raise ScriptError, with the command that finishes it, where `directory` has an unfinished journal."""
    journal = read_journal(directory)
    if journal is not None:
        raise ScriptError(
            f"`{journal.command}` was interrupted and must be finished; to abandon it instead, "
            f"restore the files in {directory} with git and remove {NAME} there",
            next_step=journal.command,
        )


def text_of(content: bytes) -> str:
    """The bytes of a file as `PendingFile.text`."""
    return content.decode("utf-8", "surrogateescape")


def read_regular(path: Path) -> bytes:
    """The bytes of a file; OSError if it is a pipe or a device, which a reader might wait for endlessly."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return path.read_bytes()


def digest(path: Path) -> str | None:
    """The digest of a file's text, regardless of line ends; None where there is no file."""
    try:
        return text_digest(read_regular(path))
    except FileNotFoundError:
        return None


def write_atomically(path: Path, content: bytes, like: Path | None = None) -> None:
    """Replace the content of a file atomically, with the mode of the file `like`."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if like is not None:
            with suppress(FileNotFoundError):
                shutil.copymode(like, temporary)
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_output(path: Path, text: str, option: str) -> None:
    """Write a file that the user asked for by an option such as `--out`; ConfigError if that fails."""
    try:
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8")  # a pipe, or a device such as /dev/stdout
        else:
            write_atomically(path, text.encode())
    except OSError as error:
        raise unwritable(path, error, f"choose another {option} FILE") from error


def require_writable(path: Path | None, option: str) -> None:
    """Refuse, before the work begins, a file that `write_output` cannot write; ConfigError names it."""
    if path is None:
        return
    step = f"choose another {option} FILE"
    try:
        folder = path.parent.stat()
    except OSError as error:
        raise unwritable(path, error, step) from error
    if not stat.S_ISDIR(folder.st_mode):
        raise unwritable(path, OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)), step)
    if path.is_dir():
        raise unwritable(path, OSError(errno.EISDIR, os.strerror(errno.EISDIR)), step)
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise unwritable(path, OSError(errno.EACCES, os.strerror(errno.EACCES)), step)


def unwritable(path: Path, error: OSError, next_step: str) -> ConfigError:
    """The error of a file or folder of the user that cannot be written."""
    return ConfigError(f"{path} cannot be written: {error.strerror or error}", next_step=next_step)


def _refuse_changed(directory: Path, journal: Journal) -> None:
    allowed: dict[str, tuple[str | None, ...]] = {name: (old, None) for name, old in journal.removed.items()}
    allowed |= {file.name: (file.over, file.sha256) for file in journal.written}
    step = f"restore it, or remove {directory / NAME} and finish by hand"
    for name, digests in allowed.items():
        if digest(directory / name) not in digests:
            raise _changed_error(directory, name, journal, step)


def _move(directory: Path, name: str, new_name: str, journal: Journal) -> None:
    existing = digest(directory / new_name)
    if existing is not None and digest(directory / name) not in (None, existing):
        step = f"move {name} or {new_name} away, then: {journal.command}"
        raise _changed_error(directory, new_name, journal, step)
    (directory / new_name).parent.mkdir(exist_ok=True)
    with suppress(FileNotFoundError):
        (directory / name).rename(directory / new_name)


def _write(directory: Path, journal: Journal) -> None:
    try:
        write_atomically(
            directory / NAME, json.dumps({"format": FORMAT, **journal.model_dump()}, indent=1).encode()
        )
    except OSError as error:
        raise _unwritable_error(directory, error, "run the same command again") from error


def _unwritable_error(directory: Path, error: OSError, then: str) -> ConfigError:
    return ConfigError(
        f"the files in {directory} cannot be written: {error.strerror} ({error.filename})",
        next_step=f"lancemig init, or make {directory} writable, then: {then}",
    )


def _changed_error(directory: Path, name: str, journal: Journal, step: str) -> ScriptError:
    return ScriptError(
        f"{directory / name} was changed while `{journal.command}` was running; it was not overwritten",
        next_step=step,
    )
