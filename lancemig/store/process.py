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
