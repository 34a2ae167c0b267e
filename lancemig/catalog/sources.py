"""Rows given to an operation: what may be given, and reading it in the shape of a schema."""

import dis
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import FunctionType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from lancemig.errors import PlanError

UNKNOWN, REASON = "__unknown__", "__reason__"
_ANSWER_FIELDS = (pa.field(UNKNOWN, pa.bool_()), pa.field(REASON, pa.string()))


def checked_function(given: Any) -> Callable[..., Any]:
    """A module-level function, so that a file's checksum covers all it does; ValueError otherwise."""
    if not inspect.isfunction(given):
        raise ValueError(f"expected a function, not {given!r}")
    if "<" in given.__qualname__ or "." in given.__qualname__:
        raise ValueError(f"{given.__qualname__} is not a module-level function")
    return given


def checked_source(given: Any) -> Any:
    """A source that can be read again and again; a one-shot reader is read into a table here."""
    if isinstance(given, pa.RecordBatchReader):
        return given.read_all()
    if isinstance(given, pa.Table | pa.RecordBatch | pads.Dataset):
        return given
    if inspect.isfunction(given):
        return checked_function(given)
    if isinstance(given, list | tuple) and all(isinstance(row, Mapping) for row in given):
        return list(given)
    raise ValueError(
        "rows must be a list of mappings, a pyarrow table, reader or dataset, or a module-level "
        f"function that yields record batches, not {type(given).__name__}"
    )


def describe_source(source: Any) -> str:
    """A source in one line."""
    if inspect.isfunction(source):
        return f"{source.__name__}()"
    if isinstance(source, list):
        return count_text(len(source), "row")
    if isinstance(source, pa.Table | pa.RecordBatch):
        return count_text(source.num_rows, "row")
    return type(source).__name__


def count_text(count: int, noun: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def known_rows(source: Any) -> int | None:
    """How many rows a source holds, where that is known without reading it."""
    if isinstance(source, list):
        return len(source)
    if isinstance(source, pa.Table | pa.RecordBatch):
        return int(source.num_rows)
    return None


def read_source(source: Any, schema: pa.Schema) -> pa.RecordBatchReader:
    """The rows of `source` as `schema` has them: columns by name, cast without loss, absent ones null.

    Raises PlanError for a column the schema lacks, a value that does not fit, a null where none may be.
    """
    return pa.RecordBatchReader.from_batches(
        schema, (conform(batch, schema) for batch in _batches(source, schema))
    )


def read_answers(source: Any, schema: pa.Schema) -> tuple[pa.Table, pa.Table]:
    """The rows of `source` in the shape of `schema`, and apart from them those it has no answer for.

    These say so by a true value in a boolean column `__unknown__`; a text column `__reason__` beside it may
    say why, and is kept in them. Any column may be null in them, whatever `schema` says.
    """
    answers = [field for field in _ANSWER_FIELDS if field.name not in schema.names]
    lenient = pa.schema([*(field.with_nullable(True) for field in schema), *answers])
    given = read_source(source, lenient).read_all()
    if UNKNOWN in schema.names:
        # The table's own column of that name says nothing about the source.
        unknown = pa.chunked_array([pa.repeat(pa.scalar(False), given.num_rows)])
    else:
        unknown = pc.fill_null(given.column(UNKNOWN), False)
    known = given.filter(pc.invert(unknown)).select(schema.names)
    rows = pa.RecordBatchReader.from_batches(schema, (conform(b, schema) for b in known.to_batches()))
    return rows.read_all(), given.filter(unknown).drop_columns([UNKNOWN])


def _batches(source: Any, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    if inspect.isfunction(source):
        for given in _call(source):
            yield from _batches(given, schema)
    elif isinstance(source, pa.RecordBatch):
        yield source
    elif isinstance(source, pa.Table | pads.Dataset | pa.RecordBatchReader):
        yield from source.to_batches() if not isinstance(source, pa.RecordBatchReader) else source
    elif isinstance(source, list | tuple):
        yield _from_rows(source, schema)
    else:
        raise PlanError(f"the source yielded {type(source).__name__}, not record batches")


def _call(function: Callable[[], Any]) -> Iterable[Any]:
    try:
        given = function()
        yield from given if inspect.isgenerator(given) else [given]
    except PlanError:
        raise
    except Exception as error:
        raise PlanError(f"{function.__name__}() raised {type(error).__name__}: {error}") from error


def _from_rows(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> pa.RecordBatch:
    rows = list(rows)
    unknown = {name for row in rows for name in row} - set(schema.names)
    if unknown:
        raise PlanError(f"the rows have columns that the table does not have: {', '.join(sorted(unknown))}")
    try:
        arrays = [pa.array([row.get(f.name) for row in rows], type=f.type) for f in schema]
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise PlanError(f"a row does not fit the schema: {error}") from error
    return pa.record_batch(arrays, schema=schema)


def conform(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """`batch` in the shape of `schema`; PlanError where that is impossible without loss."""
    unknown = set(batch.schema.names) - set(schema.names)
    if unknown:
        raise PlanError(f"the rows have columns that the table does not have: {', '.join(sorted(unknown))}")
    return pa.record_batch([_conform_column(batch, field) for field in schema], schema=schema)


def _conform_column(batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
    if field.name in batch.schema.names:
        array = batch.column(field.name)
        if array.type != field.type:
            try:
                array = array.cast(field.type)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise PlanError(f"column {field.name!r} does not fit: {error}") from error
    else:
        array = pa.nulls(batch.num_rows, field.type)
    if array.null_count and not field.nullable:
        raise PlanError(f"column {field.name!r} is not nullable, but is null in {array.null_count} rows")
    return array


def values_stub(name: str, doc: str) -> Callable[..., Any]:
    """A function of a batch, called `name`, that is still to be written; `doc` says what it is to do."""
    return _make_stub(_values_template, name, doc)


def rows_stub(name: str, doc: str) -> Callable[..., Any]:
    """A source of rows, called `name`, that is still to be written."""
    return _make_stub(_rows_template, name, doc)


def is_stub(function: Any) -> bool:
    """Whether a function does nothing but say that it is not implemented."""
    if not inspect.isfunction(function) or function.__code__.co_names != ("NotImplementedError",):
        return False
    return not any(step.opname.startswith(("RETURN", "YIELD")) for step in dis.get_instructions(function))


def _values_template(batch: pa.RecordBatch) -> pa.Array:
    raise NotImplementedError


def _rows_template() -> pa.Table:
    raise NotImplementedError


def _make_stub(function: Any, name: str, doc: str) -> Callable[..., Any]:
    made = FunctionType(function.__code__, {"NotImplementedError": NotImplementedError}, name)
    made.__qualname__, made.__doc__, made.__annotations__ = name, doc, dict(function.__annotations__)
    return made
