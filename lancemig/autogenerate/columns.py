"""The columns of a model beside those of a table: which to add, drop, retype, replace, require, describe."""

from collections.abc import Iterable, Iterator, Mapping
from difflib import SequenceMatcher
from typing import Any

import pyarrow as pa

from lancemig.catalog.arrow_types import fields_in, is_blob, lance_type, normalized_type
from lancemig.catalog.models import EMBEDDINGS, Model, embedding_functions
from lancemig.catalog.schema import TableSchema, text_metadata

_BITS = {pa.float16(): 11, pa.float32(): 24, pa.float64(): 53}
"""How many bits of an integer a float holds without loss."""

_UNITS = ("s", "ms", "us", "ns")


def convertible(old: pa.DataType, new: pa.DataType) -> bool:
    """Whether a cast there and back is known, so that `RetypeColumn` can do it and see what it would lose."""
    return old == new or (_same_nesting(old, new) and _can_cast(old, new) and _can_cast(new, old))


def _same_nesting(old: pa.DataType, new: pa.DataType) -> bool:
    """Whether the two are nested alike: Arrow casts some that are not while there are no values."""
    if old == new:
        return True
    if isinstance(old, pa.BaseExtensionType) or isinstance(new, pa.BaseExtensionType):
        return False
    if pa.types.is_dictionary(old) or pa.types.is_dictionary(new):
        return _same_nesting(*(of.value_type if pa.types.is_dictionary(of) else of for of in (old, new)))
    if pa.types.is_nested(old) or pa.types.is_nested(new):
        return _nested_convertible(old, new)
    return True


def _nested_convertible(old: pa.DataType, new: pa.DataType) -> bool:
    if pa.types.is_struct(old) and pa.types.is_struct(new):
        return _field_names(old) == _field_names(new) and all(
            _field_convertible(old.field(n), new.field(n)) for n in _field_names(old)
        )
    if pa.types.is_map(old) and pa.types.is_map(new):
        return convertible(old.key_type, new.key_type) and _field_convertible(old.item_field, new.item_field)
    if pa.types.is_fixed_size_list(old) and pa.types.is_fixed_size_list(new):
        return old.list_size == new.list_size and convertible(old.value_type, new.value_type)
    return bool(_varying(old) and _varying(new) and _field_convertible(old.value_field, new.value_field))


def _varying(of: pa.DataType) -> bool:
    return bool(pa.types.is_list(of) or pa.types.is_large_list(of))


def _field_names(of: pa.DataType) -> list[str]:
    return [of.field(at).name for at in range(of.num_fields)]


def _field_convertible(old: pa.Field, new: pa.Field) -> bool:
    # Arrow refuses to make a field inside another one non-null, and the way back would do so.
    return old.nullable == new.nullable and convertible(old.type, new.type)


def _can_cast(old: pa.DataType, new: pa.DataType) -> bool:
    try:
        pa.nulls(0, old).cast(new)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return False
    return True


def widens(old: pa.DataType, new: pa.DataType) -> bool:
    """Whether every value of `old` fits into `new`."""
    if pa.types.is_dictionary(old):
        return widens(old.value_type, new)
    if (
        old == new
        or (_is_text(old) and _is_text(new))
        or ((_is_binary(old) or _is_text(old)) and _is_varying_binary(new))
    ):
        return True
    if pa.types.is_boolean(old) or (pa.types.is_integer(old) and _is_text(new)):
        return bool(pa.types.is_integer(new) or _is_text(new))
    if _is_number(old) and _is_number(new):
        return _number_widens(old, new)
    if pa.types.is_time(old) and pa.types.is_time(new):
        return _UNITS.index(old.unit) <= _UNITS.index(new.unit)
    if pa.types.is_nested(old) and pa.types.is_nested(new):
        pairs = zip(_child_types(old), _child_types(new), strict=False)
        return all(widens(one, other) for one, other in pairs)
    return False


def _is_number(of: pa.DataType) -> bool:
    return bool(pa.types.is_integer(of) or of in _BITS or pa.types.is_decimal(of))


def _number_widens(old: pa.DataType, new: pa.DataType) -> bool:
    if pa.types.is_integer(old) and pa.types.is_integer(new):
        return _integer_widens(old, new)
    if pa.types.is_decimal(old) and pa.types.is_decimal(new):
        before = old.precision - old.scale <= new.precision - new.scale
        return bool(before and old.scale <= new.scale)
    if pa.types.is_integer(old) and new in _BITS:
        return bool(old.bit_width <= _BITS[new])
    return old in _BITS and new in _BITS and _BITS[old] <= _BITS[new]


def _integer_widens(old: pa.DataType, new: pa.DataType) -> bool:
    if pa.types.is_signed_integer(old) == pa.types.is_signed_integer(new):
        return bool(old.bit_width <= new.bit_width)
    return bool(pa.types.is_signed_integer(new) and old.bit_width < new.bit_width)


