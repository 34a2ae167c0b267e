"""Vectors and the models that compute them: from which columns, and when they must be made anew."""

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from lancemig.catalog.models import EMBEDDINGS, Model, embeddings
from lancemig.catalog.schema import TableSchema, text_metadata

_TELLING = ("embed", "model")


def is_vector(of: pa.DataType) -> bool:
    """Whether values of this type are vectors: as many floats or bytes in every row."""
    if not pa.types.is_fixed_size_list(of):
        return False
    return bool(pa.types.is_floating(of.value_type) or pa.types.is_int8(of.value_type))


def recomputed(model: Model, found: TableSchema, renamed: Mapping[str, str]) -> dict[str, str]:
    """The vector columns that keep their type and whose embedding model is another one now, and why.

    What the table says of them is from before columns were `renamed`.
    """
    wanted, before = _described(model.metadata), _described(found.metadata)
    had = {renamed.get(name, name): _renamed(one, renamed) for name, one in before.items()}
    return {
        field.name: why
        for field in model.columns
        if field.name in found.columns.names and is_vector(field.type)
        for why in _reasons(field, found.columns.field(field.name), wanted, had)
    }


def _reasons(
    field: pa.Field, old: pa.Field, wanted: Mapping[str, Any], had: Mapping[str, Any]
) -> Iterator[str]:
    if field.name in wanted and field.name in had and _other(wanted[field.name], had[field.name]):
        now, then = _told_apart(wanted[field.name], had[field.name])
        yield f"LanceDB now computes it {now}, previously {then}"
        return
    new, before = text_metadata(field.metadata), text_metadata(old.metadata)
    for key in sorted(new.keys() & before.keys()):
        if new[key] != before[key] and any(word in key.lower() for word in _TELLING):
            yield f"its {key} is now {new[key]!r}, previously {before[key]!r}"
            return


def sources(column: str, model: Model, found: TableSchema) -> tuple[str, ...]:
    """The columns that a vector column is computed from, as far as the metadata tells; else the likeliest.

    They are columns that the table has already.
    """
    there = found.columns
    told = _described(model.metadata).get(column, {}).get("source_column")
    if told in there.names:
        return (str(told),)
    texts = [f.name for f in there if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)]
    likely = [name for name in texts if name not in found.key and name != column]
    return tuple(likely[:1]) or others(column, found)


def others(column: str, found: TableSchema) -> tuple[str, ...]:
    """A column to begin with where nothing tells what one is computed from: the key, or the first one."""
    names = [name for name in found.key if name != column] or [n for n in found.columns.names if n != column]
    return tuple(names[:1]) or (column,)


def _described(metadata: Mapping[str, str | None]) -> dict[str, dict[str, Any]]:
    return embeddings(metadata.get(EMBEDDINGS))


def _renamed(described: Mapping[str, Any], renamed: Mapping[str, str]) -> dict[str, Any]:
    source = described.get("source_column")
    return {**described, "source_column": renamed.get(str(source), source)}


def _other(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Whether another function, source or setting is named; a setting that only one side names is not one."""
    return any(new.get(key) != old.get(key) for key in ("name", "source_column")) or bool(_settings(new, old))


def _settings(new: Mapping[str, Any], old: Mapping[str, Any]) -> list[str]:
    """The settings that both name, with other values."""
    settings, before = new.get("model") or {}, old.get("model") or {}
    return sorted(key for key in settings.keys() & before.keys() if settings[key] != before[key])


def _told_apart(new: Mapping[str, Any], old: Mapping[str, Any]) -> tuple[str, str]:
    """Both, in as few words as tell the one from the other."""
    if _named(new) != _named(old):
        return f"by {_named(new)}", f"by {_named(old)}"
    if new.get("source_column") != old.get("source_column"):
        return f"from {new.get('source_column')}", f"from {old.get('source_column')}"
    key = _settings(new, old)[0]
    return f"with {key} {new['model'][key]!r}", f"with {old['model'][key]!r}"


def _named(described: Mapping[str, Any]) -> str:
    model = described.get("model") or {}
    return f"{described.get('name')} {model.get('name', '')}".strip()
