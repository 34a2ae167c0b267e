"""Sources of rows for operations: checking them, reading them with a schema, and stubs of functions.

A source is a list of mappings, an Arrow table, dataset or reader, or a function that yields record batches.
`checked_source` accepts one, `read_source` reads it. `deferred_datasets` defers the opening of the datasets
that a migration file declares. `values_stub` and `rows_stub` make the functions that a person still has to
write, `is_stub` recognizes them.
"""

import dis
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property, wraps
from os import PathLike
from types import FunctionType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from lancemig.catalog.arrow_arrays import array_of, nulls
from lancemig.catalog.function_errors import function_failure
from lancemig.errors import PlanError

UNKNOWN, REASON = "__unknown__", "__reason__"
_ANSWER_FIELDS = (pa.field(UNKNOWN, pa.bool_()), pa.field(REASON, pa.string()))


class DeferredDataset:
    """An Arrow dataset of files that is opened when it is first used, not when it is declared.

    The revision may be applied long since, and its files removed; then nothing reads them.

    Args:
        arguments: Positional arguments of `pyarrow.dataset.dataset`.
        options: Its other arguments.
    """

    def __init__(self, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        self._arguments, self._options = arguments, options

    @cached_property
    def opened(self) -> pads.Dataset:
        """The dataset; PlanError where it cannot be opened."""
        source, *others = self._arguments
        if isinstance(source, list | tuple):
            source = [part.opened if isinstance(part, DeferredDataset) else part for part in source]
        try:
            return _open_dataset(source, *others, **self._options)
        except (OSError, pa.ArrowException, TypeError, ValueError) as error:
            raise _unreadable(source, error) from error

    @property
    def is_union(self) -> bool:
        """Whether it consists of other datasets."""
        source = self._arguments[0]
        return isinstance(source, list | tuple) and any(isinstance(part, DeferredDataset) for part in source)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.opened, name)

    def __repr__(self) -> str:
        return f"<DeferredDataset {self._arguments[0]!r}>"


_open_dataset = pads.dataset
_deferring: ContextVar[bool] = ContextVar("_deferring", default=False)


@wraps(_open_dataset)
def _defer_dataset(*arguments: Any, **options: Any) -> Any:
    if not arguments and "source" in options:
        arguments = (options.pop("source"),)
    if _deferring.get() and arguments and _can_wait(arguments[0]):
        return DeferredDataset(arguments, options)
    return _open_dataset(*arguments, **options)


def _can_wait(source: Any) -> bool:
    """Whether a source of `pyarrow.dataset.dataset` names files, or datasets that wait themselves."""
    if isinstance(source, list | tuple):
        return bool(source) and all(_can_wait(part) for part in source)
    return isinstance(source, str | PathLike | DeferredDataset)


@contextmanager
def deferred_datasets() -> Iterator[None]:
    """Within it, `pyarrow.dataset.dataset` of files makes a DeferredDataset, in this thread."""
    token, before = _deferring.set(True), pads.dataset
    pads.dataset = _defer_dataset
    try:
        yield
    finally:
        pads.dataset = before
        _deferring.reset(token)


def _unreadable(source: Any, error: Exception) -> PlanError:
    return PlanError(
        f"the source {source!r} cannot be read: {type(error).__name__}: {error}",
        next_step="restore the source, or name another one in the migration file",
    )


def checked_function(value: Any) -> Callable[..., Any]:
    """`value` if it is a module-level function, whose code its file's digest covers; ValueError otherwise."""
    if not inspect.isfunction(value):
        raise ValueError(f"expected a function, not {value!r}")
    if "<" in value.__qualname__ or "." in value.__qualname__:
        raise ValueError(f"{value.__qualname__} is not a module-level function")
    return value


def checked_source(value: Any) -> Any:
    """A source that can be read repeatedly: a one-shot reader is read into a table. ValueError otherwise."""
    if isinstance(value, pa.RecordBatchReader):
        return value.read_all()
    if isinstance(value, pa.Table | pa.RecordBatch | pads.Dataset | DeferredDataset):
        return value
    if inspect.isfunction(value):
        return checked_function(value)
    if isinstance(value, list | tuple) and all(isinstance(row, Mapping) for row in value):
        return list(value)
    raise ValueError(
        "must be a list of mappings, a pyarrow table, reader or dataset, or a module-level "
        f"function that yields record batches, not {type(value).__name__}"
    )


def describe_source(source: Any) -> str:
    """A source in one line."""
    if inspect.isfunction(source):
        return f"{source.__name__}()"
    if isinstance(source, list):
        return count_text(len(source), "row")
    if isinstance(source, pa.Table | pa.RecordBatch):
        return count_text(source.num_rows, "row")
    if isinstance(source, DeferredDataset):
        # What the plans of earlier releases say; a digest covers it.
        return "UnionDataset" if source.is_union else "FileSystemDataset"
    return type(source).__name__


