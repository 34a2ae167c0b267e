"""New files for some columns of a fragment, put onto it as it is when they are committed.

A patch is made for a fragment as one version has it. Other writers may delete rows of that fragment, or
write new files for other columns, before the patch is committed: its files still fit, for rows keep places.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lance import LanceOperation
from lance.fragment import DataFile, FragmentMetadata, LanceFragment

from lancemig.catalog.arrow_arrays import nulls
from lancemig.store.lance import schema_edit
from lancemig.store.lance.errors import translated
from lancemig.store.lance.staged import Staged, writes
from lancemig.store.lance.table import MANY, ROW_ADDRESS, ROW_ID, Table, is_blob
from lancemig.store.lance.writing import stream

_NO_RUNS = 12_346
_MOST_LISTED = 4096
_BYTES = 8192


def offsets_within(addresses: Any) -> bytes:
    """The offsets of these row addresses, all of one fragment (tests/store/test_patches.py)."""
    offsets = np.unique(np.asarray(addresses, dtype=np.uint64) & np.uint64(0xFFFF_FFFF))
    keys, starts = np.unique(offsets >> np.uint64(16), return_index=True)
    parts = np.split((offsets & np.uint64(0xFFFF)).astype("<u2"), starts[1:])
    containers = [_container(part) for part in parts] if len(offsets) else []
    sizes = np.array([len(part) - 1 for part in parts][: len(containers)], dtype="<u2")
    descriptions = np.stack([keys.astype("<u2"), sizes], axis=1)
    first = 8 + 8 * len(containers)
    at = first + np.cumsum([0, *(len(one) for one in containers)], dtype="<u4")[: len(containers)]
    head = np.array([_NO_RUNS, len(containers)], dtype="<u4")
    return b"".join([head.tobytes(), descriptions.tobytes(), at.astype("<u4").tobytes(), *containers])


def _container(offsets: Any) -> bytes:
    if len(offsets) <= _MOST_LISTED:
        return bytes(offsets.tobytes())
    bits = np.zeros(_BYTES * 8, dtype=np.uint8)
    bits[offsets] = 1
    return bytes(np.packbits(bits, bitorder="little").tobytes())


_NEW = "__lancemig_new_"
_NO_FIELD = -2
"""What stands in a file's list of fields for a column that lies in a newer file."""


@dataclass(frozen=True)
class Patch:
    """New files of one fragment; `fields` are the ids of the columns in them.

    `offsets` says in Lance's form which rows change, `rows` how many. `schema` is the table's with the new
    column, if the patch adds one.
    """

    fragment: int
    files: tuple[DataFile, ...]
    fields: tuple[int, ...]
    offsets: bytes
    rows: int
    schema: schema_edit.LanceSchema | None = None


@writes
def patch(table: Table, fragment: LanceFragment, values: pa.Table) -> Patch:
    """Write new values of single rows of one fragment; `values` holds `_rowid` and the columns.

    Only the files of those columns are written. With `_rowaddr` as well, it takes a fraction of the time.
    """
    names = [name for name in values.column_names if name not in (ROW_ID, ROW_ADDRESS)]
    if ROW_ADDRESS in values.column_names:
        if _streamed(table, names):
            return _rewritten(table, fragment, values, names)
        values = values.drop_columns([ROW_ADDRESS])
    with translated(f"writing {', '.join(names)} of {table.name}"):
        metadata, modified, changed = fragment.update_columns(
            values, left_on=ROW_ID, right_on=ROW_ID, with_offsets=True
        )
    return Patch(metadata.id, _new_files(fragment, metadata), tuple(modified), changed, values.num_rows)


def _streamed(table: Table, names: Sequence[str]) -> bool:
    """Whether new files of these columns can be written whole, as those of other columns, and called theirs.

    Where a field is one column of the file, that is; and the oldest files name their columns themselves.
    """
    fields = [table.columns.field(name) for name in names]
    types = [field.type.value_type if _is_vector(field.type) else field.type for field in fields]
    odd = (pa.types.is_nested, pa.types.is_dictionary, lambda of: isinstance(of, pa.BaseExtensionType))
    simple = not any(is_(of) for of in types for is_ in odd) and not any(is_blob(field) for field in fields)
    return simple and str(table.dataset.data_storage_version).startswith("2.")


def _is_vector(of: pa.DataType) -> bool:
    return bool(pa.types.is_fixed_size_list(of) and pa.types.is_primitive(of.value_type))


