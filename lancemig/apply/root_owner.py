"""The owner of a staged root: an object in the root that is written before anything else.

A bucket may have several catalogs, and staged roots of all of them. The `gc` of a catalog deletes only staged
roots that its own runs made in this store. Copies of a root do not have the object.
"""

import re
from collections.abc import Iterator

from lancemig.catalog.documents import DocumentType, StoredModel
from lancemig.errors import PlanError
from lancemig.store.documents import Documents
from lancemig.store.objects import Objects, PreconditionFailed

ROOT_OWNER_FORMAT = 1
ROOT_OWNER_FILE = "_lancemig-root.json"

COPY_RECORD_FILE = "_lancemig-copy.json"
"""The record beside a copy of a root (`apply/retention/copy.py`)."""
_PLACEHOLDER = re.compile(r"\{(timestamp|run)\}")


class RootOwner(StoredModel):
    """The run that staged a root, of the catalog whose pointer has this key in this store."""

    format: int = ROOT_OWNER_FORMAT
    store: str
    pointer: str
    run: str
    at: str


ROOT_OWNER = DocumentType(
    RootOwner,
    "root owner record",
    ROOT_OWNER_FORMAT,
    next_step="inspect {where}; remove it if no run wrote it",
)


def claim_root(objects: Objects, root: str, wanted: RootOwner) -> None:
    """Record the owner of a staged root; idempotent. PlanError if the root has another owner."""
    outcome = Documents(objects, ROOT_OWNER).write_if(root + ROOT_OWNER_FILE, wanted, None)
    if isinstance(outcome, PreconditionFailed):
        existing = read_root_owner(objects, root)
        if existing is None or existing.model_copy(update={"at": wanted.at}) != wanted:
            raise PlanError(
                f"{root} already exists and does not belong to run {wanted.run}",
                next_step="use {timestamp} and {run} in staging_prefix in lancemig.ini",
            )


def read_root_owner(objects: Objects, root: str) -> RootOwner | None:
    """The owner of a staged root; None if no owner is recorded, or the record cannot be parsed."""
    found = objects.read(root + ROOT_OWNER_FILE)
    if found is None:
        return None
    try:
        return ROOT_OWNER.decode(found.body, root + ROOT_OWNER_FILE)
    except (ROOT_OWNER.error, ROOT_OWNER.newer_error):
        return None


def staged_roots(objects: Objects, staging_prefix: str) -> Iterator[str]:
    """The folders in the store whose names match `staging_prefix` of lancemig.ini."""
    yield from _below(objects, "", staging_prefix.removesuffix("/").split("/"))


def _below(objects: Objects, folder: str, parts: list[str]) -> Iterator[str]:
    if not parts:
        yield folder
        return
    first, *rest = parts
    if not _PLACEHOLDER.search(first):
        yield from _below(objects, f"{folder}{first}/", rest)
        return
    shape = re.compile("".join(".+" if i % 2 else re.escape(t) for i, t in enumerate(_split(first))))
    for name in objects.folders(folder):
        if shape.fullmatch(name):
            yield from _below(objects, f"{folder}{name}/", rest)


def _split(part: str) -> list[str]:
    """Text and names of placeholders, alternating."""
    return _PLACEHOLDER.split(part)
