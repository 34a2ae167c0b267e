"""Operations, values and Arrow types as Python source that evaluates to equal ones.

`render_operation` is the entry; `literal` renders values, `type_literal` and `field_literal` Arrow types and
fields, `function_source` the stub of a function that a person has to write.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from pydantic_core import PydanticUndefined

from lancemig.catalog.operations import Operation
from lancemig.errors import PlanError
from lancemig.revisions.writer import docstring_text, text_literal


def render_operation(operation: Operation) -> str:
    """The call that constructs `operation`, without arguments that have their default value.

    A function is rendered as its name. Raises PlanError for a value that has no literal.
    """
    arguments = []
    for name, field in type(operation).model_fields.items():
        value = getattr(operation, name)
        default = field.get_default(call_default_factory=True)
        is_default = default is not PydanticUndefined and type(value) is type(default) and value == default
        if name != "op" and not is_default:
            arguments.append(f"{field.alias or name}={literal(value)}")
    # `table` comes first, as people write it.
    arguments.sort(key=lambda text: not text.startswith("table="))
    return f"{type(operation).__name__}({', '.join(arguments)})"


def function_source(function: Any) -> str:
    """The source of a function stub, which raises NotImplementedError."""
    parameters = ", ".join(f"{name}: {_ANNOTATIONS[name]}" for name in inspect.signature(function).parameters)
    result = "pa.Array" if parameters else "pa.Table"
    return (
        f"def {function.__name__}({parameters}) -> {result}:\n"
        f'    """{docstring_text(function.__doc__ or "")}"""\n'
        f"    raise NotImplementedError\n"
    )


_ANNOTATIONS = {"batch": "pa.RecordBatch"}


def literal(value: Any) -> str:
    """A value of an operation's field as Python source, with strings quoted as formatters do."""
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
    """`pa.list_(pa.float32(), 768)`; PlanError for a type without a function in pyarrow."""
    if isinstance(of, pa.BaseExtensionType):
        return _extension_literal(of)
    for is_type, render in _TYPES:
        if is_type(of):
            return render(of)
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


def _decode_text(content: bytes) -> str | bytes:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content


def _item_literal(of: pa.Field, default_name: str) -> str:
    """The item of a list: its type alone where the field has the default name and properties."""
    is_default = of.name == default_name and of.nullable and not of.metadata
    return type_literal(of.type) if is_default else field_literal(of)


def _map_literal(of: pa.DataType) -> str:
    key = of.key_field
    key_text = type_literal(key.type) if key.name == "key" and not key.metadata else field_literal(key)
    keys_sorted = ", keys_sorted=True" if of.keys_sorted else ""
    return f"pa.map_({key_text}, {_item_literal(of.item_field, 'value')}{keys_sorted})"


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
        names = f"{text_literal(of.type_name)}, {text_literal(of.vendor_name)}"
        return f"pa.opaque({type_literal(of.storage_type)}, {names})"
    if isinstance(of, pa.FixedShapeTensorType):
        return _tensor_literal(of)
    raise PlanError(
        f"the extension type {name} cannot be written to a migration file",
        next_step="write that operation by hand: lancemig revision -m MESSAGE",
    )


def _tensor_literal(of: pa.FixedShapeTensorType) -> str:
    optional = [("dim_names", of.dim_names), ("permutation", of.permutation)]
    keywords = "".join(f", {name}={literal(list(value))}" for name, value in optional if value)
    return f"pa.fixed_shape_tensor({type_literal(of.value_type)}, {literal(list(of.shape))}{keywords})"


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
