"""Reading a table as it would be after a staged change of its schema, before the change is committed.

Lance commits some schemas that its readers refuse afterwards, such as a field added two levels deep
(tests/surface/test_lance_schema.py). So the staged schema and fragments become the manifest of a table in
memory, which names the real files. That table is read as programs read: projected and filtered, one fragment
of each layout. Nothing is written to the store.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import lance
import pyarrow as pa
from lance import DatasetBasePath, LanceDataset, LanceOperation
from lance.fragment import DataFile, FragmentMetadata

from lancemig.catalog.arrow_arrays import nulls
from lancemig.catalog.arrow_types import fields_in
from lancemig.errors import LancemigError, PlanError
from lancemig.store.lance import schema_edit
from lancemig.store.lance.errors import Missing, translated
from lancemig.store.lance.sql import quoted
from lancemig.store.lance.staged import Staged
from lancemig.store.lance.table import Table

_ROWS = 1
_ODD = frozenset("`.")


def require_readable(table: Table, staged: Staged, options: Mapping[str, str]) -> None:
    """Refuse a staged change of the schema after which Lance could not read the table.

    Args:
        table: The table that it was staged from.
        staged: The transaction; one that keeps the schema is not read.
        options: Lance's options for the store of the table.

    Raises:
        PlanError: Lance cannot read the table afterwards, and can now.
        Missing: Files of the table are gone.
    """
    schema = getattr(staged.operation, "schema", None)
    if schema is None:
        return
    merged: Any = getattr(staged.operation, "fragments", None)
    fragments = [fragment.metadata for fragment in table.fragments] if merged is None else list(merged)
    _require(table, schema, fragments, options)


def require_column(table: Table, field: pa.Field, options: Mapping[str, str]) -> None:
    """Refuse a null column that Lance does not add, or with which it could not read the table.

    The nulls of a struct's field are written, so that only its schema is made here.
    """
    with translated(f"adding column {field.name} to {table.name}"):
        schema = schema_edit.with_null_column(table.dataset, field)
    if "." not in field.name:
        _require(table, schema, [fragment.metadata for fragment in table.fragments], options)


def require_column_of(name: str, columns: pa.Schema, field: pa.Field) -> None:
    """The same for a table that does not exist yet, which has one file for all of `columns`."""
    nullable = pa.schema([column.with_nullable(True) for column in columns])
    one_row = pa.table([nulls(_ROWS, column.type) for column in nullable], schema=nullable)
    with translated(f"adding column {field.name} to {name}"):
        table = lance.write_dataset(one_row, "memory://readable", data_storage_version="stable")
        table.add_columns(schema_edit.as_struct(field))
    if "." not in field.name:
        _refuse(name, _failures(table, _changed(columns, table.schema)))


def _require(
    table: Table, schema: Any, fragments: list[FragmentMetadata], options: Mapping[str, str]
) -> None:
    after = schema.to_pyarrow()
    chosen = _one_of_each_layout(fragments)
    changed = _changed(table.columns, after)
    with translated(f"reading {table.name} with its new schema"):
        made = _in_memory(table, schema, chosen, options)
    failure = next(_failures(made, changed), None)
    if failure is None:
        return
    if isinstance(failure, Missing):
        raise failure
    kept = [name for name in changed if name in table.columns.names]
    now = _in_memory(table, table.dataset.lance_schema, chosen, options)
    before = next(_failures(now, kept), None)
    if isinstance(before, PlanError) and isinstance(failure, PlanError):
        # Lance refuses such a column, as one whose name begins with a backtick, whatever is changed.
        return
    if before is not None:
        # The table cannot be read now, or the store failed.
        raise failure
    _refuse(table.name, [failure])


def _refuse(name: str, failures: Iterable[LancemigError]) -> None:
    for failure in failures:
        raise PlanError(f"programs could not read {name} afterwards: {failure.message}") from failure


def _changed(before: pa.Schema, after: pa.Schema) -> list[str]:
    """The top-level columns of `after` that `before` has not, or has otherwise."""
    old = {field.name: field for field in before}
    return [f.name for f in after if f.name not in old or not f.equals(old[f.name], check_metadata=True)]


def _one_of_each_layout(fragments: list[FragmentMetadata]) -> list[FragmentMetadata]:
    """The first fragment of those that have the same fields in the same files."""
    found: dict[Any, FragmentMetadata] = {}
    for fragment in fragments:
        files = [
            (tuple(file.fields), file.file_major_version, file.file_minor_version) for file in fragment.files
        ]
        found.setdefault(tuple(files), fragment)
    return list(found.values())


def _in_memory(
    table: Table, schema: Any, fragments: list[FragmentMetadata], options: Mapping[str, str]
) -> LanceDataset:
    """A table in memory with this schema, whose fragments are files of `table`."""
    bases = dict(table.dataset.base_paths())
    own = max(bases, default=0) + 1
    bases[own] = DatasetBasePath(table.uri, id=own, is_dataset_root=True)
    # Rows that were deleted do not matter, so that no deletion file is read.
    moved = [
        replace(one, files=[_based(file, own) for file in one.files], deletion_file=None) for one in fragments
    ]
    operation = LanceOperation.Overwrite(schema, moved, initial_bases=list(bases.values()))
    return LanceDataset.commit("memory://readable", operation, storage_options=dict(options))


def _based(file: DataFile, own: int) -> DataFile:
    return DataFile(
        str(file.path),
        list(file.fields),
        list(file.column_indices),
        file.file_major_version,
        file.file_minor_version,
        file.file_size_bytes,
        own if file.base_id is None else file.base_id,
    )


def _failures(dataset: LanceDataset, changed: list[str]) -> Iterator[LancemigError]:
    """The errors of reading a row of each fragment, with the `changed` columns and another one."""
    others = [field for field in dataset.schema if field.name not in changed]
    plain = sorted(others, key=lambda field: (bool(_ODD & set(field.name)), _costs(field.type)))[:1]
    names = [*changed, *(field.name for field in plain)]
    columns = None if any(_ODD & set(name) for name in names) else names
    conditions = [None, *(f"{path} is not null" for path in _conditions(plain, dataset.schema, changed))]
    for fragment in dataset.get_fragments():
        for condition in conditions:
            try:
                with translated(f"a read{f' with the filter {condition}' if condition else ''}"):
                    dataset.scanner(
                        columns=columns, filter=condition, limit=_ROWS, fragments=[fragment], batch_size=_ROWS
                    ).to_table()
            except LancemigError as error:
                yield error


def _conditions(plain: list[pa.Field], schema: pa.Schema, changed: list[str]) -> Iterator[str]:
    """Quoted paths to filter by: another column, and a field of each struct that has changed."""
    for field in [*plain, *(schema.field(name) for name in changed)]:
        path = field.name
        if field not in plain:
            if not pa.types.is_struct(field.type):
                continue
            path = f"{path}.{fields_in(field.type)[0].name}"
        if "`" not in path and path.count(".") < 2:
            yield quoted(path)


def _costs(of: pa.DataType) -> int:
    """How much reading a value costs, to compare columns."""
    try:
        return int(of.bit_width)
    except ValueError:
        return 1 << 20 if pa.types.is_nested(of) else 1 << 10
