"""The differences between the columns of a model and those of a table.

- `ColumnDiff`: columns to add, drop, retype, replace, make required or nullable, and describe.
- `convertible` and `widens` decide how a type can change.
- `changed_embeddings` finds vector columns whose embedding model changed, `embedding_sources` their source.
- `column_similarity` and `table_similarity` rate how likely a rename is.
"""

from collections.abc import Iterable, Iterator, Mapping
from difflib import SequenceMatcher
from typing import Any

import pyarrow as pa

from lancemig.catalog.arrow_arrays import nulls
from lancemig.catalog.arrow_types import fields_in, is_blob, is_varying_list, lance_type, normalized_type
from lancemig.catalog.models import EMBEDDINGS, Model, embedding_functions
from lancemig.catalog.schema import TableSchema, text_metadata

RENAME_THRESHOLD = 0.5
"""The similarity from which on a remark asks whether one was renamed to the other."""

_BITS = {pa.float16(): 11, pa.float32(): 24, pa.float64(): 53}
"""The bits of an integer that each float type holds without loss."""

_UNITS = ("s", "ms", "us", "ns")
_EMBEDDING_KEYS = ("embed", "model")


class ColumnDiff:
    """The differences between two lists of columns, by path, in the order of the model.

    The fields of a struct are compared one by one where operations on single fields can make all changes;
    otherwise the struct counts as one column.

    Args:
        wanted: The columns of the model, as Lance stores them.
        current: The columns of the table, as Lance stores them.
        described: Whether to compare the metadata of columns.
    """

    def __init__(self, wanted: pa.Schema, current: pa.Schema, *, described: bool) -> None:
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
            if field.name in current.names and is_blob(field) != is_blob(current.field(field.name))
        ]
        self._fields(wanted, current, "")

    def _fields(self, wanted: Iterable[pa.Field], current: Iterable[pa.Field], prefix: str) -> None:
        existing = {field.name: field for field in current}
        for field in wanted:
            old = existing.pop(field.name, None)
            if old is None:
                self.added.append((prefix + field.name, field))
            else:
                self._field(field, old, prefix)
        self.dropped += [prefix + name for name in existing]

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
            # A retyped column is written with the metadata of its nested fields.
            self._nested_metadata(field.type, old.type, path)
        if field.nullable != old.nullable:
            (self.relaxed if field.nullable else self.required).append(path)
        self._metadata(field, old, path)

    def _metadata(self, field: pa.Field, old: pa.Field, path: str) -> None:
        if self.described and (entries := metadata_edits(field, old)):
            self.metadata.append((path, entries))

    def _nested_metadata(self, of: pa.DataType, old: pa.DataType, path: str) -> None:
        """Compare the metadata of the nested fields of two equal types."""
        old_fields = {field.name: field for field in fields_in(old)}
        for field in fields_in(of):
            # The only field of a list, its item, may have any name.
            old_field = old_fields.get(field.name) or next(iter(old_fields.values()))
            self._metadata(field, old_field, f"{path}.{old_field.name}")
            self._nested_metadata(field.type, old_field.type, f"{path}.{old_field.name}")


def metadata_edits(field: pa.Field, old: pa.Field) -> dict[str, str | None]:
    """The changes of a column's metadata: entries to set, and None for those to remove."""
    wanted, current = text_metadata(field.metadata), text_metadata(old.metadata)
    entries: dict[str, str | None] = {k: v for k, v in wanted.items() if current.get(k) != v}
    entries |= {k: None for k in current if k not in wanted}
    return {k: v for k, v in entries.items() if not k.startswith("lancemig.")}


def editable_by_field(wanted: pa.DataType, current: pa.DataType) -> bool:
    """Whether both are structs, and operations on single fields can make all changes between them."""
    if not (pa.types.is_struct(wanted) and pa.types.is_struct(current)):
        return False
    existing = {field.name: field for field in fields_in(current)}
    fields = fields_in(wanted)
    if not fields or any(set(".`") & set(name) for name in [*existing, *(f.name for f in fields)]):
        return False
    return all(_editable(field, existing.get(field.name)) for field in fields)


def _editable(field: pa.Field, old: pa.Field | None) -> bool:
    if old is None:
        return bool(field.nullable)
    same = normalized_type(field.type) == normalized_type(old.type)
    return field.nullable == old.nullable and (
        same or editable_by_field(field.type, old.type) or convertible(old.type, field.type)
    )


