"""Writing rows as a stream: whole tables, parts of them, and appended rows; nothing is committed here."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import pyarrow as pa
from lance import LanceOperation
from lance.file import LanceFileReader
from lance.fragment import FragmentMetadata, write_fragments

from lancemig.catalog.schema import KEY, TableSchema
from lancemig.store.lance.errors import translated
from lancemig.store.lance.staged import Staged, writes
from lancemig.store.lance.table import MANY, Table


@dataclass(frozen=True)
class Layout:
    """How Lance stores a table; None is Lance's default."""

    data_storage_version: str | None = None
    stable_row_ids: bool = False


def written_table(
    uri: str,
    schema: TableSchema,
    batches: Iterable[pa.RecordBatch],
    layout: Layout,
    options: Mapping[str, str],
    read_version: int = 0,
) -> Staged:
    """Stage the whole content of a table, streaming."""
    arrow = schema.columns.with_metadata(stored_metadata(schema))
    counted = _Stream(batches, arrow)
    with translated(f"writing {uri}"), counted.reader() as reader:
        transaction = write_fragments(
            reader,
            uri,
            schema=arrow,
            return_transaction=True,
            mode="overwrite" if read_version else "create",
            data_storage_version=layout.data_storage_version,
            enable_stable_row_ids=layout.stable_row_ids,
            storage_options=dict(options),
        )
    return Staged(transaction.operation, read_version).counted(counted.rows)


def written_rows(
    uri: str, staged: Staged, columns: Sequence[str], options: Mapping[str, str]
) -> Iterator[pa.RecordBatch]:
    """The rows of the files that `written_table` wrote, before they are committed; top-level `columns`."""
    # Lance takes the name for a path; one with a backtick cannot be quoted.
    paths = None if any("`" in name for name in columns) else [f"`{name}`" for name in columns]
    with translated(f"reading {uri}"):
        for fragment in staged.operation.fragments:
            for file in fragment.files:
                reader = LanceFileReader(f"{uri}/data/{file.path}", dict(options), paths)
                for batch in reader.read_all(batch_size=MANY).to_batches():
                    yield batch.select(list(columns))


def written_part(
    uri: str,
    schema: TableSchema,
    batches: Iterable[pa.RecordBatch],
    layout: Layout,
    options: Mapping[str, str],
    read_version: int = 0,
) -> tuple[list[str], int]:
    """Write a part of a table for `assembled`; returns its fragments as JSON texts, and their rows."""
    staged = written_table(uri, schema, batches, layout, options, read_version)
    return [json.dumps(fragment.to_json()) for fragment in staged.operation.fragments], staged.changed


def assembled(
    uri: str,
    schema: TableSchema,
    fragments: Iterable[str],
    layout: Layout,
    options: Mapping[str, str],
    read_version: int = 0,
) -> Staged:
    """Stage the whole content of a table from parts that `written_part` wrote."""
    whole = written_table(uri, schema, [], layout, options, read_version)
    found = [FragmentMetadata.from_json(text) for text in fragments]
    operation = LanceOperation.Overwrite(new_schema=whole.operation.new_schema, fragments=found)
    return Staged(operation, read_version)


@writes
def appended_rows(
    table: Table, batches: Iterable[pa.RecordBatch], options: Mapping[str, str]
) -> Staged | None:
    """Append rows; None if there are none."""
    counted = _Stream(batches, table.columns)
    with translated(f"appending to {table.name}"), counted.reader() as reader:
        transaction = write_fragments(
            reader,
            table.uri,
            schema=table.columns,
            return_transaction=True,
            mode="append",
            data_storage_version=str(table.dataset.data_storage_version),
            enable_stable_row_ids=table.stable_row_ids,
            storage_options=dict(options),
        )
    staged = Staged(transaction.operation, table.version).counted(counted.rows)
    return staged if counted.rows else None


def stored_metadata(schema: TableSchema) -> dict[str, str]:
    """The schema metadata of a stored table: its own, and the key."""
    key = {KEY: json.dumps(list(schema.key))} if schema.key else {}
    return {**schema.metadata, **key}


def stream(
    batches: Iterable[pa.RecordBatch], schema: pa.Schema
) -> AbstractContextManager[pa.RecordBatchReader]:
    """A reader of `batches` for Lance; raises what the iterator of batches raises."""
    return _Stream(batches, schema).reader()


class _Stream:
    """Batches for Lance: counts the rows, and keeps what the iterator raises.

    Lance would raise an error of its own instead.
    """

    def __init__(self, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> None:
        self.batches, self.schema, self.rows = batches, schema, 0
        self.raised: BaseException | None = None

    @contextmanager
    def reader(self) -> Iterator[pa.RecordBatchReader]:
        try:
            yield pa.RecordBatchReader.from_batches(self.schema, self._pass())
        except BaseException:
            if self.raised is not None:
                raise self.raised from None
            raise

    def _pass(self) -> Iterator[pa.RecordBatch]:
        try:
            for batch in self.batches:
                self.rows += batch.num_rows
                yield pa.record_batch(batch.columns, schema=self.schema)
        except BaseException as error:
            self.raised = error
            raise
