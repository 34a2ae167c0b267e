"""Which files one version of a table consists of, and carrying them to another root."""

from typing import Any

import lance

from lancemig.store.objects import Objects
from lancemig.store.tables.table import Table
from lancemig.store.tables.widths import is_blob

_NEWEST = 2**64 - 1


def files_of(table: Table, objects: Objects, folder: str) -> tuple[list[str], str]:
    """The immutable files of the pinned version and, apart, its manifest; paths relative to the table.

    `folder` is the key of the table's folder. The table must not borrow files from outside it.
    """
    found = [f"data/{file.path}" for f in table.fragments for file in f.metadata.files]
    found += [path for f in table.fragments if (path := f.deletion_file())]
    for index in table.dataset.describe_indices():
        for segment in index.segments:
            prefix = f"_indices/{segment.uuid}/"
            found += [_relative(item.key, folder) for item in objects.list(folder + prefix)]
    if any(is_blob(field) for field in table.columns):
        found += _blobs(table, objects, folder)
    return sorted(set(found)), _manifest(table.dataset, objects, folder)


def staged_files(table: Table, operation: Any) -> dict[str, list[str]]:
    """The files that a staged operation names and the pinned version does not, by folder.

    Lance's commit does not look whether they are there, and a table without them cannot be read.
    """
    metadata = [fragment.metadata for fragment in table.fragments]
    known = {file.path for one in metadata for file in one.files if file.base_id is None}
    deleted = {
        str(one.deletion_file.path(one.id))
        for one in metadata
        if one.deletion_file and one.deletion_file.base_id is None
    }
    fragments: list[Any] = [
        fragment
        for name in ("fragments", "updated_fragments", "new_fragments")
        for fragment in getattr(operation, name, None) or []
    ]
    data = {file.path for f in fragments for file in f.files if file.base_id is None} - known
    deletions = {
        str(f.deletion_file.path(f.id))
        for f in fragments
        if f.deletion_file and f.deletion_file.base_id is None
    } - deleted
    return {"data": sorted(data), "_deletions": sorted(path.rpartition("/")[2] for path in deletions)}


def _blobs(table: Table, objects: Objects, folder: str) -> list[str]:
    """Blob payloads lie beside the data file whose stem names their folder."""
    stems = {file.path.rpartition(".")[0] for f in table.fragments for file in f.metadata.files}
    return [
        relative
        for item in objects.list(f"{folder}data/")
        if (relative := _relative(item.key, folder)).count("/") > 1 and relative.split("/")[1] in stems
    ]


def manifest_version(name: str) -> int | None:
    """The version that a manifest of this file name is of; None for what is no manifest."""
    stem, dot, suffix = name.partition(".")
    if not dot or suffix != "manifest" or not stem.isdigit():
        return None
    number = int(stem)
    return _NEWEST - number if number > _NEWEST // 2 else number


def _manifest(dataset: lance.LanceDataset, objects: Objects, folder: str) -> str:
    version = int(dataset.version)
    # Newer tables count manifests down from 2^64 - 1, so that the latest is listed first.
    names = {f"{_NEWEST - version:020d}.manifest", f"{version}.manifest"}
    return next(
        _relative(item.key, folder)
        for item in objects.list(f"{folder}_versions/")
        if item.key.rpartition("/")[2] in names
    )


def _relative(key: str, folder: str) -> str:
    return key[len(folder) :]
