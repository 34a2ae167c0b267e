"""Whose a staged root is: an object in it says so before anything else lies there.

A bucket may have several catalogs, and staged roots of all of them. Only what a catalog's own runs have
staged, in this very store, is ever collected by its `gc`. A copy of a root takes no claim along.
"""

import json
import re
from collections.abc import Iterator

from lancemig.catalog.value import FrozenModel, checked_format
from lancemig.errors import ConfigError, PlanError
from lancemig.store.objects import Objects, PreconditionFailed

CLAIM_FORMAT = 1
CLAIM = "_lancemig-root.json"
_PLACE = re.compile(r"\{(timestamp|run)\}")


class RootOwner(FrozenModel):
    """The run that staged a root, of the catalog whose pointer has this key in this store."""

    format: int = CLAIM_FORMAT
    store: str
    pointer: str
    run: str
    at: str


def claim_root(objects: Objects, root: str, wanted: RootOwner) -> None:
    """Say whose the staged root is; PlanError where it is another's. Asked twice it does no harm."""
    body = json.dumps(wanted.model_dump(mode="json"), indent=1).encode()
    outcome = objects.write_if(root + CLAIM, body, None)
    if isinstance(outcome, PreconditionFailed):
        there = read_root_owner(objects, root)
        if there is None or there.model_copy(update={"at": wanted.at}) != wanted:
            raise PlanError(
                f"{root} already exists and does not belong to run {wanted.run}",
                next_step="use {timestamp} and {run} in staging_prefix in lancemig.ini",
            )


def read_root_owner(objects: Objects, root: str) -> RootOwner | None:
    """Whose a staged root is; None where nobody says so, or not in a way that can be read."""
    found = objects.read(root + CLAIM)
    if found is None:
        return None
    try:
        document = json.loads(found.body)
        checked_format(document, CLAIM_FORMAT, root + CLAIM, next_step="upgrade lancemig")
        return RootOwner.model_validate(document)
    except (ValueError, ConfigError):
        return None


def staged_roots(objects: Objects, staging_prefix: str) -> Iterator[str]:
    """The folders in the store that are shaped like `staging_prefix` of lancemig.ini."""
    yield from _below(objects, "", staging_prefix.removesuffix("/").split("/"))


def _below(objects: Objects, folder: str, parts: list[str]) -> Iterator[str]:
    if not parts:
        yield folder
        return
    first, *rest = parts
    if not _PLACE.search(first):
        yield from _below(objects, f"{folder}{first}/", rest)
        return
    shape = re.compile("".join(".+" if i % 2 else re.escape(t) for i, t in enumerate(_split(first))))
    for name in objects.folders(folder):
        if shape.fullmatch(name):
            yield from _below(objects, f"{folder}{name}/", rest)


def _split(part: str) -> list[str]:
    """Text and placeholders in turn."""
    return _PLACE.split(part)
