"""Formatters and the like are run on the files that were written, as lancemig.ini asks."""

import sys
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from pathlib import Path

from lancemig.config import Settings
from lancemig.config.hooks import SECTION, Hook
from lancemig.errors import ConfigError
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
    key = f"[{SECTION}] {hook.name}.{'executable' if hook.type == 'exec' else 'type'}"
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
