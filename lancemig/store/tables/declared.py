"""Pydantic models as LanceDB makes schemas of them."""

from typing import Any

import pyarrow as pa


def pydantic_schema(model: Any) -> pa.Schema:
    """The schema that LanceDB would give a table of this pydantic model; TypeError for what it cannot."""
    # LanceDB takes long to load, and only who declares such models needs it.
    from lancedb.pydantic import pydantic_to_schema

    return pydantic_to_schema(model)