def _child_types(of: pa.DataType) -> list[pa.DataType]:
    return [of.field(at).type for at in range(of.num_fields)]


def _is_text(of: pa.DataType) -> bool:
    return bool(pa.types.is_string(of) or pa.types.is_large_string(of))


def _is_varying_binary(of: pa.DataType) -> bool:
    return bool(pa.types.is_binary(of) or pa.types.is_large_binary(of))


def _is_binary(of: pa.DataType) -> bool:
    return _is_varying_binary(of) or bool(pa.types.is_fixed_size_binary(of))


class ColumnDiff:
    """What differs, by the path of the column, each list in the order of the model.

    A struct is gone into where all that differs in it can be done field by field; else it is one column.
    Both sides are as Lance stores them.
    """

    def __init__(self, wanted: pa.Schema, found: pa.Schema, *, described: bool) -> None:
        self.described = described
        self.added: list[tuple[str, pa.Field]] = []
        self.dropped: list[str] = []
        self.retyped: list[tuple[str, pa.DataType, pa.DataType]] = []
        self.replaced: list[tuple[pa.Field, pa.Field]] = []
        self.required: list[str] = []
        self.relaxed: list[str] = []
        self.metadata: list[tuple[str, dict[str, str | None]]] = []
        self.blobs = [
            field.name
            for field in wanted
            if field.name in found.names and is_blob(field) != is_blob(found.field(field.name))
        ]
        self._fields(wanted, found, "")

    def _fields(self, wanted: Iterable[pa.Field], found: Iterable[pa.Field], prefix: str) -> None:
        there = {field.name: field for field in found}
        for field in wanted:
            old = there.pop(field.name, None)
            if old is None:
                self.added.append((prefix + field.name, field))
            else:
                self._field(field, old, prefix)
        self.dropped += [prefix + name for name in there]

    def _field(self, field: pa.Field, old: pa.Field, prefix: str) -> None:
        path = prefix + field.name
        if editable_by_field(field.type, old.type):
            self._fields(fields_in(field.type), fields_in(old.type), f"{path}.")
        elif normalized_type(field.type) != normalized_type(old.type):
            if not convertible(old.type, field.type):
                self.replaced.append((field, old))
                return
            self.retyped.append((path, old.type, field.type))
        else:
            # A column of another type is written with what is inside it.
            self._inside(field.type, old.type, path)
        if field.nullable != old.nullable:
            (self.relaxed if field.nullable else self.required).append(path)
        self._metadata(field, old, path)

    def _metadata(self, field: pa.Field, old: pa.Field, path: str) -> None:
        if self.described and (entries := metadata_edits(field, old)):
            self.metadata.append((path, entries))

    def _inside(self, of: pa.DataType, old: pa.DataType, path: str) -> None:
        """What the fields inside two types say that are the same but for it."""
        there = {field.name: field for field in fields_in(old)}
        # The item of a list may be called anything; there is one.
        pairs = [(field, there.get(field.name) or next(iter(there.values()))) for field in fields_in(of)]
        for field, other in pairs:
            self._metadata(field, other, f"{path}.{other.name}")
            self._inside(field.type, other.type, f"{path}.{other.name}")


def metadata_edits(field: pa.Field, old: pa.Field) -> dict[str, str | None]:
    """The entries of a column's metadata that are to be set, or removed."""
    wanted, found = text_metadata(field.metadata), text_metadata(old.metadata)
    entries: dict[str, str | None] = {k: v for k, v in wanted.items() if found.get(k) != v}
    entries |= {k: None for k in found if k not in wanted}
    return {k: v for k, v in entries.items() if not k.startswith("lancemig.")}


def editable_by_field(wanted: pa.DataType, found: pa.DataType) -> bool:
    """Whether both are structs whose differences are all such as operations on single fields can mend."""
    if not (pa.types.is_struct(wanted) and pa.types.is_struct(found)):
        return False
    there = {field.name: field for field in fields_in(found)}
    fields = fields_in(wanted)
    if not fields or any(set(".`") & set(name) for name in [*there, *(f.name for f in fields)]):
        return False
    return all(_editable(field, there.get(field.name)) for field in fields)


def _editable(field: pa.Field, old: pa.Field | None) -> bool:
    if old is None:
        return bool(field.nullable)
    same = normalized_type(field.type) == normalized_type(old.type)
    return field.nullable == old.nullable and (
        same or editable_by_field(field.type, old.type) or convertible(old.type, field.type)
    )


_EMBEDDING_KEYS = ("embed", "model")


def is_vector(of: pa.DataType) -> bool:
    """Whether values of this type are vectors: as many floats or bytes in every row."""
    if not pa.types.is_fixed_size_list(of):
        return False
    return bool(pa.types.is_floating(of.value_type) or pa.types.is_int8(of.value_type))


