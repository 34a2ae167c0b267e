"""Staging: a change is prepared against one pinned version, as a transaction that is not yet committed.

Readers see none of it: no version names the written files until `Tables.commit`. Which staged transactions
conflict with which commits of other writers is pinned in tests/surface/test_lance_conflicts.py.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from lance import LanceOperation
from lance.fragment import FragmentMetadata, LanceFragment, RowIdSequence, write_fragments

from lancemig.catalog.schema import KEY, Index
from lancemig.errors import PlanError, StoreError
from lancemig.store.lance import schema_edit
from lancemig.store.lance.errors import translated
from lancemig.store.lance.indices import built, segments
from lancemig.store.lance.patches import grafted, null_field, patch
from lancemig.store.lance.staged import Staged, writes
from lancemig.store.lance.table import AT_ONCE, ROW_ADDRESS, ROW_ID, Table, is_blob
from lancemig.store.lance.writing import stream

_TEMPORARY = "__lancemig_new"
_FRAGMENT_BITS = 32

_MOST_RANGES = 50
"""With more ranges in a condition, Lance takes long to plan it."""

Values = Callable[[LanceFragment], Iterator[pa.Array]]


class RepeatedRows(NamedTuple):
    """The repeated rows of one fragment."""

    fragment: LanceFragment

    offsets: Any
    """The ascending offsets of the rows to delete, as an array."""

    stays: bool
    """Whether a row of this fragment stays for a row that is deleted, here or in another fragment."""


@writes
def null_column(table: Table, field: pa.Field, known: dict[str, schema_edit.LanceSchema]) -> Staged:
    """Add a nullable column without values: an entry in the schema, no files.

    A field of a struct gets its nulls written, with the rest of its struct: Lance cannot filter a fragment
    whose files lack a field of a struct (tests/surface/test_lance_schema.py).

    `known` memoises the schema by layout, so that staging again after a conflict with an append is as quick
    as an append.
    """
    if table.layout not in known:
        with translated(f"adding column {field.name} to {table.name}"):
            known[table.layout] = schema_edit.with_null_column(table.dataset, field)
    schema = known[table.layout]
    head, _, path = field.name.partition(".")
    # Lance cannot read a column with a backtick in its name by that name.
    written = path and "`" not in head
    fragments = null_field(table, field, schema) if written else _metadata(table.fragments)
    return Staged(LanceOperation.Merge(fragments, schema, preserves_nullability=True), table.version)


@writes
def renamed_column(table: Table, path: str, to: str) -> Staged:
    """Rename the field at `path`."""
    with translated(f"renaming {table.name}.{path}"):
        schema = schema_edit.renamed(table.dataset.lance_schema, path, to)
    return Staged(LanceOperation.Project(schema, preserves_nullability=True), table.version)


@writes
def dropped_column(table: Table, path: str) -> Staged:
    """Remove the field at `path` from the schema.

    Lance cannot read a fragment whose files have none of the remaining columns, which happens if all of them
    were added as null (tests/surface/test_lance_schema.py). There, the nulls of one column are written.
    """
    with translated(f"dropping {table.name}.{path}"):
        schema = schema_edit.without(table.dataset.lance_schema, path)
    left = schema_edit.ids_of(schema)
    bare = [f for f in table.fragments if not any(left & set(file.fields) for file in f.metadata.files)]
    if not bare:
        return Staged(LanceOperation.Project(schema, preserves_nullability=True), table.version)
    column = _writable(table, [field.name() for field in schema.fields()], path)
    patches = [patch(table, f, table.read([column], fragments=[f], row_ids=True)) for f in bare]
    written = {metadata.id: metadata for metadata in grafted(table, patches)}
    # A Project removes files that have no column left; a Merge does not.
    fragments = [
        replace(found, files=[file for file in found.files if left & set(file.fields)])
        for found in (written.get(metadata.id, metadata) for metadata in _metadata(table.fragments))
    ]
    return Staged(LanceOperation.Merge(fragments, schema), table.version)


def _writable(table: Table, names: list[str], dropped: str) -> str:
    """A column whose nulls can be written, preferably not a nested one."""
    fields = [field for field in map(table.columns.field, names) if not is_blob(field)]
    if not fields:
        raise PlanError(
            f"{table.name}.{dropped} is the last column with values; a table with only null blobs "
            "cannot be written",
            next_step="drop the table, or fill one of its blob columns first",
        )
    return str(min(fields, key=lambda field: pa.types.is_nested(field.type)).name)


@writes
def nullability(table: Table, path: str, *, nullable: bool) -> Staged:
    """Allow or refuse nulls from now on; the caller has checked that there are none."""
    with translated(f"changing whether {table.name}.{path} may be null"):
        schema = schema_edit.with_nullable(table.dataset.lance_schema, path, nullable=nullable)
    return Staged(LanceOperation.Project(schema, preserves_nullability=nullable), table.version)


@writes
def recomputed_column(table: Table, column: str, field: pa.Field, values: Values) -> Staged:
    """Replace `column` by `field`; `values` yields the values of a fragment, for its live rows in order.

    Writes only that column's files, streaming. `preserves_nullability` stays false: an append that was
    written before and commits after would read as null otherwise
    (tests/surface/test_lance_conflicts.py).
    """
    fragments, schema = _computed(table, column, field, values)
    with translated(f"computing {table.name}.{column}"):
        schema = schema_edit.replaced(schema, column, _TEMPORARY, nullable=field.nullable)
    operation = LanceOperation.Merge(fragments, schema, preserves_nullability=False)
    return Staged(operation, table.version).counted(table.count())


@writes
def computed_beside(table: Table, column: str, field: pa.Field, values: Values) -> Staged:
    """Like `recomputed_column`, but as a temporary column, until `taken_place` replaces `column`."""
    fragments, schema = _computed(table, column, field, values)
    operation = LanceOperation.Merge(fragments, schema, preserves_nullability=False)
    return Staged(operation, table.version).counted(table.count())


@writes
def taken_place(table: Table, column: str) -> Staged:
    """Replace `column` by the temporary column of `computed_beside`."""
    nullable = table.columns.field(column).nullable
    with translated(f"replacing {table.name}.{column}"):
        schema = schema_edit.replaced(table.dataset.lance_schema, column, _TEMPORARY, nullable=nullable)
    return Staged(LanceOperation.Project(schema, preserves_nullability=nullable), table.version)


def _computed(
    table: Table, column: str, field: pa.Field, values: Values
) -> tuple[list[FragmentMetadata], schema_edit.LanceSchema]:
    new = field.with_name(_TEMPORARY).with_nullable(True)
    fragments: list[FragmentMetadata] = []
    schema = None
    with translated(f"computing {table.name}.{column}"):
        for fragment in table.fragments:
            arrays = (
                pa.record_batch([array], names=[new.name]) for array in values(_fresh_handle(table, fragment))
            )
            with stream(arrays, pa.schema([new])) as reader:
                metadata, schema = fragment.merge_columns(reader)
            fragments.append(metadata)
        return fragments, schema or schema_edit.with_null_column(table.dataset, new)


def _fresh_handle(table: Table, fragment: LanceFragment) -> LanceFragment:
    """The same fragment under another handle: a handle cannot be read while it is merged into."""
    return table.dataset.get_fragment(fragment.fragment_id) or fragment


@writes
def deleted_rows(table: Table, where: str) -> Staged | None:
    """Delete the rows that match `where`; None if there are none."""
    updated: list[FragmentMetadata] = []
    removed: list[int] = []
    rows = 0
    with translated(f"deleting from {table.name} where {where}"), ThreadPoolExecutor(AT_ONCE) as threads:
        condition = table.sql(where)
        all_left = threads.map(lambda fragment: fragment.delete(condition), table.fragments)
        for fragment, left in zip(table.fragments, all_left, strict=True):
            before = fragment.metadata
            if left is None:
                removed.append(fragment.fragment_id)
                rows += before.num_rows
            elif left.deletion_file != before.deletion_file:
                updated.append(left)
                rows += before.num_rows - left.num_rows
    operation = LanceOperation.Delete(updated, removed, where)
    return Staged(operation, table.version).counted(rows) if updated or removed else None


def deleted_at(table: Table, addresses: Iterable[int]) -> Staged | None:
    """Delete the rows at these addresses of the pinned version; None if there are no addresses."""
    listed = ", ".join(map(str, sorted(set(addresses))))
    return deleted_rows(table, f"{ROW_ADDRESS} in ({listed})") if listed else None


@writes
def deleted_repeats(table: Table, rows: Iterable[RepeatedRows], why: str) -> Staged | None:
    """Delete repeated rows, unless another writer changes the rows that stay; None if there are none.

    The fragments of the rows that stay are part of the transaction as they are, so that it conflicts with a
    commit that deletes or moves one of these rows (tests/surface/test_lance_conflicts.py).

    Args:
        table: The pinned version.
        rows: The rows to delete and whether rows stay, by fragment.
        why: The reason, as the transaction records it.
    """
    updated: list[FragmentMetadata] = []
    removed: list[int] = []
    count = 0
    with translated(f"deleting repeated rows of {table.name}"):
        for fragment, offsets, stays in rows:
            count += len(offsets)
            if len(offsets) == fragment.metadata.num_rows:
                removed.append(fragment.fragment_id)
            elif len(offsets):
                left = fragment.delete(_at_offsets(fragment, offsets))
                if left is None:
                    raise StoreError(
                        f"fragment {fragment.fragment_id} of {table.name} would lose all of its rows",
                        next_step="run the same command again",
                    )
                updated.append(left)
            elif stays:
                updated.append(fragment.metadata)
    operation = LanceOperation.Delete(updated, removed, why)
    return Staged(operation, table.version).counted(count) if count else None


def _at_offsets(fragment: LanceFragment, offsets: Any) -> str:
    """A condition for the rows of a fragment at these ascending offsets: as ranges, and single rows."""
    addresses = offsets + (fragment.fragment_id << _FRAGMENT_BITS)
    runs = np.split(addresses, np.flatnonzero(np.diff(addresses) != 1) + 1)
    single = [str(run[0]) for run in runs if len(run) == 1]
    ranges = [f"{ROW_ADDRESS} between {run[0]} and {run[-1]}" for run in runs if len(run) > 1]
    if len(ranges) > _MOST_RANGES:
        single, ranges = list(map(str, addresses.tolist())), []
    listed = [f"{ROW_ADDRESS} in ({', '.join(single)})"] if single else []
    return " or ".join([*ranges, *listed])


@writes
def replaced_rows(
    table: Table, rows: pa.Table, places: pa.Table, gone: Collection[int] = ()
) -> Staged | None:
    """Replace, insert and delete rows; None if there is nothing to do.

    A replaced row moves to a new fragment and keeps its stable row id.

    Args:
        table: The pinned version.
        rows: The new rows: first one for each of `places`, in that order; the others are inserted.
        places: `_rowid` and `_rowaddr` of the rows that are replaced.
        gone: Addresses of rows that are deleted.
    """
    if not rows.num_rows:
        return deleted_at(table, gone)
    ids, addresses = (places.column(name).to_numpy() for name in (ROW_ID, ROW_ADDRESS))
    addresses = np.concatenate([addresses, np.asarray(gone, dtype=np.uint64)])
    with translated(f"writing rows of {table.name}"):
        # From the pinned handle: field ids are those of its version.
        appended: Any = write_fragments(
            rows,
            table.dataset,
            schema=table.columns,
            return_transaction=True,
            mode="append",
            data_storage_version=str(table.dataset.data_storage_version),
        ).operation
        new = _with_row_ids(appended.fragments, ids) if table.stable_row_ids else appended.fragments
        updated, removed = _without(table, addresses)
    operation = LanceOperation.Update(
        removed_fragment_ids=removed,
        updated_fragments=updated,
        new_fragments=new,
        # With stable row ids, an index would count the new fragments as covered, and miss their new rows
        # (tests/surface/test_lance_upserts.py).
        fields_for_preserving_frag_bitmap=list(range(table.dataset.max_field_id + 1)),
        update_mode="rewrite_rows",
    )
    return Staged(operation, table.version).counted(rows.num_rows + len(gone))


def _with_row_ids(new: list[FragmentMetadata], ids: Any) -> list[FragmentMetadata]:
    """The new fragments; their first rows get the row ids of the rows that they replace."""
    found, start = [], 0
    for fragment in new:
        own = [int(id_) for id_ in ids[start : start + fragment.physical_rows]]
        start += fragment.physical_rows
        meta = RowIdSequence(own).to_inline_metadata() if own else fragment.row_id_meta
        found.append(replace(fragment, row_id_meta=meta))
    return found


def _without(table: Table, addresses: Any) -> tuple[list[FragmentMetadata], list[int]]:
    """The fragments without the rows at these addresses, and the ids of fragments that lose all rows."""
    updated: list[FragmentMetadata] = []
    removed: list[int] = []
    owners = addresses >> _FRAGMENT_BITS
    for fragment in table.fragments:
        gone = addresses[owners == fragment.fragment_id]
        if not len(gone):
            continue
        left = None
        if len(gone) < fragment.metadata.num_rows:
            left = fragment.delete(f"{ROW_ADDRESS} in ({', '.join(map(str, gone.tolist()))})")
        if left is None:
            removed.append(fragment.fragment_id)
        else:
            updated.append(left)
    return updated, removed


@writes
def metadata_entries(table: Table, entries: Mapping[str, str | None], path: str | None) -> Staged:
    """Set or (with None) remove entries of the schema's metadata, or of the field at `path`."""
    update = LanceOperation.UpdateMap(dict(entries))
    if path is None:
        operation = LanceOperation.UpdateConfig(schema_metadata_updates=update)
    else:
        id_ = schema_edit.field_id(table.dataset.lance_schema, path)
        operation = LanceOperation.UpdateConfig(field_metadata_updates={id_: update})
    return Staged(operation, table.version)


