"""New files for some columns of a fragment, put onto it as it is when they are committed.

A patch is made for a fragment as one version has it. Other writers may delete rows of that fragment, or
write new files for other columns, before the patch is committed: its files still fit, for rows keep places.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
from lance import LanceOperation
from lance.fragment import DataFile, FragmentMetadata, LanceFragment

from lancemig.store.tables import surgery
from lancemig.store.tables.failures import translated
from lancemig.store.tables.staging import Staged, stream, writes
from lancemig.store.tables.table import ROW_ID, Table

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
    schema: surgery.LanceSchema | None = None


@writes
def patch(table: Table, fragment: LanceFragment, values: pa.Table) -> Patch:
    """Write new values of single rows of one fragment; `values` holds `_rowid` and the columns.

    Only the files of those columns are written.
    """
    names = ", ".join(name for name in values.column_names if name != ROW_ID)
    with translated(f"writing {names} of {table.name}"):
        metadata, modified, changed = fragment.update_columns(
            values, left_on=ROW_ID, right_on=ROW_ID, with_offsets=True
        )
    return Patch(metadata.id, _new_files(fragment, metadata), tuple(modified), changed, values.num_rows)


def patched(table: Table, patches: Sequence[Patch]) -> Staged | None:
    """All `patches` put onto the fragments of the pinned version, as one change; None for none."""
    if not patches:
        return None
    operation = LanceOperation.Update(
        updated_fragments=_grafted(table, patches),
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
def with_column(table: Table, field: pa.Field, patches: Sequence[Patch]) -> Staged:
    """Add a column, its values in `patches`: one for each fragment of the pinned version."""
    schema = patches[0].schema if patches else surgery.with_null_column(table.dataset, field)
    operation = LanceOperation.Merge(_grafted(table, patches), schema, preserves_nullability=True)
    return Staged(operation, table.version).counted(sum(one.rows for one in patches))


def _new_files(fragment: LanceFragment, after: FragmentMetadata) -> tuple[DataFile, ...]:
    known = {file.path for file in fragment.metadata.files}
    return tuple(file for file in after.files if file.path not in known)


def _grafted(table: Table, patches: Sequence[Patch]) -> list[FragmentMetadata]:
    now = {fragment.fragment_id: fragment.metadata for fragment in table.fragments}
    return [_graft(now[one.fragment], one) for one in patches]


def _graft(metadata: FragmentMetadata, one: Patch) -> FragmentMetadata:
    new = {id_ for file in one.files for id_ in file.fields}
    kept = [_without(file, new) for file in metadata.files]
    return replace(metadata, files=[*(file for file in kept if set(file.fields) != {_NO_FIELD}), *one.files])


def _without(file: DataFile, fields: set[int]) -> DataFile:
    return DataFile(
        str(file.path),
        [_NO_FIELD if id_ in fields else id_ for id_ in file.fields],
        file.column_indices,
        file.file_major_version,
        file.file_minor_version,
        file.file_size_bytes,
        file.base_id,
    )