def _rewritten(table: Table, fragment: LanceFragment, values: pa.Table, names: Sequence[str]) -> Patch:
    """Write the columns whole, with their new values where they have some.

    Lance's own `update_columns` looks every row up by a join.
    """
    values = values.sort_by(ROW_ADDRESS).combine_chunks()
    places = values.column(ROW_ADDRESS).to_numpy()
    new = {name: _one(values.column(name)) for name in names}
    fields = [table.columns.field(name).with_name(f"{_NEW}{name}").with_nullable(True) for name in names]

    def batches() -> Iterator[pa.RecordBatch]:
        size = table.batch_size(names, MANY)
        for batch in table.batches(names, fragments=[fragment], addresses=True, batch_size=size):
            rows = batch.column(ROW_ADDRESS).to_numpy()
            first, last = np.searchsorted(places, [rows[0], rows[-1] + 1]) if len(rows) else (0, 0)
            at = np.searchsorted(rows, places[first:last])
            arrays = [
                _replaced(batch.column(name), new[name].slice(first, last - first), at) for name in names
            ]
            yield pa.record_batch(arrays, names=[field.name for field in fields])

    into = table.dataset.get_fragment(fragment.fragment_id) or fragment
    with (
        translated(f"writing {', '.join(names)} of {table.name}"),
        stream(batches(), pa.schema(fields)) as reader,
    ):
        metadata, schema = into.merge_columns(reader)
    old = table.dataset.lance_schema
    ids = {
        schema_edit.field_id(schema, field.name): schema_edit.field_id(old, name)
        for field, name in zip(fields, names, strict=True)
    }
    files = tuple(_called(file, ids) for file in _new_files(fragment, metadata))
    return Patch(metadata.id, files, tuple(ids.values()), offsets_within(places), len(places))


def _replaced(old: pa.Array, new: pa.Array, at: Any) -> pa.Array:
    """`old` with the values of `new` at these places, which ascend."""
    mask = np.zeros(len(old), dtype=bool)
    mask[at] = True
    # Not of every type, but several times faster.
    with suppress(pa.ArrowNotImplementedError):
        return pc.replace_with_mask(old, pa.array(mask), new)
    places = np.arange(len(old))
    places[at] = len(old) + np.arange(len(new))
    return pa.concat_arrays([old, new]).take(pa.array(places))


def _one(column: pa.ChunkedArray) -> pa.Array:
    found = column.combine_chunks()
    return found.chunk(0) if isinstance(found, pa.ChunkedArray) else found


def patched(table: Table, patches: Sequence[Patch]) -> Staged | None:
    """All `patches` put onto the fragments of the pinned version, as one change; None for none."""
    if not patches:
        return None
    operation = LanceOperation.Update(
        updated_fragments=grafted(table, patches),
        # Without these an index keeps answering with the old values.
        fields_modified=sorted({field for one in patches for field in one.fields}),
        update_mode="rewrite_columns",
        updated_fragment_offsets={one.fragment: one.offsets for one in patches},
    )
    return Staged(operation, table.version).counted(sum(one.rows for one in patches))


def updated_rows(table: Table, changes: Iterable[tuple[LanceFragment, pa.Table]]) -> Staged | None:
    """Set columns of single rows, fragment by fragment; None when nothing changes."""
    return patched(table, [patch(table, fragment, values) for fragment, values in changes if values.num_rows])


@writes
def column_patch(
    table: Table, fragment: LanceFragment, field: pa.Field, values: Iterator[pa.Array], rows: int
) -> Patch:
    """Write a new column of one fragment, streaming: `values` for its live rows, in their order."""
    # A fragment that is merged into cannot be read from meanwhile, so it gets a handle of its own.
    into = table.dataset.get_fragment(fragment.fragment_id) or fragment
    batches = (pa.record_batch([array], names=[field.name]) for array in values)
    with (
        translated(f"computing {table.name}.{field.name}"),
        stream(batches, pa.schema([field])) as reader,
    ):
        metadata, schema = into.merge_columns(reader)
    files = _new_files(fragment, metadata)
    return Patch(metadata.id, files, tuple(id_ for file in files for id_ in file.fields), b"", rows, schema)


