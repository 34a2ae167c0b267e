"""What Lance leaves beside a table on a local disk whose path has characters that URLs escape.

It makes a folder for a branch's name below the path as a URL spells it, and then writes it below the real one
(tests/surface/test_lance_guards.py).
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from urllib.parse import quote

from lancemig.errors import StoreError

_ONE = Lock()
"""Two at once would take the folders away from each other."""

_BRANCHES = "_refs/branches"
_PLAIN = "".join(chr(code) for code in range(32, 127) if chr(code) not in '\\{^}%`]">[~<#|*?')


@contextmanager
def tidied(uri: str) -> Iterator[None]:
    """Let a branch of the table at `uri` be made, and remove the empty folders beside it.

    StoreError says what is the matter where they cannot be made.
    """
    spelt = quote(uri, safe=_PLAIN)
    if "://" in uri or spelt == uri:
        yield
        return
    with _ONE:
        yield from _tidied(uri, spelt)


def _tidied(uri: str, spelt: str) -> Iterator[None]:
    own = [folder for folder in _between(Path(spelt) / _BRANCHES, Path(uri)) if not folder.exists()]
    try:
        yield
    except Exception as error:
        if spelt not in str(error):
            raise
        raise StoreError(
            f"Lance cannot create a branch of {uri}: it would need the folder {spelt} as well",
            next_step="move the store to a path with only plain letters and digits, and set `store` in "
            "lancemig.ini",
        ) from error
    finally:
        for folder in own:
            with suppress(OSError):
                folder.rmdir()


def _between(wrong: Path, right: Path) -> Iterator[Path]:
    """`wrong` and the folders above it, up to where it is the same as `right`; the deepest first."""
    for folder in (wrong, *wrong.parents):
        if right.is_relative_to(folder):
            return
        yield folder
