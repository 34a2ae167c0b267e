"""Operations as the Python that makes them again: in a file, they load as equal ones."""

import inspect
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from pydantic_core import PydanticUndefined

from lancemig.catalog.operations import Operation
from lancemig.errors import PlanError
from lancemig.revisions.writer import docstring_text, text_literal


def render_operation(operation: Operation) -> str:
    """The call that makes `operation`; fields that are as they would be anyway are left out.

    A function is named: its source is not part of it. Raises PlanError for a value that has no literal.
    """
    fields = type(operation).model_fields
    given = []
    for name, field in fields.items():
        value = getattr(operation, name)
        usual = field.get_default(call_default_factory=True)
        if name != "op" and (usual is PydanticUndefined or type(value) is not type(usual) or value != usual):
            given.append(f"{field.alias or name}={literal(value)}")
    # `table` comes first, as people write it.
    given.sort(key=lambda text: not text.startswith("table="))
    return f"{type(operation).__name__}({', '.join(given)})"


def function_source(function: Any) -> str:
    """A function that is still to be written, as it stands in a file until it is."""
    parameters = ", ".join(f"{name}: {_ANNOTATIONS[name]}" for name in inspect.signature(function).parameters)
    result = "pa.Array" if parameters else "pa.Table"
    return (
        f"def {function.__name__}({parameters}) -> {result}:\n"
        f'    """{docstring_text(function.__doc__ or "")}"""\n'
        f"    raise NotImplementedError\n"
    )


_ANNOTATIONS = {"batch": "pa.RecordBatch"}


def literal(value: Any) -> str:
    """A value as source text: what operations are made of, with strings as formatters quote them."""
    if isinstance(value, str):
        return text_literal(value)
    if isinstance(value, pa.Schema | pa.Field | pa.DataType):
        return _arrow_literal(value)
    if inspect.isfunction(value):
        return value.__name__
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{literal(k)}: {literal(v)}' for k, v in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, tuple):
        return f"({', '.join(map(literal, value))}{',' if len(value) == 1 else ''})"
    return _scalar_literal(value)


def _scalar_literal(value: Any) -> str:
    if value is None or isinstance(value, bool | int):
        return repr(value)
    if isinstance(value, float):
        return repr(value) if value - value == 0 else f'float("{value}")'
    if isinstance(value, bytes):
        return f"b{text_literal(value.decode('latin-1'), ascii_only=True)}"
    raise PlanError(
        f"a {type(value).__name__} cannot be written to a migration file",
        next_step="write that operation by hand: lancemig revision -m MESSAGE",
    )


def type_literal(of: pa.DataType) -> str:
    """`pa.list_(pa.float32(), 768)`; PlanError for a type that pyarrow has no function for."""
    if isinstance(of, pa.BaseExtensionType):
        return _extension_literal(of)
    for test, spell in _TYPES:
        if test(of):
            return spell(of)
    return f"pa.{_NAMES.get(str(of), str(of))}()"


def field_literal(of: pa.Field) -> str:
    """`pa.field("gain", pa.float64(), nullable=False)`."""
    blob = getattr(of.type, "extension_name", "").startswith("lance.blob") and not of.metadata
    parts = [text_literal(of.name), *([] if blob else [type_literal(of.type)])]
    parts += [] if of.nullable else ["nullable=False"]
    parts += [f"metadata={_metadata_literal(of.metadata)}"] if of.metadata else []
    return f"{'lance.blob_field' if blob else 'pa.field'}({', '.join(parts)})"


def _arrow_literal(of: Any) -> str:
    if isinstance(of, pa.Schema):
        metadata = f", metadata={_metadata_literal(of.metadata)}" if of.metadata else ""
        return f"pa.schema([{', '.join(map(field_literal, of))}]{metadata})"
    return field_literal(of) if isinstance(of, pa.Field) else type_literal(of)


def _metadata_literal(metadata: Mapping[bytes, bytes]) -> str:
    return literal({_decode_text(k): _decode_text(v) for k, v in metadata.items()})


