"""Arrow types as text, as Lance stores them, and whether Lance supports them.

- `format_type`, `parse_type` and the like convert types, fields and schemas to text and back. The text is
that
  of pyarrow (`list<item: int32>`, `timestamp[us, tz=UTC]`), with `float16`, `float32` and `float64` for the
  floats, and `list<int32>` and `dictionary<int32, string>` as short forms.
- `as_type`, `as_field` and `as_schema` accept what users write; `ArrowType`, `ArrowField` and `ArrowSchema`
are
  the fields of pydantic models with them.
- `fields_in` and `with_fields` take nested types apart and put them together.
- `lance_schema`, `lance_field` and `lance_type` give types as Lance returns them; `unsupported_type` names
the
  type that Lance cannot store.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any

import pyarrow as pa
from pydantic import BeforeValidator, PlainSerializer

_FLOATS = {"halffloat": "float16", "float": "float32", "double": "float64"}
_LEAF = re.compile(r"[a-z_0-9]+(\[[^\]<>]*\]|\([^)<>]*\))?")
_TIMESTAMP = re.compile(r"timestamp\[(s|ms|us|ns), *tz=([^\]]+)\]")
_DECIMAL = re.compile(r"decimal(32|64|128|256)\((\d+), *(-?\d+)\)")
_FIXED_BINARY = re.compile(r"fixed_size_binary\[(\d+)\]")
_UNQUOTED_NAME = re.compile(r"[^\s:,<>\"](?:[^:,<>\"]*[^\s:,<>\"])?")
_UNQUOTED_ITEM_NAME = re.compile(r"[A-Za-z_]\w*")
_EXTENSIONS = {"arrow.uuid": pa.uuid, "arrow.json": pa.json_, "arrow.bool8": pa.bool8}
_VIEWS = {"string_view": pa.string_view, "binary_view": pa.binary_view}


def format_type(of: pa.DataType) -> str:
    """The text of a type; `parse_type` reads it back to an equal type."""
    if pa.types.is_struct(of):
        return f"struct<{', '.join(format_field(of.field(i)) for i in range(of.num_fields))}>"
    if pa.types.is_map(of):
        required = "" if of.item_field.nullable else " not null"
        return f"map<{format_type(of.key_type)}, {format_type(of.item_type)}{required}>"
    if pa.types.is_fixed_size_list(of):
        return f"fixed_size_list<{_format_named(of.value_field, _UNQUOTED_ITEM_NAME)}>[{of.list_size}]"
    if pa.types.is_large_list(of):
        return f"large_list<{_format_named(of.value_field, _UNQUOTED_ITEM_NAME)}>"
    if pa.types.is_list(of):
        return f"list<{_format_named(of.value_field, _UNQUOTED_ITEM_NAME)}>"
    if pa.types.is_dictionary(of):
        ordered = ", ordered=1" if of.ordered else ""
        values, indices = format_type(of.value_type), format_type(of.index_type)
        return f"dictionary<values={values}, indices={indices}{ordered}>"
    return _FLOATS.get(str(of), str(of))


def format_field(of: pa.Field) -> str:
    """`name: type` or `name: type not null`; a name with special characters is quoted as in JSON."""
    return _format_named(of, _UNQUOTED_NAME)


def _format_named(of: pa.Field, plain: re.Pattern[str]) -> str:
    name = of.name if plain.fullmatch(of.name) else json.dumps(of.name)
    return f"{name}: {format_type(of.type)}{'' if of.nullable else ' not null'}"


def parse_type(text: str) -> pa.DataType:
    """The type of a text; ValueError where it cannot be parsed."""
    parser = _TypeParser(text)
    parsed = parser.type()
    parser.end()
    return parsed


def parse_field(text: str) -> pa.Field:
    """The field of a text `name: type [not null]`; ValueError where it cannot be parsed."""
    parser = _TypeParser(text)
    parsed = parser.field(until=":")
    parser.end()
    return parsed


class _TypeParser:
    """A recursive-descent parser over the text of one type or field."""

    def __init__(self, text: str) -> None:
        self.text = text.strip()
        self.at = 0

    def fail(self, wanted: str) -> ValueError:
        return ValueError(f"cannot parse the type {self.text!r}: expected {wanted} at position {self.at}")

    def skip(self) -> None:
        while self.text[self.at : self.at + 1] == " ":
            self.at += 1

    def take(self, token: str) -> bool:
        self.skip()
        if self.text.startswith(token, self.at):
            self.at += len(token)
            return True
        return False

    def expect(self, token: str) -> None:
        if not self.take(token):
            raise self.fail(repr(token))

    def end(self) -> None:
        self.skip()
        if self.at != len(self.text):
            raise self.fail("end")

    def type(self) -> pa.DataType:
        for word, build in _NESTED.items():
            if self.take(word + "<"):
                return build(self)
        return self.leaf()

    def leaf(self) -> pa.DataType:
        self.skip()
        match = _LEAF.match(self.text, self.at)
        if match is None:
            raise self.fail("a type")
        parsed = _leaf_type(match.group())
        if parsed is None:
            raise ValueError(f"unknown type {match.group()!r}")
        self.at = match.end()
        return parsed

    def field(self, until: str) -> pa.Field:
        name = self.name(until)
        of = self.type()
        return pa.field(name, of, nullable=not self.take("not null"))

    def name(self, until: str) -> str:
        self.skip()
        if self.text.startswith('"', self.at):
            name, self.at = json.JSONDecoder().raw_decode(self.text, self.at)
            self.expect(until)
            return str(name)
        stop = self.text.find(until, self.at)
        if stop < 0:
            raise self.fail(f"name{until} type")
        name, self.at = self.text[self.at : stop].strip(), stop + len(until)
        return name

    def item(self) -> pa.Field:
        """The item of a list, with or without a name."""
        named = re.compile(r" *(\"|[A-Za-z_]\w* *:)").match(self.text, self.at)
        if named:
            return self.field(until=":")
        of = self.type()
        return pa.field("item", of, nullable=not self.take("not null"))

    def words(self) -> list[str]:
        """The items between brackets."""
        self.expect("[")
        end = self.text.find("]", self.at)
        if end < 0:
            raise self.fail("']'")
        given, self.at = self.text[self.at : end], end + 1
        return [word.strip() for word in given.split(",") if word.strip()]

    def number(self) -> int:
        match = re.compile(r"\d+").match(self.text, self.at)
        if match is None:
            raise self.fail("a number")
        self.at = match.end()
        return int(match.group())


def _leaf_type(word: str) -> pa.DataType | None:
    if match := _TIMESTAMP.fullmatch(word):
        return pa.timestamp(match[1], tz=match[2])
    if match := _DECIMAL.fullmatch(word):
        return getattr(pa, f"decimal{match[1]}")(int(match[2]), int(match[3]))
    if match := _FIXED_BINARY.fullmatch(word):
        return pa.binary(int(match[1]))
    if word in _VIEWS:
        return _VIEWS[word]()
    try:
        return pa.type_for_alias(word)
    except ValueError:
        return None


def _parse_struct(parser: _TypeParser) -> pa.DataType:
    fields = []
    while not parser.take(">"):
        fields.append(parser.field(until=":"))
        if not parser.take(","):
            parser.expect(">")
            break
    return pa.struct(fields)


def _list_parser(make: Callable[[pa.Field], pa.DataType]) -> Callable[["_TypeParser"], pa.DataType]:
    def read(parser: _TypeParser) -> pa.DataType:
        item = parser.item()
        parser.expect(">")
        return make(item)

    return read


def _parse_fixed_size_list(parser: _TypeParser) -> pa.DataType:
    item = parser.item()
    parser.expect(">[")
    size = parser.number()
    parser.expect("]")
    return pa.list_(item, size)


def _parse_map(parser: _TypeParser) -> pa.DataType:
    key = parser.type()
    parser.expect(",")
    item = pa.field("value", parser.type(), nullable=not parser.take("not null"))
    parser.expect(">")
    return pa.map_(key, item)


def _parse_extension(parser: _TypeParser) -> pa.DataType:
    for name, make in _EXTENSIONS.items():
        if parser.take(name + ">"):
            return make()
    if parser.take("arrow.fixed_shape_tensor["):
        return _parse_tensor(parser)
    raise parser.fail(" or ".join([*_EXTENSIONS, "arrow.fixed_shape_tensor"]))


def _parse_tensor(parser: _TypeParser) -> pa.DataType:
    parser.expect("value_type=")
    values = parser.type()
    parser.expect(", shape=")
    shape = [int(number) for number in parser.words()]
    permutation = [int(number) for number in parser.words()] if parser.take(", permutation=") else None
    names = parser.words() if parser.take(", dim_names=") else None
    parser.expect("]>")
    return pa.fixed_shape_tensor(values, shape, names, permutation)


def _parse_dictionary(parser: _TypeParser) -> pa.DataType:
    """`dictionary<values=string, indices=int32>` of pyarrow, or `dictionary<int32, string>`."""
    if not parser.take("values="):
        indices = parser.type()
        parser.expect(",")
        values = parser.type()
        ordered = parser.take(",") and parser.take("ordered=") and bool(parser.number())
        parser.expect(">")
        return pa.dictionary(indices, values, ordered)
    values = parser.type()
    parser.expect(", indices=")
    indices = parser.type()
    ordered = parser.take(", ordered=") and bool(parser.number())
    parser.expect(">")
    return pa.dictionary(indices, values, ordered)


_NESTED: dict[str, Callable[[_TypeParser], pa.DataType]] = {
    "struct": _parse_struct,
    "fixed_size_list": _parse_fixed_size_list,
    "large_list": _list_parser(pa.large_list),
    "list": _list_parser(pa.list_),
    "map": _parse_map,
    "dictionary": _parse_dictionary,
    "extension": _parse_extension,
}


def as_type(given: Any) -> pa.DataType:
    """A pyarrow type, given one or its text; ValueError otherwise."""
    if isinstance(given, pa.DataType):
        return given
    if isinstance(given, str):
        return parse_type(given)
    raise ValueError(f"expected a pyarrow type or its text, not {given!r}")


def as_field(given: Any) -> pa.Field:
    """A pyarrow field, given one or its text; ValueError otherwise."""
    if isinstance(given, pa.Field):
        return given
    if isinstance(given, str):
        return parse_field(given)
    raise ValueError(f"expected a pyarrow field or `name: type`, not {given!r}")


def as_schema(given: Any) -> pa.Schema:
    """A pyarrow schema; ValueError where none can be made.

    Args:
        given: A schema, a LanceModel, a mapping from names to types, fields, or lines of text.
    """
    if isinstance(given, pa.Schema):
        return given
    if callable(getattr(given, "to_arrow_schema", None)):
        return given.to_arrow_schema()
    if isinstance(given, str):
        return pa.schema([parse_field(line) for line in given.splitlines() if line.strip()])
    if isinstance(given, Mapping):
        return pa.schema([_named_field(name, of) for name, of in given.items()])
    if isinstance(given, Iterable):
        return pa.schema([as_field(field) for field in given])
    raise ValueError(f"expected a pyarrow schema, a LanceModel or a list of fields, not {given!r}")


def _named_field(name: str, of: Any) -> pa.Field:
    return parse_field(f"{json.dumps(name)}: {of}") if isinstance(of, str) else pa.field(name, as_type(of))


def format_schema(schema: pa.Schema) -> list[str]:
    """The text of each field, in the order of the schema."""
    return [format_field(field) for field in schema]


ArrowType = Annotated[pa.DataType, BeforeValidator(as_type), PlainSerializer(format_type)]
ArrowField = Annotated[pa.Field, BeforeValidator(as_field), PlainSerializer(format_field)]
ArrowSchema = Annotated[pa.Schema, BeforeValidator(as_schema), PlainSerializer(format_schema)]


def fields_in(of: pa.DataType) -> tuple[pa.Field, ...]:
    """The fields inside a struct, a list or a map; those of a map with Lance's names `key` and `value`."""
    if isinstance(of, pa.BaseExtensionType):
        return ()
    if pa.types.is_struct(of):
        return tuple(of.field(at) for at in range(of.num_fields))
    if pa.types.is_map(of):
        return of.key_field.with_name("key"), of.item_field.with_name("value")
    return (of.value_field,) if is_varying_list(of) else ()


