"""A handle on one version of one table; it only reads."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import lance
import numpy as np
import pyarrow as pa
from lance.fragment import LanceFragment

from lancemig.catalog.operations.effects import heads
from lancemig.catalog.schema import KEY, TableSchema, TableStats, text_metadata
from lancemig.catalog.value import digest
from lancemig.store.lance import schema_edit
from lancemig.store.lance.errors import translated
from lancemig.store.lance.indices import Cover, covers, described, uncovered
from lancemig.store.lance.sql import accepted, quoted

BATCH_BYTES = 16 << 20
"""The size of a batch in memory; several batches are in memory at a time."""

_MIN_ROWS, _MAX_BLOB_ROWS = 8, 8
_MIN_ROW_BYTES = 16


def batch_rows(dataset: lance.LanceDataset, texts: Iterable[str], most: int) -> int:
    """The number of rows in a batch of some columns, so that it takes about `BATCH_BYTES`.

    Estimated from the types, and for types without a fixed width from the stored bytes of a row.

    Args:
        dataset: The table.
        texts: Names of columns, or SQL expressions over them.
        most: The upper limit.
    """
    said = " ".join(texts).casefold()
    fields = [field for field in dataset.schema if field.name.casefold() in said]
    if any(is_blob(field) for field in fields):
        return min(_MAX_BLOB_ROWS, most)
    widths = [_width(field.type) for field in fields]
    row = sum(width or 0 for width in widths) + (0 if all(widths) else _variable_bytes(dataset))
    return min(max(BATCH_BYTES // max(row, 1), _MIN_ROWS), most)


def is_blob(field: pa.Field) -> bool:
    """Whether Lance stores the column's bytes separately, as blobs."""
    metadata = text_metadata(field.metadata)
    extension = metadata.get("ARROW:extension:name", "") or getattr(field.type, "extension_name", "")
    return "lance-encoding:blob" in metadata or extension.startswith("lance.blob")


