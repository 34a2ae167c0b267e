"""What two tables share, found without reading rows: immutable files of the same name and size."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lance.fragment import LanceFragment

from lancemig.store.lance.table import Table
from lancemig.store.objects import Objects

Place = tuple[str, str, int]
"""A file: its folder (empty if it may have been copied), its path, and its size in bytes."""


@dataclass(frozen=True)
class SharedFragment:
    """Two fragments with the same rows in the same order; `same` are the columns with the same files."""

    left: LanceFragment
    right: LanceFragment
    same: frozenset[str]


def shared_fragments(
    objects: Objects, left: Table, right: Table, folders: tuple[str, str], columns: Mapping[str, str]
) -> list[SharedFragment]:
    """The pairs of fragments with the same rows in the same order, by their files.

    Lance never rewrites a file, and gives each a unique name: a copied file has the same name and size, and a
    borrowed file is the same object.

    Args:
        objects: The store of both tables.
        left: A table.
        right: A table that may have files of `left`.
        folders: The keys of the folders of both tables.
        columns: The columns, as `{name in right: name in left}`.
    """
    sizes = {_uri(objects, folder): _sizes(objects, folder) for folder in folders}
    ours, theirs = (
        _Files(left, _uri(objects, folders[0]), sizes),
        _Files(right, _uri(objects, folders[1]), sizes),
    )
    owner = {file.path: fragment for fragment in left.fragments for file in fragment.metadata.files}
    shared: dict[int, SharedFragment] = {}
    for fragment in right.fragments:
        other = next((owner[f.path] for f in fragment.metadata.files if f.path in owner), None)
        # A fragment that exists twice is paired once.
        if other is None or other.fragment_id in shared:
            continue
        deleted = ours.deleted(other), theirs.deleted(fragment)
        if deleted[0] != deleted[1] or other.physical_rows != fragment.physical_rows:
            continue
        had, has = ours.states(other), theirs.states(fragment)
        same = {name for name, old in columns.items() if has[name] is not None and has[name] == had[old]}
        shared[other.fragment_id] = SharedFragment(other, fragment, frozenset(same))
    return list(shared.values())


def _uri(objects: Objects, folder: str) -> str:
    return f"{objects.uri}/{folder}".rstrip("/")


def _sizes(objects: Objects, folder: str) -> dict[str, int]:
    return {
        item.key.removeprefix(folder): item.size
        for part in ("data/", "_deletions/")
        for item in objects.list(f"{folder}{part}")
    }


class _Files:
    """The files of one table: which of them hold a column of a fragment.

    `sizes` are the sizes of existing files, by folder: the table's `own`, and that of the other table.
    """

    def __init__(self, table: Table, own: str, sizes: Mapping[str, Mapping[str, int]]) -> None:
        self.table = table
        self.own = own
        self.sizes = sizes
        self.bases = {id_: str(base.path).rstrip("/") for id_, base in table.dataset.base_paths().items()}

    def states(self, fragment: LanceFragment) -> dict[str, list[Any] | None]:
        """The files with the values of each column, and the positions in them.

        None for a column of which a file does not exist.
        """
        found: dict[str, list[Any] | None] = {name: [] for name in self.table.column_ids}
        for file in fragment.metadata.files:
            places = dict(zip(file.fields, file.column_indices, strict=False))
            place = self._place(f"data/{file.path}", file.base_id, file.file_size_bytes)
            for name, ids in self.table.column_ids.items():
                held = [places.get(id_, -1) for id_ in sorted(ids)]
                if max(held) < 0:
                    continue
                known = found[name]
                found[name] = None if known is None or place is None else [*known, (place, held)]
        return {name: None if files is None else sorted(files) for name, files in found.items()}

    def deleted(self, fragment: LanceFragment) -> Place | None:
        """The deletion file of a fragment, if it has one; one that does not exist equals no other."""
        path, deletion = fragment.deletion_file(), fragment.metadata.deletion_file
        if not path or deletion is None:
            return None
        return self._place(path, deletion.base_id, None) or (self.own, path, -1)

    def _place(self, path: str, base: int | None, size: int | None) -> Place | None:
        folder = self.own if base is None else self.bases.get(base, "")
        sizes = self.sizes.get(folder)
        if sizes is None:
            return (folder, path, size or -1)
        return ("", path, sizes[path]) if path in sizes else None
