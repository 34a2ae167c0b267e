"""Files that a table borrows from other tables, as shallow clones do, and how it is made independent of them.

The files are copied into the table's folder, and its fragments and indices then name the copies. Row ids, row
versions, deletions and the coverage of indices stay as they are (tests/surface/test_lance_borrowing.py).
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import lance
from lance import LanceOperation
from lance.dataset import Index as LanceIndex
from lance.fragment import DataFile, DeletionFile, FragmentMetadata

from lancemig.errors import StoreError
from lancemig.store.lance import indices
from lancemig.store.lance.errors import translated
from lancemig.store.lance.manifests import manifest_names
from lancemig.store.lance.staged import Staged, writes
from lancemig.store.lance.table import Table, is_blob
from lancemig.store.objects import Objects
from lancemig.store.objects.location import folder_key

Pair = tuple[str, str]


def within(places: Iterable[str], objects: Objects) -> bool:
    """Whether all these locations are in this store, so that the store itself can copy from them."""
    return all(folder_key(objects.uri, place) is not None for place in places)


def root_of(place: str, objects: Objects, catalog_dir: str) -> str:
    """The root of the table at the location `place`; the location itself if it is not in a root."""
    folder = folder_key(objects.uri, place)
    if folder is None:
        return place
    above = folder.rstrip("/").rpartition("/")[0]
    root = f"{above}/" if above else ""
    return root.removesuffix(catalog_dir) if root.endswith(catalog_dir) else folder


def borrowed(table: Table, objects: Objects, folder: str) -> list[Pair]:
    """The borrowed files of a table, as keys to copy from, and to in its `folder`.

    StoreError if a file is outside the store.
    """
    bases = table.dataset.base_paths()
    places = {id_: _place(table, bases[id_], objects) for id_ in table.bases}
    found = [(places[id_] + path, folder + path) for id_, path in _data_and_deletions(table)]
    found += _blob_pairs(table, objects, folder, places)
    for index in table.dataset.describe_indices():
        for segment in index.segments:
            if segment.base_id is not None:
                path = f"_indices/{segment.uuid}/"
                source = places[segment.base_id] + path
                found += [
                    (item.key, folder + path + item.key[len(source) :]) for item in objects.list(source)
                ]
    return sorted(set(found))


def missing(pairs: list[Pair], objects: Objects, folder: str) -> list[Pair]:
    """The pairs whose destination does not exist yet."""
    existing = {item.key for item in objects.list(folder)}
    return [pair for pair in pairs if pair[1] not in existing]


@writes
def rebase_fragments(table: Table) -> Staged | None:
    """Let fragments name the copies of borrowed files; None if none are borrowed."""
    rebased = [_without_base(one.metadata) for one in table.fragments if _borrows(one.metadata)]
    if not rebased:
        return None
    operation = LanceOperation.Update(
        updated_fragments=rebased, fields_modified=[], update_mode="rewrite_columns"
    )
    return Staged(operation, table.version)


@writes
def rebase_indices(table: Table) -> Staged | None:
    """Let indices name the copies of borrowed files, system indices included; None if none are borrowed.

    An index of an old release of Lance, which stored no details of it, is built again.
    """
    names = [
        i.name for i in table.dataset.describe_indices() if any(s.base_id is not None for s in i.segments)
    ]
    if not names:
        return None
    with translated(f"copying the indices of {table.name}"):
        old = _segments(table, *names)
        new = indices.detailed(table.dataset, old)
        if new is None:
            new = [one for name in names for one in _rebased_segments(table, name)]
        new = [replace(one, base_id=None) for one in new]
    return Staged(LanceOperation.CreateIndex(new, old), table.version)


def _rebased_segments(table: Table, name: str) -> list[LanceIndex]:
    known = indices.detailed(table.dataset, _segments(table, name))
    if known is not None:
        return known
    index = next((one for one in indices.described(table.dataset) if one.name == name), None)
    if index is None:
        raise StoreError(
            f"index {name} of {table.name} is stored in another root, in a form that lancemig cannot copy",
            next_step=f"drop the index {name} with Lance, then run the same command again",
        )
    return [indices.built(table.dataset, index, again=True)]


def _segments(table: Table, *names: str) -> list[LanceIndex]:
    return indices.segments(table.dataset, names)


def _data_and_deletions(table: Table) -> Iterator[tuple[int, str]]:
    for fragment in table.fragments:
        metadata = fragment.metadata
        for file in metadata.files:
            if file.base_id is not None:
                yield file.base_id, f"data/{file.path}"
        deletion = metadata.deletion_file
        if deletion is not None and deletion.base_id is not None:
            yield deletion.base_id, str(deletion.path(metadata.id))


def _blob_pairs(table: Table, objects: Objects, folder: str, places: dict[int, str]) -> Iterator[Pair]:
    """Blob payloads lie beside the data file whose stem names their folder."""
    if not any(is_blob(field) for field in table.columns):
        return
    for id_, path in _data_and_deletions(table):
        if path.startswith("data/"):
            stem = f"{path.rpartition('.')[0]}/"
            source = places[id_] + stem
            for item in objects.list(source):
                yield item.key, folder + stem + item.key[len(source) :]


def _borrows(metadata: FragmentMetadata) -> bool:
    deletion = metadata.deletion_file
    return any(file.base_id is not None for file in metadata.files) or (
        deletion is not None and deletion.base_id is not None
    )


def _without_base(metadata: FragmentMetadata) -> FragmentMetadata:
    files = [
        DataFile(
            str(file.path),
            list(file.fields),
            list(file.column_indices),
            file.file_major_version,
            file.file_minor_version,
            file.file_size_bytes,
            None,
        )
        for file in metadata.files
    ]
    deletion: Any = metadata.deletion_file
    if deletion is not None:
        deletion = DeletionFile(
            deletion.read_version, deletion.id, deletion.file_type, deletion.num_deleted_rows, None
        )
    return replace(metadata, files=files, deletion_file=deletion)


def _place(table: Table, base: Any, objects: Objects) -> str:
    key = folder_key(objects.uri, str(base.path))
    if key is None or not base.is_dataset_root:
        raise StoreError(
            f"table {table.name} borrows files from {base.path}, which is outside {objects.uri}",
            next_step=f'rewrite the table: RewriteTable(table="{table.name}", data_storage_version="stable")',
        )
    return key


def files_of(table: Table, objects: Objects, folder: str) -> tuple[list[str], str]:
    """The immutable files of the pinned version, and its manifest, as paths relative to the table's folder.

    The table must not borrow files. `folder` is the key of its folder.
    """
    found = [f"data/{file.path}" for f in table.fragments for file in f.metadata.files]
    found += [path for f in table.fragments if (path := f.deletion_file())]
    for index in table.dataset.describe_indices():
        for segment in index.segments:
            prefix = f"_indices/{segment.uuid}/"
            found += [_relative(item.key, folder) for item in objects.list(folder + prefix)]
    if any(is_blob(field) for field in table.columns):
        found += _blob_files(table, objects, folder)
    return sorted(set(found)), _manifest(table.dataset, objects, folder)


def staged_files(table: Table, operation: Any) -> dict[str, list[str]]:
    """The new files that a staged operation names, by folder.

    Lance commits without checking that they exist, and a table without them cannot be read.
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


def _blob_files(table: Table, objects: Objects, folder: str) -> list[str]:
    """Blob payloads lie beside the data file whose stem names their folder."""
    stems = {file.path.rpartition(".")[0] for f in table.fragments for file in f.metadata.files}
    return [
        relative
        for item in objects.list(f"{folder}data/")
        if (relative := _relative(item.key, folder)).count("/") > 1 and relative.split("/")[1] in stems
    ]


def _manifest(dataset: lance.LanceDataset, objects: Objects, folder: str) -> str:
    names = manifest_names(int(dataset.version))
    return next(
        _relative(item.key, folder)
        for item in objects.list(f"{folder}_versions/")
        if item.key.rpartition("/")[2] in names
    )


def _relative(key: str, folder: str) -> str:
    return key[len(folder) :]
