"""Operations as the text of a migration file: what is written here loads as an equal operation."""

from collections.abc import Callable, Mapping, Sequence
from inspect import isfunction
from typing import Any

import pyarrow as pa

from lancemig.catalog.operations import Operation
from lancemig.catalog.schema import text_metadata
from lancemig.errors import PlanError

_BLOB = "lance.blob.v2"


def rendered(operation: Operation) -> str:
    """`operation` as an expression that names every field which is not its default.

    Functions are spelt by name. PlanError for what no text of a file makes: a type that is registered
    elsewhere, rows that are held in memory by Arrow.
    """
    given = []
    for name, field in type(operation).model_fields.items():
        value = getattr(operation, name)
        if name != "op" and (field.is_required() or value != field.get_default(call_default_factory=True)):
            given.append(f"{field.alias or name}={expression(value)}")
    return f"{type(operation).__name__}({', '.join(given)})"


def expression(value: Any) -> str:
    """A value of an operation's field as an expression; `pa` is pyarrow, `lance` is pylance."""
    if isfunction(value):
        return value.__name__
    for of, spell in _SPELLINGS:
        if isinstance(value, of):
            return spell(value)
    raise PlanError(f"{type(value).__name__} cannot be written into a migration file")


def _sequence(value: Sequence[Any]) -> str:
    items = ", ".join(map(expression, value))
    if isinstance(value, tuple):
        return f"({items},)" if len(value) == 1 else f"({items})"
    return f"[{items}]"


def _mapping(value: Mapping[Any, Any]) -> str:
    return f"{{{', '.join(f'{expression(key)}: {expression(item)}' for key, item in value.items())}}}"


def _text(value: str) -> str:
    spelt = repr(value)
    return spelt if '"' in value or not spelt.startswith("'") else f'"{spelt[1:-1]}"'.replace("\\'", "'")


def _float(value: float) -> str:
    text = repr(value)
    return text if text[-1].isdigit() else f'float("{text}")'


def _schema(schema: pa.Schema) -> str:
    fields = ", ".join(map(_field, schema))
    return f"pa.schema([{fields}]{_metadata(schema)})"


def _field(field: pa.Field) -> str:
    required = "" if field.nullable else ", nullable=False"
    if getattr(field.type, "extension_name", "") == _BLOB:
        return f"lance.blob_field({_text(field.name)}{required})"
    return f"pa.field({_text(field.name)}, {_type(field.type)}{required}{_metadata(field)})"


def _metadata(of: pa.Field | pa.Schema) -> str:
    return f", metadata={_mapping(text_metadata(of.metadata))}" if of.metadata else ""


def _item(of: pa.DataType) -> str:
    """What a list holds: the type alone where pyarrow would name it so."""
    return _unless_default(of.value_field, pa.field("item", of.value_type))


def _unless_default(field: pa.Field, default: pa.Field) -> str:
    return _type(field.type) if field.equals(default, check_metadata=True) else _field(field)


def _map(of: pa.MapType) -> str:
    item = _unless_default(of.item_field, pa.field(of.item_field.name, of.item_type))
    return f"pa.map_({_type(of.key_type)}, {item}{', keys_sorted=True' if of.keys_sorted else ''})"


def _dictionary(of: pa.DictionaryType) -> str:
    ordered = ", ordered=True" if of.ordered else ""
    return f"pa.dictionary({_type(of.index_type)}, {_type(of.value_type)}{ordered})"


def _timestamp(of: pa.TimestampType) -> str:
    return f'pa.timestamp("{of.unit}"{f", tz={_text(of.tz)}" if of.tz is not None else ""})'


def _type(of: pa.DataType) -> str:
    if isinstance(of, pa.BaseExtensionType):
        return _extension(of)
    for fits, spell in _TYPES:
        if fits(of):
            return spell(of)
    return f"pa.{_PLAIN.get(str(of), str(of))}()"


def _extension(of: pa.BaseExtensionType) -> str:
    made = {"arrow.uuid": "pa.uuid()", "arrow.json": "pa.json_()", "arrow.bool8": "pa.bool8()"}
    if of.extension_name not in made:
        raise PlanError(
            f"the type {of} cannot be written into a migration file",
            next_step="lancemig revision -m MESSAGE, and write the operation by hand",
        )
    return made[of.extension_name]


_PLAIN = {
    "bool": "bool_",
    "halffloat": "float16",
    "float": "float32",
    "double": "float64",
    "date32[day]": "date32",
    "date64[ms]": "date64",
    "month_day_nano_interval": "month_day_nano_interval",
}

_TYPES: tuple[tuple[Callable[[pa.DataType], bool], Callable[[Any], str]], ...] = (
    (pa.types.is_struct, lambda of: f"pa.struct([{', '.join(map(_field, of))}])"),
    (pa.types.is_map, _map),
    (pa.types.is_fixed_size_list, lambda of: f"pa.list_({_item(of)}, {of.list_size})"),
    (pa.types.is_large_list, lambda of: f"pa.large_list({_item(of)})"),
    (pa.types.is_list, lambda of: f"pa.list_({_item(of)})"),
    (pa.types.is_dictionary, _dictionary),
    (pa.types.is_timestamp, _timestamp),
    (pa.types.is_time32, lambda of: f'pa.time32("{of.unit}")'),
    (pa.types.is_time64, lambda of: f'pa.time64("{of.unit}")'),
    (pa.types.is_duration, lambda of: f'pa.duration("{of.unit}")'),
    (pa.types.is_decimal, lambda of: f"pa.{str(of).partition('(')[0]}({of.precision}, {of.scale})"),
    (pa.types.is_fixed_size_binary, lambda of: f"pa.binary({of.byte_width})"),
)

_SPELLINGS: tuple[tuple[Any, Callable[[Any], str]], ...] = (
    (str, _text),
    (bool, repr),
    (float, _float),
    (int | None, repr),
    (pa.Schema, _schema),
    (pa.Field, _field),
    (pa.DataType, _type),
    (list | tuple, _sequence),
    (Mapping, _mapping),
    (bytes, repr),
)
