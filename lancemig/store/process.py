"""The project's own programs, its tests and hooks, each run as a process of its own."""

import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lancemig.errors import ConfigError

LINES, WIDEST = 20, 4000


@dataclass(frozen=True)
class Command:
    """A program with its arguments, where it is run, and for how many seconds at most.

    `key` of lancemig.ini names it.
    """

    words: tuple[str, ...]
    folder: Path
    timeout: float
    key: str = "verify_command"


@dataclass(frozen=True)
class Ended:
    """How a program ended: `status` is None where its time was up; `tail` are the last lines it wrote."""

    status: int | None
    tail: str


def run(command: Command, variables: Mapping[str, str]) -> Ended:
    """Run the program to its end, with `variables` added to the environment, which has the credentials.

    Its input is empty, what it writes is kept apart. ConfigError where there is no such program.
    """
    try:
        process = subprocess.Popen(  # noqa: S603 - it is the project's own
            command.words,
            cwd=command.folder,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise ConfigError(
            f"{command.key} cannot be run: {error}", next_step=f"fix `{command.key}` in lancemig.ini"
        ) from error
    try:
        output, _ = process.communicate(timeout=command.timeout)
    except subprocess.TimeoutExpired:
        _end(process)
        return Ended(None, _tail(process.communicate()[0]))
    except BaseException:
        _end(process)
        raise
    return Ended(process.returncode, _tail(output))


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End it, and what it started itself: its session is its own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _tail(output: bytes | None) -> str:
    text = (output or b"").decode(errors="replace").strip()
    return "\n".join(text.splitlines()[-LINES:])[-WIDEST:]


SECONDS = 60
_NAMES = ("--name-only", "--no-renames", "--diff-filter=d", "--relative", "-z")


def changed_since(folder: Path, ref: str) -> frozenset[str]:
    """The names of files directly in `folder` that were added or changed since it left `ref`.

    Counted from where the two histories parted; from `ref` itself where a shallow clone does not show that.
    What is not committed counts too. Raises ConfigError outside a repository and for a `ref` unknown to git.
    """
    if _run(folder, "rev-parse", "--is-inside-work-tree") is None:
        raise ConfigError(
            f"{folder} is not in a git repository, so lancemig cannot tell which files are new since {ref}",
            next_step="run lancemig lint without --base",
        )
    commit = _run(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    if commit is None:
        raise ConfigError(
            f"git does not know the commit {ref!r}",
            next_step="run git fetch, then the same command; or choose another --base",
        )
    start = _run(folder, "merge-base", commit.strip(), "HEAD") or commit
    names = [
        _run(folder, "diff", *_NAMES, start.strip(), "--", "."),
        _run(folder, "ls-files", "--others", "--exclude-standard", "-z", "--", "."),
    ]
    if None in names:
        raise ConfigError(
            f"git cannot compare {folder} with {ref}", next_step=f"git diff --name-only {ref} -- {folder}"
        )
    return frozenset(name for listed in names if listed for name in listed.split("\0") if name)


def _run(folder: Path, *words: str) -> str | None:
    """What git answers; None where it refuses."""
    try:
        done = subprocess.run(  # noqa: S603 - fixed commands; what is given is no option
            ["git", "-C", str(folder), *words],  # noqa: S607 - whichever git is there
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(
            f"git cannot be run: {error}", next_step="run lancemig lint without --base"
        ) from error
    return done.stdout if done.returncode == 0 else None