@writes
def settings(
    table: Table, config: Mapping[str, str | None], metadata: Mapping[str, str | None]
) -> Staged | None:
    """Set or (with None) remove entries of the table's configuration and metadata; None without entries."""
    if not config and not metadata:
        return None
    operation = LanceOperation.UpdateConfig(
        config_updates=LanceOperation.UpdateMap(dict(config)) if config else None,
        table_metadata_updates=LanceOperation.UpdateMap(dict(metadata)) if metadata else None,
    )
    return Staged(operation, table.version)


def stored_key(table: Table, key: tuple[str, ...]) -> Staged:
    """Store `key` in the table's metadata; an empty key is removed."""
    return metadata_entries(table, {KEY: json.dumps(list(key)) if key else None}, None)


@writes
def index(table: Table, wanted: Index) -> Staged:
    """Build an index over all rows; an index of that name is replaced."""
    with translated(f"building the index {wanted.name} on {table.name}"):
        old = segments(table.dataset, [wanted.name])
        new = built(table.dataset, wanted, again=bool(old))
    return Staged(LanceOperation.CreateIndex([new], old), table.version)


@writes
def no_index(table: Table, names: Iterable[str]) -> Staged | None:
    """Drop the indices called `names`; None if there are none."""
    with translated(f"dropping indices of {table.name}"):
        old = segments(table.dataset, names)
    return Staged(LanceOperation.CreateIndex([], old), table.version) if old else None


def _metadata(fragments: Iterable[LanceFragment]) -> list[FragmentMetadata]:
    return [fragment.metadata for fragment in fragments]
