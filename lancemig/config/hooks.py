"""The programs that are run on files that were written: the section `[post_write_hooks]`, as in Alembic."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, cast

from lancemig.catalog.value import Value
from lancemig.config.ini import Entry, Expansion, refuse
from lancemig.script.wording import did_you_mean

SECTION = "post_write_hooks"
FILENAME = "REVISION_SCRIPT_FILENAME"
"""What stands in `options` for the path of the file; where it does not, the path is the first argument."""

_NEEDS = {"exec": "executable", "console_scripts": "entrypoint", "module": "module"}
_KEYS = ("type", *_NEEDS.values(), "options", "cwd")

Type = Literal["exec", "console_scripts", "module"]


class Hook(Value):
    """A program, by its `type`: one on the path, an installed package's script, or a module of this Python.

    `folder` is where it is run.
    """

    name: str
    type: Type
    program: str
    options: tuple[str, ...] = ()
    folder: Path

    def arguments(self, path: Path) -> tuple[str, ...]:
        """Its arguments for the file at `path`."""
        given = self.options if FILENAME in self.options else (FILENAME, *self.options)
        return tuple(str(path) if word == FILENAME else word for word in given)


def read_hooks(entries: Mapping[str, Entry], here: Path, environ: Mapping[str, str]) -> tuple[Hook, ...]:
    """The hooks that the key `hooks` lists, in that order; ConfigError for one that is not whole."""
    expand = Expansion(entries, {"here": str(here)}, environ)
    listed = _value(entries, expand, "hooks") or ""
    names = listed.replace(",", " ").split()
    for key in entries.keys() - {"hooks"}:
        kind = key.rpartition(".")[2]
        if "." not in key or kind not in _KEYS:
            refuse(
                f"{entries[key].where} is not a hook key{did_you_mean(kind, _KEYS)}",
                f"write NAME.KEY, where KEY is one of: {', '.join(_KEYS)}",
            )
    return tuple(_hook(name, entries, expand, here) for name in names)


def _hook(name: str, entries: Mapping[str, Entry], expand: Expansion, here: Path) -> Hook:
    given = {key: _value(entries, expand, f"{name}.{key}") for key in _KEYS}
    kind = given["type"]
    if kind not in _NEEDS:
        refuse(
            f"{entries['hooks'].where}: {name}.type is {kind or 'missing'}, not one of {', '.join(_NEEDS)}",
            f"write `{name}.type = exec` and `{name}.executable = …` below it",
        )
    program = given[_NEEDS[kind]]
    if not program:
        refuse(f"{entries['hooks'].where}: {name}.{_NEEDS[kind]} is missing", f"add it below {name}.type")
    try:
        options = tuple(shlex.split(given["options"] or ""))
    except ValueError as error:
        refuse(f"{entries[f'{name}.options'].where}: {error}", "fix the quotes")
    folder = Path(os.path.normpath(here / (given["cwd"] or "")))
    return Hook(name=name, type=cast(Type, kind), program=program, options=options, folder=folder)


def _value(entries: Mapping[str, Entry], expand: Expansion, key: str) -> str | None:
    if key not in entries:
        return None
    try:
        return expand(key).strip()
    except ValueError as error:
        refuse(f"{entries[key].where}: {error}", "fix it, then: lancemig status")
