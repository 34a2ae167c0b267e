"""SQL by DuckDB, in a session that can do nothing but read what it is given.

`run_query` answers SQL across the tables of a catalog; `rows_with_equal_keys` finds repeated keys.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.dataset as ds

from lancemig.catalog.arrow_arrays import empty_table
from lancemig.errors import LancemigError, PlanError, StoreError
from lancemig.revisions.header import did_you_mean
from lancemig.store.lance.errors import LanceRefused, first_line, translated
from lancemig.store.lance.table import MANY, Table, asked_columns, batch_rows, is_blob

if TYPE_CHECKING:
    import duckdb


_SCAN_ROWS = 8192
_WIDEST_DECIMAL = 38
_KNOWN_EXTENSIONS = ("arrow.uuid", "arrow.json", "arrow.bool8")


def readable_type(of: pa.DataType) -> pa.DataType:
    """`of`, or the nearest type that DuckDB reads and that holds every value of it.

    tests/store/test_query.py::test_every_type_is_read_and_filtered has them all.
    """
    if isinstance(of, pa.BaseExtensionType) and of.extension_name not in _KNOWN_EXTENSIONS:
        return readable_type(of.storage_type)
    if pa.types.is_float16(of):
        return pa.float32()
    if pa.types.is_decimal(of):
        return _readable_decimal(of)
    if pa.types.is_struct(of):
        return pa.struct([_readable_field(of.field(place)) for place in range(of.num_fields)])
    if pa.types.is_map(of):
        return pa.map_(readable_type(of.key_type), _readable_field(of.item_field))
    if pa.types.is_fixed_size_list(of):
        return pa.list_(_readable_field(of.value_field), of.list_size)
    if pa.types.is_large_list(of):
        return pa.large_list(_readable_field(of.value_field))
    return pa.list_(_readable_field(of.value_field)) if pa.types.is_list(of) else of


def _readable_decimal(of: pa.DataType) -> pa.DataType:
    """DuckDB's decimals have no negative scale and 38 digits; a longer one is text, which loses none."""
    digits = of.precision - min(of.scale, 0)
    return pa.decimal128(digits, max(of.scale, 0)) if digits <= _WIDEST_DECIMAL else pa.string()


def _readable_field(field: pa.Field) -> pa.Field:
    if is_blob(field):
        return pa.field(field.name, pa.large_binary(), field.nullable)
    return field.with_type(readable_type(field.type))


def _pushable(of: pa.DataType) -> bool:
    """Whether Lance filters by a column of this type exactly as DuckDB does, and does not panic over it."""
    return bool(
        pa.types.is_boolean(of)
        or pa.types.is_signed_integer(of)
        or pa.types.is_string(of)
        or pa.types.is_date32(of)
        or pa.types.is_timestamp(of)
    )


class Readable(ds.Dataset):  # type: ignore[misc]
    """What DuckDB takes for an Arrow dataset: it asks for `schema`, then for a `scanner` per scan.

    `left_out` are columns that SQL could not tell apart, for its names have no case. What went wrong in a
    scan is kept in `failures`, for DuckDB passes on only its text.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self.failures: list[Exception] = []
        lowered = Counter(name.lower() for name in table.columns.names)
        self.left_out = tuple(name for name in table.columns.names if lowered[name.lower()] > 1)

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns in types that DuckDB reads."""
        return pa.schema([_readable_field(f) for f in self.table.columns if f.name not in self.left_out])

    def scanner(self, columns: Sequence[str] | None = None, filter: Any = None, **_: Any) -> "_Scan":  # noqa: A002
        """One scan; nothing is read before its reader is."""
        return _Scan(self, tuple(columns or self.schema.names), filter)

    def chosen(self, names: Sequence[str]) -> pa.Schema:
        """The schema of these columns."""
        return pa.schema([self.schema.field(name) for name in names])

    def named(self, condition: Any) -> list[str]:
        """The columns that an Arrow expression names: those without which it cannot be bound."""
        return [name for name in self.schema.names if not self._binds(condition, without=name)]

    def _binds(self, condition: Any, without: str) -> bool:
        schema = self.chosen([name for name in self.schema.names if name != without])
        try:
            ds.dataset(empty_table(schema)).scanner(filter=condition)
        except pa.ArrowInvalid:
            return False
        return True


