"""Places for functions that a person has to write: what stands there until then refuses to be run."""

import dis
import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any

import pyarrow as pa


def place_for_values(name: str, doc: str) -> Callable[..., Any]:
    """A function of a batch, called `name`, that is still to be written; `doc` says what it is to do."""
    return _renamed(_values, name, doc)


def place_for_rows(name: str, doc: str) -> Callable[..., Any]:
    """A source of rows, called `name`, that is still to be written."""
    return _renamed(_rows, name, doc)


def unwritten(function: Any) -> bool:
    """Whether a function does nothing but say that it is not implemented."""
    if not inspect.isfunction(function) or function.__code__.co_names != ("NotImplementedError",):
        return False
    return not any(step.opname.startswith(("RETURN", "YIELD")) for step in dis.get_instructions(function))


def _values(batch: pa.RecordBatch) -> pa.Array:
    raise NotImplementedError


def _rows() -> pa.Table:
    raise NotImplementedError


def _renamed(function: Any, name: str, doc: str) -> Callable[..., Any]:
    made = FunctionType(function.__code__, {"NotImplementedError": NotImplementedError}, name)
    made.__qualname__, made.__doc__, made.__annotations__ = name, doc, dict(function.__annotations__)
    return made