@writes
def expression_patch(table: Table, fragment: LanceFragment, field: pa.Field, sql: str) -> Patch:
    """Write a new column of one fragment, whose values Lance computes from `sql`, which has its very type."""
    # A fragment that is merged into cannot be read from meanwhile, so it gets a handle of its own.
    into = table.dataset.get_fragment(fragment.fragment_id) or fragment
    with translated(f"computing {table.name}.{field.name}"):
        metadata, schema = into.merge_columns({field.name: sql}, batch_size=table.batch_size([sql], MANY))
    files = _new_files(fragment, metadata)
    fields = tuple(id_ for file in files for id_ in file.fields)
    return Patch(metadata.id, files, fields, b"", fragment.count_rows(), schema)


@writes
def with_column(table: Table, field: pa.Field, patches: Sequence[Patch]) -> Staged:
    """Add a column, its values in `patches`: one for each fragment of the pinned version."""
    schema = patches[0].schema if patches else schema_edit.with_null_column(table.dataset, field)
    operation = LanceOperation.Merge(grafted(table, patches), schema, preserves_nullability=True)
    return Staged(operation, table.version).counted(sum(one.rows for one in patches))


@writes
def null_field(table: Table, field: pa.Field, schema: schema_edit.LanceSchema) -> list[FragmentMetadata]:
    """Write the struct that gets a field, with nulls for it, in each fragment of the pinned version.

    Args:
        table: The table.
        field: The field, called by its path.
        schema: The schema of the table with the field; the ids of the other fields stay.

    Returns:
        The fragments with files that hold the field.
    """
    head, *path = field.name.split(".")
    after = next(found for found in schema.to_pyarrow() if found.name == head)
    temporary = after.with_name(f"{_NEW}{head}").with_nullable(True)
    wanted = next(found for found in schema.fields() if found.name() == head)

    def values(fragment: LanceFragment) -> Iterator[pa.Array]:
        for batch in table.batches([head], fragments=[fragment]):
            yield _with_null_field(batch.column(head), path, field.type, after.type)

    patches = []
    for fragment in table.fragments:
        one = column_patch(table, fragment, temporary, values(fragment), fragment.count_rows())
        made = next(f for f in (one.schema or schema).fields() if f.name() == temporary.name)
        ids = dict(zip(schema_edit.ids_in(made), schema_edit.ids_in(wanted), strict=True))
        files = tuple(_called(file, ids) for file in one.files)
        patches.append(replace(one, files=files))
    return grafted(table, patches)


def _with_null_field(array: pa.Array, path: Sequence[str], of: pa.DataType, after: pa.DataType) -> pa.Array:
    """A struct's values with one more field, which is null, at `path`; `after` is their new type."""
    head, *rest = path
    old = {array.type.field(at).name: array.field(at) for at in range(array.type.num_fields)}
    fields = [after.field(at) for at in range(after.num_fields)]
    if rest:
        place = [field.name for field in fields].index(head)
        old[head] = _with_null_field(old[head], rest, of, fields[place].type)
    else:
        old[head] = nulls(len(array), of)
    return pa.StructArray.from_arrays([old[f.name] for f in fields], fields=fields, mask=array.is_null())


def _new_files(fragment: LanceFragment, after: FragmentMetadata) -> tuple[DataFile, ...]:
    known = {file.path for file in fragment.metadata.files}
    return tuple(file for file in after.files if file.path not in known)


def grafted(table: Table, patches: Sequence[Patch]) -> list[FragmentMetadata]:
    """The fragments of the pinned version that have `patches`, with these."""
    now = {fragment.fragment_id: fragment.metadata for fragment in table.fragments}
    return [_graft(now[one.fragment], one) for one in patches]


def _graft(metadata: FragmentMetadata, one: Patch) -> FragmentMetadata:
    new = {id_ for file in one.files for id_ in file.fields}
    kept = [_without(file, new) for file in metadata.files]
    return replace(metadata, files=[*(file for file in kept if set(file.fields) != {_NO_FIELD}), *one.files])


def _without(file: DataFile, fields: set[int]) -> DataFile:
    return _called(file, dict.fromkeys(fields, _NO_FIELD))


def _called(file: DataFile, ids: Mapping[int, int]) -> DataFile:
    """The file with other ids for some of its fields."""
    return DataFile(
        str(file.path),
        [ids.get(id_, id_) for id_ in file.fields],
        file.column_indices,
        file.file_major_version,
        file.file_minor_version,
        file.file_size_bytes,
        file.base_id,
    )
