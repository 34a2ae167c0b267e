"""Schemas of pydantic models, as LanceDB derives them."""

from typing import Any, get_args

import pyarrow as pa
from pydantic import BaseModel, create_model


def pydantic_schema(model: type[BaseModel]) -> pa.Schema:
    """The schema that LanceDB gives a table of this model; TypeError names a field it does not support."""
    # LanceDB takes long to load, and only projects with such models need it.
    from lancedb.pydantic import pydantic_to_schema

    # A LanceModel also declares how its vectors are computed.
    make = getattr(model, "to_arrow_schema", None)
    try:
        return make() if make else pydantic_to_schema(model)
    except RecursionError as error:
        raise TypeError(f"{model.__name__} refers to itself; a column type cannot be recursive") from error
    except (TypeError, ValueError) as error:
        why = str(error).rstrip(".")
        raise TypeError(f"{_culprit(model)}: {why}; declare the table with a pa.Schema instead") from error


def _culprit(model: type[BaseModel]) -> str:
    """The path of the first field that LanceDB does not support."""
    from lancedb.pydantic import pydantic_to_schema

    for name, field in model.model_fields.items():
        only: Any = {name: (field.annotation, field)}
        alone = create_model(model.__name__, **only)
        try:
            pydantic_to_schema(alone)
        except (TypeError, ValueError):
            inside = [of for of in (field.annotation, *_within(field.annotation)) if _is_model(of)]
            return f"{name}.{_culprit(inside[0])}" if inside else name
    return model.__name__


def _within(annotation: Any) -> list[Any]:
    return [of for argument in get_args(annotation) for of in (argument, *_within(argument))]


def _is_model(of: Any) -> bool:
    return isinstance(of, type) and issubclass(of, BaseModel)
