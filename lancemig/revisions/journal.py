"""Several files of versions/ change as one, whatever dies in between.

What is to be done is first written down, in one hidden file, the journal. Then it is done, the files are
taken over into the sum file, and last the journal is removed. While it is there, `read_headers` refuses what
lies beside it, and every verb that writes files finishes it first. Doing it again does it once.
"""

import json
import os
import shutil
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from lancemig.catalog.value import FrozenModel
from lancemig.errors import ConfigError, ScriptError

NAME = ".lancemig.journal"
FORMAT = 1


class PendingFile(FrozenModel):
    """A file that is to have this text, and the mode of the file called `like`.

    `over` is the sha256 of what may lie there before; None where nothing may. Bytes that are no UTF-8 are
    surrogates in the text.
    """

    name: str
    text: str
    like: str | None = None
    over: str | None = None

    @property
    def content(self) -> bytes:
        """The bytes of the file."""
        return self.text.encode("utf-8", "surrogateescape")

    @property
    def sha256(self) -> str:
        """The digest of the file."""
        return sha256(self.content).hexdigest()


class Journal(FrozenModel):
    """What `command` does to the files of a folder, all named from there: written, then moved, then removed.

    `told` is what it answers. Once `placed`, only the sum file is left to write, which is begun if `sums`.
    """

    command: str
    written: tuple[PendingFile, ...] = ()
    moved: dict[str, str] = Field(default_factory=dict)
    removed: dict[str, str] = Field(default_factory=dict)
    told: dict[str, Any] = Field(default_factory=dict)
    sums: bool = False
    placed: bool = False


def text_of(content: bytes) -> str:
    """The bytes of a file, as `Written` has them."""
    return content.decode("utf-8", "surrogateescape")


def digest(path: Path) -> str | None:
    """The sha256 of a file; None where there is none."""
    try:
        return sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return None


def read_journal(directory: Path) -> Journal | None:
    """What was begun in `directory` and is not finished, if anything."""
    path = directory / NAME
    try:
        found = json.loads(path.read_bytes())
        if found.pop("format") > FORMAT:
            raise ConfigError(
                f"{path} has a newer format than this version of lancemig supports ({FORMAT})",
                next_step="upgrade lancemig",
            )
        return Journal.model_validate(found)
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
    """ScriptError, with the command that goes on, where files were left half-way."""
    journal = read_journal(directory)
    if journal is not None:
        raise ScriptError(
            f"`{journal.command}` was interrupted and must be finished; to abandon it instead, "
            f"restore the files in {directory} with git and remove {NAME} there",
            next_step=journal.command,
        )


def begin_journal(directory: Path, journal: Journal) -> None:
    """Write down what is to be done; from then on it is. ConfigError where nothing can be written there.

    Raises ScriptError where another journal is, and where a file is not what it was when this was decided.
    """
    refuse_unfinished(directory)
    for each in journal.written:
        if digest(directory / each.name) != each.over:
            raise _changed_error(directory, each.name, journal, "run the same command again")
    _write(directory, journal)


def apply_journal(directory: Path, journal: Journal) -> None:
    """Write, move and remove the files as the journal says, as far as that is not done.

    Raises ScriptError, and leaves the rest to be done, where a file is neither as it was nor as it is to be.
    """
    if journal.placed:
        return
    _refuse_changed(directory, journal)
    try:
        for each in journal.written:
            if digest(directory / each.name) != each.sha256:
                like = directory / each.like if each.like else None
                write_atomically(directory / each.name, each.content, like)
        for name, to in journal.moved.items():
            _move(directory, name, to, journal)
        for name in journal.removed:
            (directory / name).unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable_error(directory, error, journal.command) from error
    _write(directory, journal.model_copy(update={"placed": True}))


def _refuse_changed(directory: Path, journal: Journal) -> None:
    allowed: dict[str, tuple[str | None, ...]] = {name: (old, None) for name, old in journal.removed.items()}
    allowed |= {each.name: (each.over, each.sha256) for each in journal.written}
    step = f"restore it, or remove {directory / NAME} and finish by hand"
    for name, states in allowed.items():
        if digest(directory / name) not in states:
            raise _changed_error(directory, name, journal, step)


def end_journal(directory: Path) -> None:
    """All of it is done."""
    (directory / NAME).unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes, like: Path | None = None) -> None:
    """Give a file this content, whole or not at all; with the mode of the file `like`."""
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if like is not None:
        with suppress(FileNotFoundError):
            shutil.copymode(like, temporary)
    temporary.replace(path)


def _move(directory: Path, name: str, to: str, journal: Journal) -> None:
    there = digest(directory / to)
    if there is not None and digest(directory / name) not in (None, there):
        raise _changed_error(directory, to, journal, f"move {name} or {to} away, then: {journal.command}")
    (directory / to).parent.mkdir(exist_ok=True)
    with suppress(FileNotFoundError):
        (directory / name).rename(directory / to)


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