def convertible(old: pa.DataType, new: pa.DataType) -> bool:
    """Whether Arrow casts in both directions, so that `RetypeColumn` can convert and detect any loss."""
    return old == new or (_same_nesting(old, new) and _can_cast(old, new) and _can_cast(new, old))


def _same_nesting(old: pa.DataType, new: pa.DataType) -> bool:
    """Whether two types have the same nesting: without values, Arrow also casts some that do not."""
    if old == new:
        return True
    if isinstance(old, pa.BaseExtensionType) or isinstance(new, pa.BaseExtensionType):
        return False
    if pa.types.is_dictionary(old) or pa.types.is_dictionary(new):
        old, new = (of.value_type if pa.types.is_dictionary(of) else of for of in (old, new))
        return _same_nesting(old, new)
    if pa.types.is_nested(old) or pa.types.is_nested(new):
        return _nested_convertible(old, new)
    return True


def _nested_convertible(old: pa.DataType, new: pa.DataType) -> bool:
    if pa.types.is_struct(old) and pa.types.is_struct(new):
        names = _field_names(old)
        same_names = names == _field_names(new)
        return same_names and all(_field_convertible(old.field(name), new.field(name)) for name in names)
    if pa.types.is_map(old) and pa.types.is_map(new):
        return convertible(old.key_type, new.key_type) and _field_convertible(old.item_field, new.item_field)
    if pa.types.is_fixed_size_list(old) and pa.types.is_fixed_size_list(new):
        return old.list_size == new.list_size and convertible(old.value_type, new.value_type)
    both_lists = is_varying_list(old) and is_varying_list(new)
    return both_lists and _field_convertible(old.value_field, new.value_field)


def _field_names(of: pa.DataType) -> list[str]:
    return [of.field(index).name for index in range(of.num_fields)]


def _field_convertible(old: pa.Field, new: pa.Field) -> bool:
    # Arrow refuses to make a nested field non-null, which one of the two directions would do.
    return old.nullable == new.nullable and convertible(old.type, new.type)


def _can_cast(old: pa.DataType, new: pa.DataType) -> bool:
    try:
        nulls(0, old).cast(new)
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
        return all(widens(old_child, new_child) for old_child, new_child in pairs)
    return False


def _is_number(of: pa.DataType) -> bool:
    return bool(pa.types.is_integer(of) or of in _BITS or pa.types.is_decimal(of))


def _number_widens(old: pa.DataType, new: pa.DataType) -> bool:
    if pa.types.is_integer(old) and pa.types.is_integer(new):
        return _integer_widens(old, new)
    if pa.types.is_decimal(old) and pa.types.is_decimal(new):
        whole_digits_fit = old.precision - old.scale <= new.precision - new.scale
        return bool(whole_digits_fit and old.scale <= new.scale)
    if pa.types.is_integer(old) and new in _BITS:
        return bool(old.bit_width <= _BITS[new])
    return old in _BITS and new in _BITS and _BITS[old] <= _BITS[new]


def _integer_widens(old: pa.DataType, new: pa.DataType) -> bool:
    if pa.types.is_signed_integer(old) == pa.types.is_signed_integer(new):
        return bool(old.bit_width <= new.bit_width)
    return bool(pa.types.is_signed_integer(new) and old.bit_width < new.bit_width)


def _child_types(of: pa.DataType) -> list[pa.DataType]:
    return [of.field(index).type for index in range(of.num_fields)]


def _is_text(of: pa.DataType) -> bool:
    return bool(pa.types.is_string(of) or pa.types.is_large_string(of))


def _is_varying_binary(of: pa.DataType) -> bool:
    return bool(pa.types.is_binary(of) or pa.types.is_large_binary(of))


def _is_binary(of: pa.DataType) -> bool:
    return _is_varying_binary(of) or bool(pa.types.is_fixed_size_binary(of))


def is_vector(of: pa.DataType) -> bool:
    """Whether values of this type are vectors: fixed-size lists of floats or bytes."""
    if not pa.types.is_fixed_size_list(of):
        return False
    return bool(pa.types.is_floating(of.value_type) or pa.types.is_int8(of.value_type))


def changed_embeddings(model: Model, current: TableSchema, renamed: Mapping[str, str]) -> dict[str, str]:
    """The vector columns whose embedding model changed, each with the reason.

    Args:
        model: The model of the table.
        current: The table; its metadata names columns as before they were renamed.
        renamed: The old name of each renamed column, with its new name.
    """
    wanted, before = _embeddings_of(model.metadata), _embeddings_of(current.metadata)
    had = {
        renamed.get(name, name): _with_renamed_source(embedding, renamed)
        for name, embedding in before.items()
    }
    return {
        field.name: why
        for field in model.columns
        if field.name in current.columns.names and is_vector(field.type)
        for why in _reasons(field, current.columns.field(field.name), wanted, had)
    }


