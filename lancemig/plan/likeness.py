"""How alike two names, columns or tables are: for hints, which are never acted on."""

from difflib import SequenceMatcher

import pyarrow as pa

from lancemig.catalog.stored import stored_type

LIKELY = 0.5
"""From here on, a person is asked whether one was renamed to the other."""


def column_likeness(new: pa.Field, old: pa.Field) -> float:
    """Half for the name, half for the type."""
    alike = 1.0 if stored_type(new.type) == stored_type(old.type) else 0.0
    return (_name_likeness(new.name, old.name) + alike) / 2


def table_likeness(name: str, new: pa.Schema, other: str, old: pa.Schema) -> float:
    """A third for the name, the rest for columns with the same name and type."""
    ours = {(field.name, str(stored_type(field.type))) for field in new}
    theirs = {(field.name, str(stored_type(field.type))) for field in old}
    shared = len(ours & theirs) / len(ours | theirs)
    return _name_likeness(name, other) / 3 + shared * 2 / 3


def _name_likeness(one: str, other: str) -> float:
    return SequenceMatcher(None, one.lower(), other.lower()).ratio()