def changed_embeddings(model: Model, found: TableSchema, renamed: Mapping[str, str]) -> dict[str, str]:
    """The vector columns that keep their type and whose embedding model is another one now, and why.

    What the table says of them is from before columns were `renamed`.
    """
    wanted, before = _embeddings_of(model.metadata), _embeddings_of(found.metadata)
    had = {renamed.get(name, name): _with_renamed_source(one, renamed) for name, one in before.items()}
    return {
        field.name: why
        for field in model.columns
        if field.name in found.columns.names and is_vector(field.type)
        for why in _reasons(field, found.columns.field(field.name), wanted, had)
    }


def _reasons(
    field: pa.Field, old: pa.Field, wanted: Mapping[str, Any], had: Mapping[str, Any]
) -> Iterator[str]:
    if field.name in wanted and field.name in had and _differs(wanted[field.name], had[field.name]):
        now, then = _embedding_change(wanted[field.name], had[field.name])
        yield f"LanceDB now computes it {now}, previously {then}"
        return
    new, before = text_metadata(field.metadata), text_metadata(old.metadata)
    for key in sorted(new.keys() & before.keys()):
        if new[key] != before[key] and any(word in key.lower() for word in _EMBEDDING_KEYS):
            yield f"its {key} is now {new[key]!r}, previously {before[key]!r}"
            return


def embedding_sources(column: str, model: Model, found: TableSchema) -> tuple[str, ...]:
    """The columns that a vector column is computed from, as far as the metadata tells; else the likeliest.

    They are columns that the table has already.
    """
    there = found.columns
    told = _embeddings_of(model.metadata).get(column, {}).get("source_column")
    if told in there.names:
        return (str(told),)
    texts = [f.name for f in there if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)]
    likely = [name for name in texts if name not in found.key and name != column]
    return tuple(likely[:1]) or fallback_sources(column, found)


def fallback_sources(column: str, found: TableSchema) -> tuple[str, ...]:
    """A column to begin with where nothing tells what one is computed from: the key, or the first one."""
    names = [name for name in found.key if name != column] or [n for n in found.columns.names if n != column]
    return tuple(names[:1]) or (column,)


def _embeddings_of(metadata: Mapping[str, str | None]) -> dict[str, dict[str, Any]]:
    return embedding_functions(metadata.get(EMBEDDINGS))


def _with_renamed_source(described: Mapping[str, Any], renamed: Mapping[str, str]) -> dict[str, Any]:
    source = described.get("source_column")
    return {**described, "source_column": renamed.get(str(source), source)}


def _differs(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Whether another function, source or setting is named; a setting that only one side names is not one."""
    return any(new.get(key) != old.get(key) for key in ("name", "source_column")) or bool(
        _changed_settings(new, old)
    )


def _changed_settings(new: Mapping[str, Any], old: Mapping[str, Any]) -> list[str]:
    """The settings that both name, with other values."""
    settings, before = new.get("model") or {}, old.get("model") or {}
    return sorted(key for key in settings.keys() & before.keys() if settings[key] != before[key])


def _embedding_change(new: Mapping[str, Any], old: Mapping[str, Any]) -> tuple[str, str]:
    """Both, in as few words as tell the one from the other."""
    if _function_and_model(new) != _function_and_model(old):
        return f"by {_function_and_model(new)}", f"by {_function_and_model(old)}"
    if new.get("source_column") != old.get("source_column"):
        return f"from {new.get('source_column')}", f"from {old.get('source_column')}"
    key = _changed_settings(new, old)[0]
    return f"with {key} {new['model'][key]!r}", f"with {old['model'][key]!r}"


def _function_and_model(described: Mapping[str, Any]) -> str:
    model = described.get("model") or {}
    return f"{described.get('name')} {model.get('name', '')}".strip()


RENAME_THRESHOLD = 0.5
"""From here on, a person is asked whether one was renamed to the other."""


def column_similarity(new: pa.Field, old: pa.Field) -> float:
    """Half for the name, half for the type."""
    alike = 1.0 if lance_type(new.type) == lance_type(old.type) else 0.0
    return (_name_similarity(new.name, old.name) + alike) / 2


def table_similarity(name: str, new: pa.Schema, other: str, old: pa.Schema) -> float:
    """A third for the name, the rest for columns with the same name and type."""
    ours = {(field.name, str(lance_type(field.type))) for field in new}
    theirs = {(field.name, str(lance_type(field.type))) for field in old}
    shared = len(ours & theirs) / len(ours | theirs)
    return _name_similarity(name, other) / 3 + shared * 2 / 3


def _name_similarity(one: str, other: str) -> float:
    return SequenceMatcher(None, one.lower(), other.lower()).ratio()