def count_text(count: int, noun: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def known_rows(source: Any) -> int | None:
    """The number of rows of a source; None where that is unknown without reading it."""
    if isinstance(source, list):
        return len(source)
    if isinstance(source, pa.Table | pa.RecordBatch):
        return int(source.num_rows)
    return None


def read_source(source: Any, schema: pa.Schema) -> pa.RecordBatchReader:
    """Read the rows of a source with a schema: columns by name, cast without loss, missing ones null.

    Raises:
        PlanError: A column is not in the schema, a value does not fit its type, or a non-null column is null.
    """
    return pa.RecordBatchReader.from_batches(
        schema, (conform(batch, schema) for batch in _batches(source, schema))
    )


def read_answers(source: Any, schema: pa.Schema) -> tuple[pa.Table, pa.Table]:
    """Read the rows of a source, separated by whether the source knows their values.

    Returns:
        The known rows with `schema`; and the rows marked by a true value in the boolean column `__unknown__`,
        which keep the text column `__reason__`. Any column of these may be null.
    """
    answer_fields = [field for field in _ANSWER_FIELDS if field.name not in schema.names]
    lenient = pa.schema([*(field.with_nullable(True) for field in schema), *answer_fields])
    answers = read_source(source, lenient).read_all()
    if UNKNOWN in schema.names:
        # A column of that name in the table itself is no mark of the source.
        unknown = pa.chunked_array([pa.repeat(pa.scalar(False), answers.num_rows)])
    else:
        unknown = pc.fill_null(answers.column(UNKNOWN), False)
    known = answers.filter(pc.invert(unknown)).select(schema.names)
    rows = pa.RecordBatchReader.from_batches(schema, (conform(b, schema) for b in known.to_batches()))
    return rows.read_all(), answers.filter(unknown).drop_columns([UNKNOWN])


def _batches(source: Any, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    if inspect.isfunction(source):
        for part in _call(source):
            yield from _batches(part, schema)
    elif isinstance(source, pa.RecordBatch):
        yield source
    elif isinstance(source, DeferredDataset):
        yield from _batches(source.opened, schema)
    elif isinstance(source, pa.Table | pads.Dataset | pa.RecordBatchReader):
        yield from source.to_batches() if not isinstance(source, pa.RecordBatchReader) else source
    elif isinstance(source, list | tuple):
        yield _from_rows(source, schema)
    else:
        raise PlanError(f"the source yielded {type(source).__name__}, not record batches")


def _call(function: Callable[[], Any]) -> Iterable[Any]:
    try:
        result = function()
        yield from result if inspect.isgenerator(result) else [result]
    except PlanError:
        raise
    except Exception as error:
        raise function_failure(function.__name__, error) from error


def _from_rows(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> pa.RecordBatch:
    rows = list(rows)
    unknown = {name for row in rows for name in row} - set(schema.names)
    if unknown:
        raise PlanError(f"the rows have columns that the table does not have: {', '.join(sorted(unknown))}")
    try:
        arrays = [array_of([row.get(f.name) for row in rows], f.type) for f in schema]
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise PlanError(f"a row does not fit the schema: {error}") from error
    return pa.record_batch(arrays, schema=schema)


def conform(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """`batch` with `schema`; PlanError where that is impossible without loss."""
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
        array = nulls(batch.num_rows, field.type)
    if array.null_count and not field.nullable:
        raise PlanError(f"column {field.name!r} is not nullable, but is null in {array.null_count} rows")
    return array


def values_stub(name: str, doc: str) -> Callable[..., Any]:
    """A stub of a function that computes values from a batch; `doc` is its docstring."""
    return _make_stub(_values_template, name, doc)


def rows_stub(name: str, doc: str) -> Callable[..., Any]:
    """A stub of a function that yields rows; `doc` is its docstring."""
    return _make_stub(_rows_template, name, doc)


def is_stub(function: Any) -> bool:
    """Whether a function only raises NotImplementedError."""
    if not inspect.isfunction(function) or function.__code__.co_names != ("NotImplementedError",):
        return False
    return not any(step.opname.startswith(("RETURN", "YIELD")) for step in dis.get_instructions(function))


def _values_template(batch: pa.RecordBatch) -> pa.Array:
    raise NotImplementedError


def _rows_template() -> pa.Table:
    raise NotImplementedError


def _make_stub(function: Any, name: str, doc: str) -> Callable[..., Any]:
    stub = FunctionType(function.__code__, {"NotImplementedError": NotImplementedError}, name)
    stub.__qualname__, stub.__doc__, stub.__annotations__ = name, doc, dict(function.__annotations__)
    return stub