def with_fields(of: pa.DataType, fields: Sequence[pa.Field]) -> pa.DataType:
    """The same kind of type with other fields inside; a type without fields is returned as it is."""
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
    """Whether values are lists of varying length."""
    return bool(pa.types.is_list(of) or pa.types.is_large_list(of))


_BLOB = b"lance-encoding:blob"
_EXTENSION = b"ARROW:extension:"


def lance_schema(given: pa.Schema) -> pa.Schema:
    """The columns as Lance returns them, without the metadata of the schema."""
    return pa.schema([lance_field(field) for field in given])


def lance_field(given: pa.Field) -> pa.Field:
    """A field as Lance returns it; both encodings of blobs become the same field."""
    metadata = {k: v for k, v in (given.metadata or {}).items() if not k.startswith(_EXTENSION)}
    of = given.type
    if is_blob(given):
        of = pa.large_binary()
        metadata[_BLOB] = b"true"
    return pa.field(given.name, lance_type(of), given.nullable, metadata or None)


def lance_type(of: pa.DataType) -> pa.DataType:
    """A type as Lance returns it.

    A view becomes the type that it views. A dictionary loses its order, a map the names of its key and value,
    and the item of a fixed-size list everything but its type.
    """
    if isinstance(of, pa.JsonType):
        return pa.json_()
    if isinstance(of, pa.BaseExtensionType):
        return of
    if pa.types.is_fixed_size_list(of):
        return pa.list_(lance_type(of.value_type), of.list_size)
    if pa.types.is_dictionary(of):
        return pa.dictionary(of.index_type, lance_type(of.value_type))
    return with_fields(_VIEW_TARGETS.get(of, of), [lance_field(field) for field in fields_in(of)])


