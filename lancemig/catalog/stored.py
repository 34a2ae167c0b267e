"""What Lance makes of a schema when it writes it, and which types it refuses.

Two schemas that are stored alike do not differ, however each was spelt. Every rule here is a fact about Lance
that tests/surface/test_lance_types.py holds.
"""

from collections.abc import Callable

import pyarrow as pa

from lancemig.catalog.nesting import fields_in, with_fields
from lancemig.catalog.spelling import spell_type

BLOB_V1, BLOB_V2 = b"lance-encoding:blob", "lance.blob.v2"
_EXTENSION = b"ARROW:extension:"


def stored_schema(given: pa.Schema) -> pa.Schema:
    """The columns as Lance gives them back, without metadata of the schema."""
    return pa.schema([stored_field(field) for field in given])


def stored_field(given: pa.Field) -> pa.Field:
    """A field as Lance gives it back. A blob is one, whichever way the storage version keeps it."""
    metadata = {k: v for k, v in (given.metadata or {}).items() if not k.startswith(_EXTENSION)}
    of = given.type
    if blob(given):
        of = pa.large_binary()
        metadata[BLOB_V1] = b"true"
    return pa.field(given.name, stored_type(of), given.nullable, metadata or None)


def stored_type(of: pa.DataType) -> pa.DataType:
    """A type as Lance gives it back.

    Views become what they view; a dictionary forgets its order, a map the names of its key and value, the
    item of a fixed-size list all but its type.
    """
    if isinstance(of, pa.JsonType):
        return pa.json_()
    if isinstance(of, pa.BaseExtensionType):
        return of
    if pa.types.is_fixed_size_list(of):
        return pa.list_(stored_type(of.value_type), of.list_size)
    if pa.types.is_dictionary(of):
        return pa.dictionary(of.index_type, stored_type(of.value_type))
    return with_fields(_VIEWED.get(of, of), [stored_field(field) for field in fields_in(of)])


_VIEWED = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}


def in_order(of: pa.DataType) -> pa.DataType:
    """A stored type with the fields of its structs by name, and without what these say in metadata.

    Equal for types between which there is nothing to convert.
    """
    if not isinstance(of, pa.BaseExtensionType) and pa.types.is_fixed_size_list(of):
        return pa.list_(in_order(of.value_type), of.list_size)
    fields = [pa.field(field.name, in_order(field.type), field.nullable) for field in fields_in(of)]
    return with_fields(of, sorted(fields, key=lambda field: str(field.name)))


def blob(field: pa.Field) -> bool:
    """Whether Lance keeps the bytes of this field apart, as blobs."""
    metadata = field.metadata or {}
    named = metadata.get(_EXTENSION + b"name", b"").decode() or getattr(field.type, "extension_name", "")
    return BLOB_V1 in metadata or named.startswith("lance.blob")


def refused(of: pa.DataType) -> str | None:
    """The type within `of` that Lance does not store, as text; None where it stores all of it."""
    if isinstance(of, pa.BaseExtensionType):
        return None
    if any(test(of) for test in _REFUSED):
        return spell_type(of)
    for at in range(of.num_fields):
        child = of.field(at).type
        # pylance cannot write an extension type inside another type.
        if isinstance(child, pa.BaseExtensionType):
            return f"{spell_type(child)} inside {spell_type(of)}"
        if (found := refused(child)) is not None:
            return found
    return None


def _unfit_item(of: pa.DataType) -> bool:
    """Whether a fixed-size list has items that are not all of one length.

    Lance makes tables with some of them, and cannot write their values, or never reads them again.
    """
    if not pa.types.is_fixed_size_list(of):
        return False
    item = of.value_type
    while pa.types.is_fixed_size_list(item):
        item = item.value_type
    fixed = pa.types.is_primitive(item) or pa.types.is_decimal(item) or pa.types.is_fixed_size_binary(item)
    return not (of.list_size and fixed)


def _empty_struct(of: pa.DataType) -> bool:
    """Whether it is a struct without fields, whose nulls are lost."""
    return bool(pa.types.is_struct(of) and not of.num_fields)


def _unfit_value(of: pa.DataType) -> bool:
    """Whether a dictionary has values other than text, bytes, numbers and truth."""
    if not pa.types.is_dictionary(of):
        return False
    value = of.value_type
    plain = pa.types.is_integer(value) or pa.types.is_floating(value) or pa.types.is_boolean(value)
    return not (plain or stored_type(value) in _WORDS)


_WORDS = (pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.null())
_REFUSED: tuple[Callable[[pa.DataType], bool], ...] = (
    pa.types.is_decimal32,
    pa.types.is_decimal64,
    pa.types.is_interval,
    pa.types.is_run_end_encoded,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
    pa.types.is_union,
    lambda of: pa.types.is_map(of) and of.keys_sorted,
    _empty_struct,
    _unfit_item,
    _unfit_value,
)
