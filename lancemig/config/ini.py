"""Reading an ini file: sections, overrides by `-x`, the location of each value, and its references."""

import configparser
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from lancemig.config.checks import SECTION as CHECKS
from lancemig.config.values import FILE_TOKENS
from lancemig.errors import ConfigError
from lancemig.revisions.header import did_you_mean

MAIN = "lancemig"

_TOKEN = re.compile(r"%%|\$\$|%\((?P<key>[^()]+)\)s|\$\{(?P<variable>[^{}]+)\}|[%$]")
_ALEMBICS = re.compile(r"post_write_hooks|(logger|handler|formatter)(s|_.*)")
_CREDENTIAL = re.compile(r"secret|token|passw|credential|(access|account|api)_?key", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Entry:
    """A value as written, and its location: `lancemig.ini [prod] store`."""

    text: str
    where: str


def refuse(message: str, next_step: str) -> NoReturn:
    """Raise ConfigError."""
    raise ConfigError(message, next_step=next_step)


def read_entries(path: Path, name: str, x: Sequence[str]) -> dict[str, Entry]:
    """All keys of section `name`: `key=value` of `x` first, then its own, then those of `[lancemig]`."""
    return _entries(_sections(path), name, path.name) | _overrides(x)


def read_section(path: Path, section: str) -> dict[str, Entry]:
    """All keys of a section that belongs to all catalogs of the file; empty if it does not exist."""
    parser = _sections(path)
    found = parser[section].items() if section in parser else ()
    return {key: Entry(text, f"{path.name} [{section}] {key}") for key, text in found}


def _sections(path: Path) -> configparser.RawConfigParser:
    # No section can have this name, so that only [lancemig] is inherited.
    parser = configparser.RawConfigParser(default_section="\0", interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(path.read_text(encoding="utf-8-sig"), source=path.name)
    except FileNotFoundError:
        refuse(f"{path} does not exist", "create one: lancemig init; or use another: lancemig -c FILE …")
    except (OSError, UnicodeDecodeError) as error:
        refuse(f"{path} cannot be read: {error}", "use another file: lancemig -c FILE …")
    except configparser.Error as error:
        refuse(" ".join(error.message.split()), f"fix that line of {path.name}, then: lancemig status")
    if "DEFAULT" in parser:
        refuse(
            f"{path.name} has a [DEFAULT] section, which lancemig does not support",
            f"move its keys to [{MAIN}], which all sections inherit",
        )
    return parser


def _entries(parser: configparser.RawConfigParser, name: str, ini: str) -> dict[str, Entry]:
    there = [name for name in parser.sections() if name != CHECKS and not _ALEMBICS.fullmatch(name)]
    for wanted in (MAIN, name):
        if wanted not in there:
            found = ", ".join(f"[{section}]" for section in there) or "none"
            refuse(
                f"{ini} has no section [{wanted}]{did_you_mean(wanted, there)}",
                f"add [{wanted}] to {ini}, or choose another section with -n: {found}",
            )
    entries = {
        key: Entry(text, f"{ini} [{section}] {key}")
        for section in (MAIN, name)
        for key, text in parser[section].items()
    }
    for entry in entries.values():
        if "\n" in entry.text:
            refuse(
                f"{entry.where} continues on a second line", "start every key at the beginning of its line"
            )
    return entries


def _overrides(x: Sequence[str]) -> dict[str, Entry]:
    entries = {}
    for given in x:
        key, equals, text = given.partition("=")
        key = key.strip()
        if not equals or not key:
            refuse(f"-x {key} is not in the form key=value", "write -x key=value")
        if key in ("protected", "backup_max_age"):
            refuse(
                f"-x {key}: this key can be set only in the file",
                "lancemig … --confirm NAME --i-have-a-backup",
            )
        entries[key] = Entry(text.strip(), f"-x {key}")
    return entries


def refuse_unknown(entries: Mapping[str, Entry], known: Collection[str]) -> None:
    """Refuse keys that are neither known nor used by another value, and keys with credentials."""
    used = {m["key"] for entry in entries.values() for m in _TOKEN.finditer(entry.text)}
    for key, entry in entries.items():
        if _CREDENTIAL.search(key):
            refuse(
                f"{entry.where}: credentials must not be in a committed file",
                "remove it; lancemig finds credentials as the AWS tools do: AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, a role, or storage_options.profile",
            )
        if key not in known and key not in used:
            refuse(
                f"{entry.where} is not a known key{did_you_mean(key, known)}",
                f"fix or remove it; known keys: {', '.join(known)}",
            )


class Expansion:
    """Replaces `%(key)s`, `%(here)s`, `${VARIABLE}`, `%%` and `$$`; refuses unknown names."""

    def __init__(
        self, entries: Mapping[str, Entry], outside: Mapping[str, str], environ: Mapping[str, str]
    ) -> None:
        self._entries = entries
        self._outside = outside
        self._environ = environ

    def __call__(self, key: str, trail: tuple[str, ...] = ()) -> str:
        """The value of `key` with all references replaced; ValueError names one that is unknown."""
        if key in trail:
            raise ValueError(f"%({key})s refers to itself")
        return _TOKEN.sub(lambda match: self._token(match, (*trail, key)), self._entries[key].text)

    def _token(self, match: re.Match[str], trail: tuple[str, ...]) -> str:
        if match["key"]:
            return self._key(match["key"], trail)
        if match["variable"]:
            return self._variable(match["variable"])
        if match[0] in "%$":
            raise ValueError(f"write a literal {match[0]} as {match[0] * 2}")
        return match[0][0]

    def _key(self, key: str, trail: tuple[str, ...]) -> str:
        if key in self._outside:
            return self._outside[key]
        if key in self._entries:
            return self(key, trail)
        hint = (
            f"; write {{{key}}}"
            if key in FILE_TOKENS
            else did_you_mean(key, [*self._entries, *self._outside])
        )
        raise ValueError(f"%({key})s: this section has no such key{hint}")

    def _variable(self, name: str) -> str:
        if name not in self._environ:
            raise ValueError(f"the environment variable {name} is not set{did_you_mean(name, self._environ)}")
        return self._environ[name]
