"""Branches as Lance creates them on a disk: what a failed or an odd creation leaves behind."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from urllib.parse import quote

from lancemig.errors import StoreError
from lancemig.store.objects.location import is_url

_BRANCH_LOCK = Lock()
"""Serialises the creation of branches: two would remove each other's folders."""

_BRANCHES = "_refs/branches"
_PLAIN = "".join(chr(code) for code in range(32, 127) if chr(code) not in '\\{^}%`]">[~<#|*?')


@contextmanager
def tidied(uri: str) -> Iterator[None]:
    """Remove the empty folders that Lance leaves when it creates a branch of the table at `uri`.

    StoreError if Lance cannot create them.
    """
    # Lance encodes the tilde, too, which `quote` never does.
    quoted_uri = quote(uri, safe=_PLAIN).replace("~", "%7E")
    if is_url(uri) or quoted_uri == uri:
        yield
        return
    with _BRANCH_LOCK:
        yield from _tidied(uri, quoted_uri)


def _tidied(uri: str, quoted_uri: str) -> Iterator[None]:
    own = [folder for folder in _between(Path(quoted_uri) / _BRANCHES, Path(uri)) if not folder.exists()]
    try:
        yield
    except Exception as error:
        if quoted_uri not in str(error):
            raise
        raise StoreError(
            f"Lance cannot create a branch of {uri}: it would need the folder {quoted_uri} as well",
            next_step="move the store to a path with only plain letters and digits, and set `store` in "
            "lancemig.ini",
        ) from error
    finally:
        for folder in own:
            with suppress(OSError):
                folder.rmdir()


def _between(wrong: Path, right: Path) -> Iterator[Path]:
    """`wrong` and its parents that are not parents of `right`, the deepest first."""
    for folder in (wrong, *wrong.parents):
        if right.is_relative_to(folder):
            return
        yield folder


def is_half_created(error: OSError) -> bool:
    """Whether the creation of a branch failed since a crash has left a half of it."""
    text = str(error)
    return "Clone operation should not enter" in text or "was not found" in text
