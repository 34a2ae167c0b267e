"""The fields inside a type: of a struct its own, of a list its item, of a map its key and value.

The item of a fixed-size list is none: Lance keeps nothing of it but the type.
"""

from collections.abc import Sequence

import pyarrow as pa


def fields_in(of: pa.DataType) -> tuple[pa.Field, ...]:
    """The fields inside `of`; those of a map as Lance calls them, whatever they are called."""
    if isinstance(of, pa.BaseExtensionType):
        return ()
    if pa.types.is_struct(of):
        return tuple(of.field(at) for at in range(of.num_fields))
    if pa.types.is_map(of):
        return of.key_field.with_name("key"), of.item_field.with_name("value")
    return (of.value_field,) if is_varying_list(of) else ()


def with_fields(of: pa.DataType, fields: Sequence[pa.Field]) -> pa.DataType:
    """The same kind of type with other fields inside; one that has none is as it was."""
    if isinstance(of, pa.BaseExtensionType):
        return of
    if pa.types.is_struct(of):
        return pa.struct(list(fields))
    if pa.types.is_map(of):
        return pa.map_(*fields)
    if is_varying_list(of):
        return (pa.large_list if pa.types.is_large_list(of) else pa.list_)(*fields)
    return of


def is_varying_list(of: pa.DataType) -> bool:
    """Whether values are lists, each of its own length."""
    return bool(pa.types.is_list(of) or pa.types.is_large_list(of))
