"""Metadata of a schema that names columns: it follows a rename, and loses what names a dropped column.

`embedding_functions` is LanceDB's: which function embeds which source column into which vector column.
`pandas` describes the columns of a data frame. Text that cannot be read as such stays as it is.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

EMBEDDING_FUNCTIONS = "embedding_functions"
_PANDAS = "pandas"
_EMBEDDED = ("source_column", "vector_column")

Renamed = Callable[[str], str | None]
"""Gives the name of a column afterwards; None if it does not exist any more."""


def with_renamed_column(metadata: Mapping[str, str], old: str, new: str) -> dict[str, str]:
    """The metadata after the column `old` is called `new`."""
    return _changed(metadata, lambda name: new if name == old else name)


def without_columns(metadata: Mapping[str, str], dropped: Collection[str]) -> dict[str, str]:
    """The metadata without what names one of the `dropped` columns."""
    return _changed(metadata, lambda name: None if name in dropped else name)


def embeddings(metadata: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """The name of each embedding function of LanceDB, its source column and its vector column."""
    for entry in _entries(_parsed(metadata, EMBEDDING_FUNCTIONS)):
        source, vector = (entry.get(field) for field in _EMBEDDED)
        if isinstance(source, str) and isinstance(vector, str):
            yield str(entry.get("name")), source, vector


def _changed(metadata: Mapping[str, str], renamed: Renamed) -> dict[str, str]:
    found = dict(metadata)
    for name, change in ((EMBEDDING_FUNCTIONS, _embedding_functions), (_PANDAS, _pandas)):
        document = _parsed(metadata, name)
        changed = None if document is None else change(document, renamed)
        if changed is not None and changed != document:
            found[name] = json.dumps(changed)
        if changed == [] and document != []:
            del found[name]
    return found


def _parsed(metadata: Mapping[str, str], name: str) -> Any:
    try:
        return json.loads(metadata[name])
    except (KeyError, ValueError, RecursionError):
        return None


def _entries(document: Any) -> list[dict[str, Any]]:
    return [entry for entry in document if isinstance(entry, dict)] if isinstance(document, list) else []


def _embedding_functions(document: Any, renamed: Renamed) -> Any:
    if not isinstance(document, list):
        return document
    kept = []
    for entry in document:
        if not isinstance(entry, dict):
            kept.append(entry)
            continue
        columns = {field: renamed(entry[field]) for field in _EMBEDDED if isinstance(entry.get(field), str)}
        if None not in columns.values():
            kept.append({**entry, **columns})
    return kept


def _pandas(document: Any, renamed: Renamed) -> Any:
    if not isinstance(document, dict):
        return document
    found = dict(document)
    if isinstance(document.get("index_columns"), list):
        names = [renamed(n) if isinstance(n, str) else n for n in document["index_columns"]]
        found["index_columns"] = [name for name in names if name is not None]
    if isinstance(document.get("columns"), list):
        columns = [_pandas_column(entry, renamed) for entry in document["columns"]]
        found["columns"] = [entry for entry in columns if entry is not None]
    return found


def _pandas_column(entry: Any, renamed: Renamed) -> Any:
    """The entry of one column; None if the column does not exist any more."""
    field = entry.get("field_name") if isinstance(entry, dict) else None
    if not isinstance(field, str):
        return entry
    name = renamed(field)
    if name is None or name == field:
        return None if name is None else entry
    return {**entry, "field_name": name, "name": name if entry.get("name") == field else entry.get("name")}
