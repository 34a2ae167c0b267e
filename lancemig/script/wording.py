"""How messages about files name a place, and what was probably meant."""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


def located(path: Path, line: int | None = None) -> str:
    """`versions/0007_x.py:12`, as editors and terminals jump to it."""
    return str(path) if line is None else f"{path}:{line}"


def close(text: str, names: Iterable[str], *, likeness: float = 0.6) -> list[str]:
    """The names most like `text`, whatever the case; those that contain it last."""
    by_lower = {name.lower(): name for name in names}
    found = get_close_matches(text.lower(), by_lower, n=3, cutoff=likeness)
    found += [name for name in by_lower if text and text.lower() in name and name not in found]
    return [by_lower[name] for name in found[:3]]


def did_you_mean(text: str, names: Iterable[str]) -> str:
    """`; did you mean column?`, or nothing where no name comes close."""
    found = close(text, names)
    return f"; did you mean {' or '.join(found)}?" if found else ""
