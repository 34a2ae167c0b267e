"""The settings of one catalog: a section of lancemig.ini, the environment and `-x key=value`."""

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from datetime import timedelta, tzinfo
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import Field

from lancemig.catalog.checks import Check
from lancemig.catalog.value import FrozenModel
from lancemig.config.checks import SECTION as CHECKS
from lancemig.config.checks import read_check
from lancemig.config.ini import MAIN, Entry, Expansion, read_entries, read_section, refuse, refuse_unknown
from lancemig.config.values import readers, zone
from lancemig.revisions.header import did_you_mean

HOOKS = "post_write_hooks"
FILENAME = "REVISION_SCRIPT_FILENAME"
"""The placeholder for the path of the file in `options`; without it, the path is the first argument."""

_NEEDS = {"exec": "executable", "console_scripts": "entrypoint", "module": "module"}
_KEYS = ("type", *_NEEDS.values(), "options", "cwd")

Type = Literal["exec", "console_scripts", "module"]


class Hook(FrozenModel):
    """A program to run on a new file, by its `type`: on the PATH, a script of a package, or a module.

    `folder` is its working directory.
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
    """The hooks that the key `hooks` lists, in that order; ConfigError for one that is incomplete."""
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


__all__ = ["MAIN", "Settings", "filled_ini", "ini_text", "read_settings", "template_ini"]


class Settings(FrozenModel):
    """The settings of one catalog, checked, with defaults.

    Paths are absolute. `store` is an absolute path, `file://…` or `s3://…`. Prefixes are empty (the store
    itself) or end with a slash. `storage_options` has no credentials. `checks` are the standing checks, which
    `lancemig audit` runs; `hooks` run on files that lancemig wrote.
    """

    name: str
    path: Path
    script_location: Path
    prepend_sys_path: tuple[Path, ...] = ()
    file_template: str = "{rev}_{slug}"
    models: str | None = None
    timezone: str = "UTC"
    store: str
    pointer: str = "ACTIVE.json"
    catalog_dir: str = "catalog/"
    fallback_prefix: str | None = None
    resolution: Literal["pointer", "pinned"] = "pointer"
    staging_prefix: str = "lancemig-staging-{timestamp}-{run}/"
    staging: Literal["copy", "clone"] = "copy"
    protected: bool = False
    backup_max_age: timedelta = timedelta(days=7)
    lock_ttl: float = 60.0
    retry_seconds: float = 900.0
    indices: Literal["refresh", "leave"] = "refresh"
    min_index_coverage: float = 0.9
    catch_up_rows: int = 1000
    catch_up_seconds: float = 30.0
    verify_command: tuple[str, ...] = ()
    verify_timeout: float = 3600.0
    verify_sample: int = 1000
    archive_retention: timedelta = timedelta(days=30)
    lineage_retention: timedelta | None = None
    gc_grace: timedelta = timedelta(hours=24)
    storage_options: dict[str, str] = Field(default_factory=dict)
    checks: tuple[Check, ...] = ()
    hooks: tuple[Hook, ...] = ()

    @property
    def zone(self) -> tzinfo:
        """The zone of the dates in new migration files."""
        return zone(self.timezone)

    @property
    def kept_lineage(self) -> timedelta:
        """How long the versions that a lineage entry names stay guarded."""
        return self.archive_retention if self.lineage_retention is None else self.lineage_retention

    def staged_root(self, *, timestamp: str, run: str) -> str:
        """The prefix of the staged root of a run."""
        return self.staging_prefix.format(timestamp=timestamp, run=run)


def read_settings(
    path: Path, name: str = MAIN, *, environ: Mapping[str, str], x: Sequence[str] = ()
) -> Settings:
    """The settings of section `name`, which inherits all keys of `[lancemig]`.

    An unknown key is allowed only if another value uses it as `%(key)s`.

    Args:
        path: lancemig.ini.
        name: The section.
        environ: The environment variables.
        x: `key=value` texts that override the file; they cannot set `protected`.

    Raises:
        ConfigError: A file, section, key or variable is missing or misspelt, a value is not valid, or a key
            has credentials; the message says where.
    """
    path = path.absolute()
    known = readers(path.parent)
    entries = read_entries(path, name, x)
    refuse_unknown(entries, known)
    expand = Expansion(entries, {"here": str(path.parent)}, environ)
    values: dict[str, Any] = {}
    for key in filter(known.__contains__, entries):
        try:
            values[key] = known[key](expand(key))
        except ValueError as error:
            refuse(f"{entries[key].where}: {error}", f"fix it in {path.name}, then: lancemig status")
    if "store" not in values:
        refuse(f"{path.name} [{name}] store is missing", "add `store = s3://bucket` or `store = PATH` there")
    if values.get("resolution") == "pinned" and "fallback_prefix" not in values:
        where = entries["resolution"].where
        refuse(f"{where} = pinned requires fallback_prefix", "add `fallback_prefix = …`, the root to use")
    options = {key.partition(".")[2]: values.pop(key) for key in list(values) if "." in key}
    given = {key: text for key, text in options.items() if text}
    values.setdefault("script_location", path.parent / "versions")
    values.setdefault("prepend_sys_path", (path.parent,))
    hooks = read_hooks(read_section(path, HOOKS), path.parent, environ)
    return Settings(name=name, path=path, storage_options=given, checks=_checks(path), hooks=hooks, **values)


def _checks(path: Path) -> tuple[Check, ...]:
    found = []
    for key, entry in read_section(path, CHECKS).items():
        try:
            found.append(read_check(key, entry.text))
        except ValueError as error:
            refuse(f"{entry.where}: {error}", f"fix it in {path.name}, then: lancemig audit")
    return tuple(found)


def template_ini() -> str:
    """The commented lancemig.ini that `lancemig init` writes."""
    return Path(__file__).with_name("template.ini").read_text(encoding="utf-8")


def filled_ini(values: Mapping[str, str]) -> str:
    """The template with these keys of `[lancemig]`, each in its place."""
    text = template_ini()
    for key, value in values.items():
        said = f"{key} = {value}".rstrip()
        line = re.search(rf"^(# )?{re.escape(key)} =.*$", text, re.MULTILINE)
        head = text.index(f"[{MAIN}]\n") + len(f"[{MAIN}]\n")
        start, end = line.span() if line else (head, head)
        text = f"{text[:start]}{said}{'' if line else chr(10)}{text[end:]}"
    return text


def ini_text(value: str) -> str:
    """A value escaped for lancemig.ini."""
    return value.replace("%", "%%").replace("$", "$$")