def _decode_text(given: bytes) -> str | bytes:
    try:
        return given.decode()
    except UnicodeDecodeError:
        return given


def _item_literal(of: pa.Field, usual: str) -> str:
    """The item of a list: its type alone where all else is as it is by itself."""
    usually = of.name == usual and of.nullable and not of.metadata
    return type_literal(of.type) if usually else field_literal(of)


def _map_literal(of: pa.DataType) -> str:
    key = of.key_field
    usually = key.name == "key" and not key.metadata
    sorted_ = ", keys_sorted=True" if of.keys_sorted else ""
    spelt = type_literal(key.type) if usually else field_literal(key)
    return f"pa.map_({spelt}, {_item_literal(of.item_field, 'value')}{sorted_})"


def _dictionary_literal(of: pa.DataType) -> str:
    ordered = ", ordered=True" if of.ordered else ""
    return f"pa.dictionary({type_literal(of.index_type)}, {type_literal(of.value_type)}{ordered})"


def _timestamp_literal(of: pa.DataType) -> str:
    zone = f", tz={text_literal(of.tz)}" if of.tz else ""
    return f'pa.timestamp("{of.unit}"{zone})'


def _struct_literal(of: pa.DataType) -> str:
    return f"pa.struct([{', '.join(field_literal(of.field(at)) for at in range(of.num_fields))}])"


def _extension_literal(of: pa.BaseExtensionType) -> str:
    name = of.extension_name
    if name.startswith("lance.blob"):
        return "lance.blob.BlobType()"
    if isinstance(of, pa.UuidType | pa.Bool8Type):
        return f"pa.{name.removeprefix('arrow.')}()"
    if isinstance(of, pa.JsonType):
        return (
            "pa.json_()" if of.storage_type == pa.string() else f"pa.json_({type_literal(of.storage_type)})"
        )
    if isinstance(of, pa.OpaqueType):
        named = f"{text_literal(of.type_name)}, {text_literal(of.vendor_name)}"
        return f"pa.opaque({type_literal(of.storage_type)}, {named})"
    if isinstance(of, pa.FixedShapeTensorType):
        return _tensor_literal(of)
    raise PlanError(
        f"the extension type {name} cannot be written to a migration file",
        next_step="write that operation by hand: lancemig revision -m MESSAGE",
    )


def _tensor_literal(of: pa.FixedShapeTensorType) -> str:
    named = [("dim_names", of.dim_names), ("permutation", of.permutation)]
    more = "".join(f", {name}={literal(list(given))}" for name, given in named if given)
    return f"pa.fixed_shape_tensor({type_literal(of.value_type)}, {literal(list(of.shape))}{more})"


_NAMES = {
    "bool": "bool_", "halffloat": "float16", "float": "float32", "double": "float64",
    "date32[day]": "date32", "date64[ms]": "date64",
}  # fmt: skip
_TYPES = (
    (pa.types.is_struct, _struct_literal),
    (pa.types.is_map, _map_literal),
    (pa.types.is_dictionary, _dictionary_literal),
    (
        pa.types.is_fixed_size_list,
        lambda of: f"pa.list_({_item_literal(of.value_field, 'item')}, {of.list_size})",
    ),
    (pa.types.is_large_list, lambda of: f"pa.large_list({_item_literal(of.value_field, 'item')})"),
    (pa.types.is_list, lambda of: f"pa.list_({_item_literal(of.value_field, 'item')})"),
    (pa.types.is_timestamp, _timestamp_literal),
    (pa.types.is_time32, lambda of: f'pa.time32("{of.unit}")'),
    (pa.types.is_time64, lambda of: f'pa.time64("{of.unit}")'),
    (pa.types.is_duration, lambda of: f'pa.duration("{of.unit}")'),
    (pa.types.is_decimal, lambda of: f"pa.decimal{of.bit_width}({of.precision}, {of.scale})"),
    (pa.types.is_fixed_size_binary, lambda of: f"pa.binary({of.byte_width})"),
)