class _Scan:
    """A scan of some columns, of the rows that a condition lets through."""

    def __init__(self, of: Readable, columns: tuple[str, ...], condition: Any) -> None:
        self.of, self.columns, self.condition = of, columns, condition

    def to_reader(self) -> pa.RecordBatchReader:
        """The rows as a stream, never more than a few batches of it in memory."""
        with self._kept():
            return self._opened()

    def _opened(self) -> pa.RecordBatchReader:
        if self.condition is None:
            return self._reader(self._scan(self.columns), self.columns)
        named = self.of.named(self.condition)
        scan = self._filtered_by_lance(named)
        if scan is not None:
            return self._reader(scan, self.columns)
        read = list(dict.fromkeys([*self.columns, *named]))
        found = ds.Scanner.from_batches(
            self._reader(self._scan(read), read), columns=list(self.columns), filter=self.condition
        )
        return found.to_reader()

    def _filtered_by_lance(self, named: Sequence[str]) -> Iterator[pa.RecordBatch] | None:
        """The scan with the condition pushed down to Lance; None where Lance cannot be trusted with it."""
        columns = self.of.table.columns
        if not all(_pushable(columns.field(name).type) for name in named):
            return None
        try:
            return self._scan(self.columns, filter=self.condition)
        except Exception:  # noqa: BLE001 - what Lance cannot do, as with paths and some types, Arrow can
            return None

    def _scan(self, columns: Sequence[str], **options: Any) -> Iterator[pa.RecordBatch]:
        # Lance's own limit, batch_size_bytes, cuts batches up once they are whole in memory.
        options |= {
            "blob_handling": "all_binary",
            "batch_size": batch_rows(self.of.table.dataset, columns, _SCAN_ROWS),
        }
        scanner = self.of.table.dataset.scanner(columns=asked_columns(columns), **options)
        # A condition that Lance cannot take is refused here, not with the first batch.
        return iter(scanner.to_reader())

    def _reader(self, batches: Iterator[pa.RecordBatch], columns: Sequence[str]) -> pa.RecordBatchReader:
        schema = self.of.chosen(columns)
        return pa.RecordBatchReader.from_batches(schema, self._cast(batches, schema))

    def _cast(self, batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        with self._kept():
            for batch in batches:
                yield batch.cast(schema)

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Keep what goes wrong."""
        try:
            with translated(f"reading {self.of.table.name}"):
                yield
        except Exception as error:
            self.of.failures.append(error)
            raise


_BATCH_ROWS = 2048
_LONGEST = 100
_SANDBOX = (
    "set TimeZone = 'UTC'",
    "set autoinstall_known_extensions = false",
    "set autoload_known_extensions = false",
    "set python_enable_replacements = false",
    "set enable_external_access = false",
    "set lock_configuration = true",
)
_NO_TABLE = re.compile(r"Table with name (?P<name>.+?) does not exist")


@dataclass(frozen=True)
class QueryResult:
    """What a query gave: its rows, or the first of them, and how many there are in all."""

    rows: pa.Table
    count: int


def run_query(
    tables: Mapping[str, Table],
    sql: str,
    *,
    limit: int | None = None,
    absent: Mapping[str, str] | None = None,
) -> QueryResult:
    """What the query `sql` gives over `tables`, each at its pinned version; at most `limit` rows are kept.

    The session reaches these tables and nothing else: no files, no network, no settings, no variables of this
    program. `absent` says of tables that are not there why that is, for the error that names them.
    Raises PlanError, in one line, for what is not one query, or cannot be answered; StoreError where a table
    cannot be read.
    """
    sources, why = _sources(tables)
    twins = _twins(sources)
    with _session(sql, sources, {**(absent or {}), **why}) as session:
        for name, source in sources.items():
            _register(session, twins.get(name, name), source)
        _refuse_all_but_one_query(session, sql)
        told_apart = _told_apart(session, sql, twins) if twins else sql
        found = _attended(session, partial(_answer, session, told_apart, limit))
        return QueryResult(_own_names(found.rows, twins), found.count) if _shows_tables(sql) else found


def rows_with_equal_keys(
    rows: pa.RecordBatchReader,
    key: Sequence[str],
    order: Sequence[str],
    name: str,
    *,
    by_group: bool = False,
) -> Iterator[pa.RecordBatch]:
    """The rows whose key others have as well, in bounded memory; what does not fit is spilled to the disk.

    Args:
        rows: A row number `row`, unique and ascending, and the columns of `key` and of `order`, with plain
            names and with types that DuckDB compares as Arrow does.
        key: The names of the key columns. Nulls are equal to each other here.
        order: What decides which row is the first of those with an equal key, as SQL.
        name: The table, for messages.
        by_group: Whether rows with an equal key are given one after the other, the first of them first.

    Yields:
        `row`, and whether it is the `first` with its key, in the order of `row` or by group.
    """
    import duckdb

    partition = f"partition by {', '.join(key)}"
    sql = f"""
        select "row", place = 1 as "first" from (
            select "row", row_number() over ({partition} order by {", ".join(order)}) as place,
                count(*) over ({partition}) as equal, min("row") over ({partition}) as "group"
            from given)
        where equal > 1 order by {'"group", place' if by_group else '"row"'}
    """  # noqa: S608 - all names are ours
    try:
        with _spilling() as session:
            session.execute(f"set memory_limit = '{_MEMORY}'")
            session.register("given", rows)
            yield from session.sql(sql).to_arrow_reader(MANY)
    except (duckdb.Error, OSError) as error:
        raise StoreError(
            f"searching {name} for repeated keys: {_one_line(str(error))}",
            next_step="free space in the temporary folder (TMPDIR), then run the same command again",
        ) from error


_MEMORY = "1GB"
"""How much memory DuckDB uses before it spills."""


def _register(session: "duckdb.DuckDBPyConnection", name: str, source: Readable) -> None:
    """Let SQL name a table; `sales.orders` is the table `orders` in the schema `sales`, too."""
    session.register(name, source)
    schema, dot, table = name.rpartition(".")
    if dot:
        session.execute(f"create schema if not exists {_identifier(schema)}")
        view = f"{_identifier(schema)}.{_identifier(table)}"
        session.execute(f"create view {view} as from {_identifier(name)}")


def _identifier(name: str) -> str:
    quote = '"'
    return f"{quote}{name.replace(quote, quote * 2)}{quote}"


def _sources(tables: Mapping[str, Table]) -> tuple[dict[str, Readable], dict[str, str]]:
    """The tables that SQL can name, and why it cannot name the others."""
    sources, why = {}, {}
    for name, table in tables.items():
        source = Readable(table)
        if not source.schema.names:
            why[name] = "two of its columns have the same name in different case"
        else:
            sources[name] = source
    return sources, why


def _twins(names: Iterable[str]) -> dict[str, str]:
    """Another name for each table that DuckDB could not tell apart, because it ignores case."""
    counts = Counter(name.lower() for name in names)
    several = [name for name in names if counts[name.lower()] > 1]
    return {name: f"__twin_{number}" for number, name in enumerate(several)}


def _told_apart(session: "duckdb.DuckDBPyConnection", sql: str, twins: Mapping[str, str]) -> str:
    """The query with the other names of `twins`: each table is named in its own case, quoted or not.

    DuckDB itself parses the query and prints it again.
    """
    document = json.loads(_value(session, "select json_serialize_sql(?)", sql))
    if document.get("error"):
        return sql
    _rename_tables(document, twins, frozenset(_cte_names(document)))
    return _value(session, "select json_deserialize_sql(?)", json.dumps(document))


def _shows_tables(sql: str) -> bool:
    return re.match(r"\s*show\b", sql, re.IGNORECASE) is not None


def _own_names(rows: pa.Table, twins: Mapping[str, str]) -> pa.Table:
    """The result of `show tables`, sorted, with the tables' own names instead of those of `twins`."""
    if not twins or "name" not in rows.schema.names:
        return rows
    own = {other: name for name, other in twins.items()}
    names = [own.get(name, name) for name in rows.column("name").to_pylist()]
    renamed = rows.set_column(rows.schema.get_field_index("name"), "name", pa.array(names, pa.string()))
    return renamed.sort_by("name")


def _value(session: "duckdb.DuckDBPyConnection", sql: str, given: str) -> str:
    [(value,)] = session.execute(sql, [given]).fetchall()
    return str(value)


def _nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for child in children:
        yield from _nodes(child)


def _cte_names(document: Any) -> Iterator[str]:
    for node in _nodes(document):
        for entry in (node.get("cte_map") or {}).get("map", ()):
            yield str(entry["key"]).lower()


def _rename_tables(document: Any, twins: Mapping[str, str], ctes: frozenset[str]) -> None:
    lowered = {name.lower() for name in twins}
    for node in _nodes(document):
        if node.get("type") != "BASE_TABLE":
            continue
        name = ".".join(filter(None, (node.get("schema_name"), node["table_name"])))
        if name in twins and not (name.lower() in ctes and not node.get("schema_name")):
            node["alias"] = node.get("alias") or node["table_name"]
            node["schema_name"], node["table_name"] = "", twins[name]
            if "qualified_name" in node:  # DuckDB writes the name twice in newer releases
                node["qualified_name"] = {"path": [twins[name]]}
        elif name.lower() in lowered and name.lower() not in ctes:
            spellings = " or ".join(f'"{twin}"' for twin in twins if twin.lower() == name.lower())
            raise PlanError(
                f"the table {name} is not unique: write {spellings}, in this very case", next_step=_MEND
            )


def _attended(session: "duckdb.DuckDBPyConnection", asking: Callable[[], QueryResult]) -> QueryResult:
    """Let DuckDB work in a thread of its own: where it has the main one, it misses every other Ctrl-C."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        asked = thread.submit(asking)
        try:
            return asked.result()
        except KeyboardInterrupt:
            while not asked.done():
                session.interrupt()
                wait([asked], timeout=0.1)
            raise


def _answer(session: "duckdb.DuckDBPyConnection", sql: str, limit: int | None) -> QueryResult:
    reader = session.sql(sql).to_arrow_reader(_BATCH_ROWS)
    try:
        kept, count, held = [], 0, 0
        for batch in reader:
            count += batch.num_rows
            room = batch.num_rows if limit is None else max(limit - held, 0)
            if room and batch.num_rows:
                kept.append(batch.slice(0, room))
                held += kept[-1].num_rows
        return QueryResult(pa.Table.from_batches(kept, reader.schema), count)
    finally:
        reader.close()


@contextmanager
def _spilling() -> Iterator["duckdb.DuckDBPyConnection"]:
    # Only what asks needs DuckDB, and it takes a moment to load.
    import duckdb

    # What does not fit into memory is spilled; DuckDB's own choice is a folder where the command was typed.
    with TemporaryDirectory(prefix="lancemig-") as spill, duckdb.connect(":memory:") as session:
        session.execute("set temp_directory = ?", [spill])
        yield session


@contextmanager
def _session(
    sql: str, sources: Mapping[str, Readable], absent: Mapping[str, str]
) -> Iterator["duckdb.DuckDBPyConnection"]:
    import duckdb

    with _spilling() as session:
        for statement in _SANDBOX:
            session.execute(statement)
        try:
            yield session
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise _refusal(sql, error, sources, absent) from error


def _refuse_all_but_one_query(session: "duckdb.DuckDBPyConnection", sql: str) -> None:
    from duckdb import StatementType

    statements = session.extract_statements(sql)
    if len(statements) == 1 and statements[0].type == StatementType.SELECT:
        return
    found = f"{len(statements)} statements" if len(statements) != 1 else statements[0].type.name.lower()
    raise PlanError(f"{_quoted(sql)}: expected one query, not {found}", next_step=_MEND)


_MEND = "fix the SQL: use one SELECT over the catalog's tables"


def _refusal(
    sql: str, error: Exception, sources: Mapping[str, Readable], absent: Mapping[str, str]
) -> LancemigError:
    failed = [failure for source in sources.values() for failure in source.failures]
    if failed:
        return _unread(failed[0])
    said = _one_line(str(error))
    missing = _NO_TABLE.search(said)
    if missing is not None:
        said = f"unknown table {missing['name']}{did_you_mean(missing['name'], [*sources, *absent])}"
    reasons = [f"{name}: {reason}" for name, reason in absent.items() if _mentions(sql, name)]
    reasons += [
        f"{name}.{column}: another column has the same name in different case"
        for name, source in sources.items()
        for column in source.left_out
        if _mentions(sql, column)
    ]
    return PlanError("; ".join([f"{_quoted(sql)}: {said}", *reasons]), next_step=_MEND)


def _unread(failure: Exception) -> LancemigError:
    if isinstance(failure, LancemigError) and not isinstance(failure, LanceRefused):
        return failure
    # What cannot be read tells nothing about its rows: a check of them has not failed.
    said = failure.message if isinstance(failure, LancemigError) else first_line(failure)
    return StoreError(said, next_step="lancemig check")


def _one_line(text: str) -> str:
    """DuckDB's words without the picture of where they point, and without its guess among its own tables."""
    told = re.split(r"\n\s*(?:LINE \d+:|Candidate functions:)|\nTraceback", text)[0]
    if _NO_TABLE.search(told):
        told = told.split("\n")[0]
    return " ".join(told.split())


def _mentions(sql: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", sql, re.IGNORECASE) is not None


def _quoted(sql: str) -> str:
    line = " ".join(sql.split())
    return f"SQL '{line if len(line) <= _LONGEST else line[: _LONGEST - 1] + '…'}'"
