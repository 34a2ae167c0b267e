"""SQL across the tables of a catalog, by DuckDB, in a session that can do nothing but read them."""

import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pyarrow as pa

from lancemig.errors import LancemigError, PlanError, StoreError
from lancemig.script.wording import did_you_mean
from lancemig.store.tables.failures import first_line
from lancemig.store.tables.readable import Readable
from lancemig.store.tables.table import Table

if TYPE_CHECKING:
    import duckdb

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
class Answer:
    """What a query gave: its rows, or the first of them, and how many there are in all."""

    rows: pa.Table
    count: int


def ask(
    tables: Mapping[str, Table],
    sql: str,
    *,
    limit: int | None = None,
    absent: Mapping[str, str] | None = None,
) -> Answer:
    """What the query `sql` gives over `tables`, each at its pinned version; at most `limit` rows are kept.

    The session reaches these tables and nothing else: no files, no network, no settings, no variables of this
    program. `absent` says of tables that are not there why that is, for the error that names them.
    Raises PlanError, in one line, for what is not one query, or cannot be answered; StoreError where a table
    cannot be read.
    """
    sources, why = _sources(tables)
    with _session(sql, sources, {**(absent or {}), **why}) as session:
        for name, source in sources.items():
            session.register(name, source)
        _refuse_all_but_one_query(session, sql)
        return _attended(session, partial(_answer, session, sql, limit))


def _sources(tables: Mapping[str, Table]) -> tuple[dict[str, Readable], dict[str, str]]:
    """The tables that SQL can name, and why it cannot name the others."""
    lowered = [name.lower() for name in tables]
    sources, why = {}, {}
    for name, table in tables.items():
        source = Readable(table)
        if lowered.count(name.lower()) > 1:
            why[name] = "another table has the same name in different case"
        elif not source.schema.names:
            why[name] = "two of its columns have the same name in different case"
        else:
            sources[name] = source
    return sources, why


def _attended(session: "duckdb.DuckDBPyConnection", asking: Callable[[], Answer]) -> Answer:
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


def _answer(session: "duckdb.DuckDBPyConnection", sql: str, limit: int | None) -> Answer:
    reader = session.sql(sql).to_arrow_reader(_BATCH_ROWS)
    try:
        kept, count, held = [], 0, 0
        for batch in reader:
            count += batch.num_rows
            room = batch.num_rows if limit is None else max(limit - held, 0)
            if room and batch.num_rows:
                kept.append(batch.slice(0, room))
                held += kept[-1].num_rows
        return Answer(pa.Table.from_batches(kept, reader.schema), count)
    finally:
        reader.close()


@contextmanager
def _session(
    sql: str, sources: Mapping[str, Readable], absent: Mapping[str, str]
) -> Iterator["duckdb.DuckDBPyConnection"]:
    # Only what asks needs DuckDB, and it takes a moment to load.
    import duckdb

    # What does not fit into memory is spilled; DuckDB's own choice is a folder where the command was typed.
    with TemporaryDirectory(prefix="lancemig-") as spill, duckdb.connect(":memory:") as session:
        session.execute("set temp_directory = ?", [spill])
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
    if isinstance(failure, LancemigError):
        return failure
    return StoreError(first_line(failure), next_step="lancemig status")


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