_VIEW_TARGETS = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}


def normalized_type(of: pa.DataType) -> pa.DataType:
    """A stored type with the fields of structs sorted by name, and without metadata.

    Two types are equal in this form where values need no conversion between them.
    """
    if not isinstance(of, pa.BaseExtensionType) and pa.types.is_fixed_size_list(of):
        return pa.list_(normalized_type(of.value_type), of.list_size)
    fields = [pa.field(field.name, normalized_type(field.type), field.nullable) for field in fields_in(of)]
    return with_fields(of, sorted(fields, key=lambda field: str(field.name)))


def is_blob(field: pa.Field) -> bool:
    """Whether Lance stores the bytes of this field separately, as blobs."""
    metadata = field.metadata or {}
    extension = metadata.get(_EXTENSION + b"name", b"").decode() or getattr(field.type, "extension_name", "")
    return _BLOB in metadata or extension.startswith("lance.blob")


def unsupported_type(of: pa.DataType) -> str | None:
    """The text of the type inside `of` that Lance cannot store; None where it can store all of `of`."""
    if isinstance(of, pa.BaseExtensionType):
        return None
    if any(test(of) for test in _UNSUPPORTED):
        return format_type(of)
    for index in range(of.num_fields):
        child = of.field(index).type
        # pylance cannot write an extension type inside another type.
        if isinstance(child, pa.BaseExtensionType):
            return f"{format_type(child)} inside {format_type(of)}"
        if (unsupported := unsupported_type(child)) is not None:
            return unsupported
    return None


