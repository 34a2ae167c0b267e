"""The base of every value: a frozen pydantic model that refuses unknown fields."""

import hashlib
import json
import re
from collections.abc import Iterable
from datetime import timedelta
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class FrozenModel(BaseModel):
    """Frozen, keyword-only, equal by content; an unknown field is refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        arbitrary_types_allowed=True,
        validate_default=True,
        serialize_by_alias=True,
    )


def canonical_json(document: Any) -> bytes:
    """The JSON text that digests are computed from: sorted keys, no blanks, UTF-8."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def digest(document: Any) -> str:
    """The sha256 of the canonical JSON of `document`, in hex."""
    return hashlib.sha256(canonical_json(document)).hexdigest()


_BOM = b"\xef\xbb\xbf"


def text_digest(content: bytes) -> str:
    """The sha256 of a text, in hex, regardless of a byte order mark and of how its lines end."""
    return hashlib.sha256(_normalized(content)).hexdigest()


def text_digests(content: bytes) -> frozenset[str]:
    """`text_digest`, and the digests that the releases before it recorded for a checkout of the same text.

    They hashed the bytes: with LF or CRLF, with or without a byte order mark, and as they are.
    """
    text = _normalized(content)
    spellings = [mark + one for mark in (b"", _BOM) for one in (text, text.replace(b"\n", b"\r\n"))]
    return frozenset(hashlib.sha256(one).hexdigest() for one in (*spellings, content))


def _normalized(content: bytes) -> bytes:
    return content.removeprefix(_BOM).replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def format_names(names: Iterable[str], most: int = 5) -> str:
    """The first names, and how many more there are: `a, b and 3 more`."""
    found = list(names)
    more = f" and {len(found) - most:,} more" if len(found) > most else ""
    return ", ".join(found[:most]) + more


def format_root(prefix: str) -> str:
    """A root as people read it: its prefix, or `./` for the root that is the store itself."""
    return prefix or "./"


def format_revision(revision: str | None, head: str | None = None) -> str:
    """A revision as people read it: `0007`, `0007 (head)` if it is the head, or `base`."""
    return f"{revision or 'base'}{' (head)' if revision is not None and revision == head else ''}"


class Kind(StrEnum):
    """What a migration promises to the programs that use the catalog; later kinds promise less."""

    DATA_ONLY = "data-only"
    ADDITIVE = "additive"
    REBUILD = "rebuild"

    @property
    def rank(self) -> int:
        """0, 1, 2: the strongest promise first."""
        return list(Kind).index(self)

    @classmethod
    def weakest(cls, kinds: "list[Kind]") -> "Kind":
        """The kind of a migration made of operations of these kinds; `data-only` for none."""
        return max(kinds, key=lambda kind: kind.rank, default=cls.DATA_ONLY)


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_LONGEST = 36_500 * _UNITS["d"]
_DURATION = re.compile(r"(\d+)\s*([smhdw])")


def duration(text: str) -> timedelta:
    """Parse a duration such as `30d`; ValueError for any other text."""
    found = _DURATION.fullmatch(text.strip().lower())
    if found is None:
        raise ValueError(f"{text!r} is not a duration; write for example 30d, 12h, 90m or 45s")
    seconds = int(found[1]) * _UNITS[found[2]]
    if seconds > _LONGEST:
        raise ValueError(f"{text!r} is longer than 100 years")
    return timedelta(seconds=seconds)


def duration_text(length: timedelta) -> str:
    """A duration in its largest whole unit: `30d`."""
    seconds = int(length.total_seconds())
    unit = next(unit for unit in ("d", "h", "m", "s") if seconds % _UNITS[unit] == 0)
    return f"{seconds // _UNITS[unit]}{unit}"


Phase = Literal["step", "stage", "catch-up", "verify", "flip", "reconcile"]


class Timing(FrozenModel):
    """How long one phase took, for one table or for all."""

    phase: Phase
    seconds: float
    table: str | None = None
    way: str | None = None
    """The strategy of a step, or how a table was copied into the staged root."""
    operation: str | None = None
    step: str | None = None
    rows: int | None = None
    """The planned number of rows, for the estimates of later plans; or the number of replicated rows."""
    bytes: int | None = None
    rounds: int | None = None
    """The number of rounds of replication."""