def _width(of: pa.DataType) -> int | None:
    """The bytes of a value of this type; None if they vary."""
    if isinstance(of, pa.BaseExtensionType):
        return _width(of.storage_type)
    if pa.types.is_fixed_size_list(of):
        width = _width(of.value_type)
        return None if width is None else width * int(of.list_size)
    try:
        return max(int(of.bit_width) // 8, 1)
    except ValueError:
        return None


def _variable_bytes(dataset: lance.LanceDataset) -> int:
    """The average stored bytes, in a row, of the columns without a fixed width."""
    metadata = [fragment.metadata for fragment in dataset.get_fragments()]
    stored = sum(file.file_size_bytes or 0 for one in metadata for file in one.files)
    rows = sum(one.physical_rows for one in metadata)
    fixed = sum(_width(field.type) or 0 for field in dataset.schema)
    return max(stored // max(rows, 1) - fixed, _MIN_ROW_BYTES)


ROW_ID = "_rowid"
ROW_ADDRESS = "_rowaddr"
MANY = 65_536
"""Rows in a batch if little is done with each row."""

AT_ONCE = min(4, os.cpu_count() or 1)
"""How many fragments are processed at a time if Lance does the work."""

_BATCH = 8192
_READ_AHEAD = 64 << 20
"""Bytes that Lance reads ahead of the consumer; its own default is 2 GB."""

_BATCHES_AHEAD = 4
_IDS_IN_A_FILTER = 10_000
_SCAN_FACTOR = 20


@dataclass(frozen=True)
class Table:
    """One pinned version of a table."""

    name: str
    root: str
    dataset: lance.LanceDataset
    writable: bool = True
    """Whether changes may be staged from it."""

    @property
    def uri(self) -> str:
        """The address of the table, as Lance records it."""
        return str(self.dataset.uri)

    @property
    def version(self) -> int:
        """The pinned version."""
        return int(self.dataset.version)

    def oldest(self) -> int:
        """The oldest version that exists."""
        with translated(f"listing the versions of {self.name}"):
            return min(int(version["version"]) for version in self.dataset.versions())

    def made(self) -> dict[int, datetime]:
        """When each existing version was committed; Lance opens all of them."""
        with translated(f"listing the versions of {self.name}"):
            found: list[Any] = self.dataset.versions()
        # Lance returns local times without a zone.
        return {int(one["version"]): one["timestamp"].astimezone(UTC) for one in found}

    @cached_property
    def columns(self) -> pa.Schema:
        """The Arrow schema, with field metadata, without schema metadata."""
        return self.dataset.schema.remove_metadata()

    @property
    def stable_row_ids(self) -> bool:
        """Whether row ids survive updates and compaction."""
        return bool(self.dataset.has_stable_row_ids)

    @cached_property
    def fragments(self) -> list[LanceFragment]:
        """The fragments of this version."""
        return list(self.dataset.get_fragments())

    @property
    def fragment_ids(self) -> frozenset[int]:
        """The ids of the fragments of this version."""
        return frozenset(fragment.fragment_id for fragment in self.fragments)

    @cached_property
    def layout(self) -> str:
        """The columns and their field ids, as text: equal if files of both have the same meaning."""
        return f"{self.dataset.max_field_id} {self.dataset.lance_schema}"

    @cached_property
    def column_ids(self) -> Mapping[str, frozenset[int]]:
        """The field ids of each top-level column, its own and those of the fields in it."""
        return schema_edit.column_ids(self.dataset.lance_schema)

    def files_by_column(self, fragment: LanceFragment) -> dict[str, list[tuple[str, list[int]]]]:
        """The files of a fragment that hold each top-level column, with the field ids in them, sorted."""
        column_of = {id_: name for name, ids in self.column_ids.items() for id_ in ids}
        found: dict[str, dict[str, list[int]]] = {name: {} for name in self.column_ids}
        for file in fragment.metadata.files:
            for id_ in file.fields:
                if id_ in column_of:
                    found[column_of[id_]].setdefault(file.path, []).append(id_)
        return {name: sorted(files.items()) for name, files in found.items()}

    def state_of(self, fragment: LanceFragment, paths: Iterable[str] | None = None) -> str:
        """A digest of a fragment's values, regardless of deleted rows; with `paths`, of those columns."""
        metadata = fragment.metadata
        wanted = None
        if paths is not None:
            wanted = frozenset(id_ for name in heads(paths) for id_ in self.column_ids[name])
        files = [
            (file.path, [id_ for id_ in file.fields if wanted is None or id_ in wanted])
            for file in metadata.files
        ]
        return digest([metadata.physical_rows, sorted(file for file in files if file[1])])

    @property
    def borrows(self) -> tuple[str, ...]:
        """The locations outside the table's folder from which this version borrows files."""
        bases = self.dataset.base_paths()
        return tuple(sorted(str(bases[id_].path) for id_ in self.bases))

    @property
    def bases(self) -> frozenset[int]:
        """The ids of the locations that this version borrows from."""
        metadata = [fragment.metadata for fragment in self.fragments]
        used = {file.base_id for fragment in metadata for file in fragment.files}
        used |= {fragment.deletion_file.base_id for fragment in metadata if fragment.deletion_file}
        used |= {s.base_id for index in self.dataset.describe_indices() for s in index.segments}
        return frozenset(id_ for id_ in used if id_ is not None)

    @property
    def config(self) -> dict[str, str]:
        """The configuration that Lance and its users store with the table, such as of automatic cleanup."""
        return dict(self.dataset.config())

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata of the table itself; that of its schema is in `schema`."""
        return dict(self.dataset.metadata)

    @property
    def borrowed_indices(self) -> bool:
        """Whether the files of an index are in another table's folder."""
        return any(s.base_id is not None for i in self.dataset.describe_indices() for s in i.segments)

    def schema(self) -> TableSchema:
        """Columns, key, indices and metadata as this version has them."""
        metadata = text_metadata(self.dataset.schema.metadata)
        key = tuple(json.loads(metadata.pop(KEY, "[]")))
        with translated(f"reading the indices of {self.name}"):
            indices = described(self.dataset)
        return TableSchema(columns=self.columns, key=key, indices=indices, metadata=metadata)

    def covers(self) -> dict[str, Cover]:
        """How much of the table each index covers."""
        with translated(f"reading the indices of {self.name}"):
            return covers(self.dataset)

    def uncovered(self) -> dict[str, int]:
        """The number of rows that each index leaves out, as far as known; no request for each index."""
        with translated(f"reading the indices of {self.name}"):
            return uncovered(self.dataset)

    def nearest(self, column: str, query: pa.Scalar, count: int) -> pa.Array:
        """The values of a vector column that its index finds nearest to `query`."""
        wanted = {"column": column, "q": query.values, "k": count, "use_index": True}
        with translated(f"searching {self.name}.{column}"):
            found = self.dataset.scanner(
                columns=[column], nearest=wanted, disable_scoring_autoprojection=True
            ).to_table()
        return found.column(column).combine_chunks()

    def live(self) -> TableStats:
        """The statistics that a plan is made from; reads no rows."""
        files = [file for fragment in self.fragments for file in fragment.metadata.files]
        return TableStats(
            name=self.name,
            table=self.schema(),
            version=self.version,
            rows=self.count(),
            bytes=sum(file.file_size_bytes or 0 for file in files),
            stable_row_ids=self.stable_row_ids,
            data_storage_version=str(self.dataset.data_storage_version),
            borrows=self.borrows,
            blobs=any(is_blob(field) for field in self.columns),
            unindexed=self.uncovered(),
        )

    def count(self, where: str | None = None, fragments: Iterable[LanceFragment] | None = None) -> int:
        """The number of rows that match `where`; PlanError if it is not an expression over this table."""
        with translated(f"counting rows of {self.name}" + (f" where {where}" if where else "")):
            if where is None and fragments is None:
                return int(self.dataset.count_rows())
            scanner = self.dataset.scanner(
                columns=[], filter=self.sql(where), fragments=_as_list(fragments), with_row_id=True
            )
            return int(scanner.count_rows())

    def batches(
        self,
        columns: Sequence[str] | Mapping[str, str] | None = None,
        where: Any = None,
        fragments: Iterable[LanceFragment] | None = None,
        *,
        row_ids: bool = False,
        addresses: bool = False,
        order_by: Sequence[str] = (),
        batch_size: int | None = None,
        blobs: bool = False,
    ) -> Iterator[pa.RecordBatch]:
        """Read rows in batches.

        Args:
            columns: Names, or SQL expressions by result name; None for all columns.
            where: An SQL condition.
            fragments: Only these fragments.
            row_ids: Add the column `_rowid`.
            addresses: Add the column `_rowaddr`.
            order_by: Names of columns.
            batch_size: The upper limit of rows in a batch; batches of wide columns have fewer.
            blobs: Read the bytes of blobs, not their descriptions.
        """
        with translated(f"reading {self.name}"):
            scanner = self.dataset.scanner(
                columns=self._projection(columns),
                filter=self.sql(where),
                fragments=_as_list(fragments),
                with_row_id=row_ids,
                with_row_address=addresses,
                order_by=list(order_by) or None,
                batch_size=self.batch_size(columns, batch_size or _BATCH),
                io_buffer_size=_READ_AHEAD,
                batch_readahead=_BATCHES_AHEAD,
                scan_in_order=True,
                blob_handling="all_binary" if blobs else None,
            )
            yield from scanner.to_batches()

    def sql(self, expression: Any) -> Any:
        """An SQL expression in a form that Lance accepts; anything else is returned as it is."""
        if not isinstance(expression, str):
            return expression
        if expression not in self._accepted:
            self._accepted[expression] = accepted(expression, self.dataset)
        return self._accepted[expression]

    @cached_property
    def _accepted(self) -> dict[str, str]:
        return {}

    def _projection(
        self, columns: Sequence[str] | Mapping[str, str] | None
    ) -> dict[str, str] | list[str] | None:
        if isinstance(columns, Mapping):
            return {name: self.sql(expression) for name, expression in columns.items()}
        return asked_columns(columns)

    def expression(self, sql: str) -> pa.Field:
        """The type and nullability of an SQL expression over this table."""
        # Lance refuses a scan of nothing but literals, so a column goes with them.
        asked = {"new": self.sql(sql), "": quoted(self.columns.names[0])}
        with translated(f"SQL {sql!r}"):
            return self.dataset.scanner(columns=asked).projected_schema.field("new")

    def batches_from(self, row: int, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """All rows after the first `row` ones, in the order of `batches`; does not read fragments before."""
        fragments = list(self.fragments)
        while fragments and row >= (rows := fragments[0].metadata.num_rows):
            row -= rows
            fragments.pop(0)
        if fragments and row:
            with translated(f"reading {self.name}"):
                yield from self.dataset.scanner(
                    columns=asked_columns(columns),
                    fragments=fragments[:1],
                    offset=row,
                    batch_size=self.batch_size(columns, _BATCH),
                    io_buffer_size=_READ_AHEAD,
                    batch_readahead=_BATCHES_AHEAD,
                    scan_in_order=True,
                ).to_batches()
            fragments.pop(0)
        if fragments:
            yield from self.batches(columns, fragments=fragments)

    def batch_size(self, columns: Sequence[str] | Mapping[str, str] | None, most: int) -> int:
        """The number of rows of `columns` in a batch: `most`, or fewer if the columns are wide."""
        asked = self.columns.names if columns is None else columns
        return batch_rows(self.dataset, asked.values() if isinstance(asked, Mapping) else asked, most)

    def take(self, places: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """The rows at these positions, counted from 0, in that order."""
        with translated(f"reading {self.name}"):
            return self.dataset.take(list(places), columns=asked_columns(columns))

    def head(self, rows: int) -> pa.Table:
        """The first rows."""
        with translated(f"reading {self.name}"):
            return self.dataset.scanner(limit=rows, scan_in_order=True).to_table()

    def read(
        self,
        columns: Sequence[str] | Mapping[str, str] | None = None,
        where: Any = None,
        fragments: Iterable[LanceFragment] | None = None,
        *,
        row_ids: bool = False,
        addresses: bool = False,
    ) -> pa.Table:
        """Rows as one table in memory."""
        with translated(f"reading {self.name}"):
            return self.dataset.scanner(
                columns=self._projection(columns),
                filter=self.sql(where),
                fragments=_as_list(fragments),
                with_row_id=row_ids,
                with_row_address=addresses,
                scan_in_order=True,
            ).to_table()

    def rows_of(self, ids: pa.ChunkedArray, columns: Sequence[str], *, addresses: bool = False) -> pa.Table:
        """`columns` and `_rowid` of the rows with these row ids, in any order.

        A few rows are read by id; for many, the table is scanned.
        """
        if len(ids) * _SCAN_FACTOR > self.count():
            wanted = np.sort(ids.to_numpy())
            batches = self.batches(columns, row_ids=True, addresses=addresses, batch_size=MANY // 2)
            found = [batch.filter(_within(batch.column(ROW_ID), wanted)) for batch in batches]
            if found:
                return pa.Table.from_batches(found)
        parts = [
            ids.slice(start, _IDS_IN_A_FILTER).to_pylist()
            for start in range(0, max(len(ids), 1), _IDS_IN_A_FILTER)
        ]
        return pa.concat_tables(
            self.read(
                columns, f"{ROW_ID} in ({', '.join(map(str, part))})", row_ids=True, addresses=addresses
            )
            if part
            else self.read(columns, fragments=[], row_ids=True, addresses=addresses)
            for part in parts
        )


def _within(ids: pa.Array, wanted: Any) -> pa.BooleanArray:
    given = ids.to_numpy()
    at = np.minimum(np.searchsorted(wanted, given), len(wanted) - 1)
    return pa.array(wanted[at] == given)


def asked_columns(columns: Iterable[str] | None) -> dict[str, str] | list[str] | None:
    """Columns as Lance's scanner takes them. It reads `*` in a list as all columns, not as a name."""
    if columns is None:
        return None
    names = list(columns)
    return {name: quoted(name) for name in names} if "*" in names else names


def _as_list(given: Iterable[Any] | None) -> list[Any] | None:
    return None if given is None else list(given)