def _reasons(
    field: pa.Field, old: pa.Field, wanted: Mapping[str, Any], had: Mapping[str, Any]
) -> Iterator[str]:
    if field.name in wanted and field.name in had and _differs(wanted[field.name], had[field.name]):
        new_text, old_text = _embedding_change(wanted[field.name], had[field.name])
        yield f"LanceDB now computes it {new_text}, previously {old_text}"
        return
    new, before = text_metadata(field.metadata), text_metadata(old.metadata)
    for key in sorted(new.keys() & before.keys()):
        if new[key] != before[key] and any(word in key.lower() for word in _EMBEDDING_KEYS):
            yield f"its {key} is now {new[key]!r}, previously {before[key]!r}"
            return


def embedding_sources(column: str, model: Model, current: TableSchema) -> tuple[str, ...]:
    """The existing columns that a vector column is computed from.

    The metadata of the model names the source; otherwise it is the first text column outside the key.
    """
    columns = current.columns
    source = _embeddings_of(model.metadata).get(column, {}).get("source_column")
    if source in columns.names:
        return (str(source),)
    texts = [field.name for field in columns if _is_text(field.type)]
    likely = [name for name in texts if name not in current.key and name != column]
    return tuple(likely[:1]) or fallback_sources(column, current)


def fallback_sources(column: str, current: TableSchema) -> tuple[str, ...]:
    """A column to compute another one from, where its source is unknown: of the key, or the first one."""
    names = [name for name in current.key if name != column] or [
        n for n in current.columns.names if n != column
    ]
    return tuple(names[:1]) or (column,)


def _embeddings_of(metadata: Mapping[str, str | None]) -> dict[str, dict[str, Any]]:
    return embedding_functions(metadata.get(EMBEDDINGS))


def _with_renamed_source(described: Mapping[str, Any], renamed: Mapping[str, str]) -> dict[str, Any]:
    source = described.get("source_column")
    return {**described, "source_column": renamed.get(str(source), source)}


def _differs(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Whether function, source or a setting differs; settings that only one side names are ignored."""
    return any(new.get(key) != old.get(key) for key in ("name", "source_column")) or bool(
        _changed_settings(new, old)
    )


def _changed_settings(new: Mapping[str, Any], old: Mapping[str, Any]) -> list[str]:
    """The settings that both name with different values."""
    settings, before = new.get("model") or {}, old.get("model") or {}
    return sorted(key for key in settings.keys() & before.keys() if settings[key] != before[key])


def _embedding_change(new: Mapping[str, Any], old: Mapping[str, Any]) -> tuple[str, str]:
    """The first difference between two embedding functions: the text for the new and for the old one."""
    if _function_and_model(new) != _function_and_model(old):
        return f"by {_function_and_model(new)}", f"by {_function_and_model(old)}"
    if new.get("source_column") != old.get("source_column"):
        return f"from {new.get('source_column')}", f"from {old.get('source_column')}"
    key = _changed_settings(new, old)[0]
    return f"with {key} {new['model'][key]!r}", f"with {old['model'][key]!r}"


def _function_and_model(described: Mapping[str, Any]) -> str:
    model = described.get("model") or {}
    return f"{described.get('name')} {model.get('name', '')}".strip()


def column_similarity(new: pa.Field, old: pa.Field) -> float:
    """The similarity of two columns from 0 to 1: half for the name, half for an equal type."""
    same_type = 1.0 if lance_type(new.type) == lance_type(old.type) else 0.0
    return (_name_similarity(new.name, old.name) + same_type) / 2


def table_similarity(name: str, new: pa.Schema, other: str, old: pa.Schema) -> float:
    """The similarity of two tables from 0 to 1: a third for the name, the rest for equal columns."""
    new_columns = {(field.name, str(lance_type(field.type))) for field in new}
    old_columns = {(field.name, str(lance_type(field.type))) for field in old}
    shared = len(new_columns & old_columns) / len(new_columns | old_columns)
    return _name_similarity(name, other) / 3 + shared * 2 / 3


def _name_similarity(new: str, old: str) -> float:
    return SequenceMatcher(None, new.lower(), old.lower()).ratio()