def _has_varying_items(of: pa.DataType) -> bool:
    """Whether a fixed-size list has items without a fixed width.

    Lance creates tables with some of these types, but cannot write their values, or not read them again.
    """
    if not pa.types.is_fixed_size_list(of):
        return False
    item = of.value_type
    while pa.types.is_fixed_size_list(item):
        item = item.value_type
    fixed = pa.types.is_primitive(item) or pa.types.is_decimal(item) or pa.types.is_fixed_size_binary(item)
    return not (of.list_size and fixed)


def _is_empty_struct(of: pa.DataType) -> bool:
    """Whether it is a struct without fields, which loses its nulls."""
    return bool(pa.types.is_struct(of) and not of.num_fields)


def _has_unsupported_values(of: pa.DataType) -> bool:
    """Whether a dictionary has values other than text, bytes, numbers and booleans."""
    if not pa.types.is_dictionary(of):
        return False
    value = of.value_type
    primitive = pa.types.is_integer(value) or pa.types.is_floating(value) or pa.types.is_boolean(value)
    return not (primitive or lance_type(value) in _DICTIONARY_VALUES)


_DICTIONARY_VALUES = (pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.null())
_UNSUPPORTED: tuple[Callable[[pa.DataType], bool], ...] = (
    pa.types.is_decimal32,
    pa.types.is_decimal64,
    pa.types.is_interval,
    pa.types.is_run_end_encoded,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
    pa.types.is_union,
    lambda of: pa.types.is_map(of) and of.keys_sorted,
    _is_empty_struct,
    _has_varying_items,
    _has_unsupported_values,
)
