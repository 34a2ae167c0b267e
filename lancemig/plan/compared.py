"""The columns of a model beside those of a table: which to add, drop, retype, replace, require, describe."""

from collections.abc import Iterable

import pyarrow as pa

from lancemig.catalog.nesting import fields_in
from lancemig.catalog.schema import text_metadata
from lancemig.catalog.stored import blob, in_order
from lancemig.plan.conversion import convertible


class Compared:
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
            if field.name in found.names and blob(field) != blob(found.field(field.name))
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
        if apart(field.type, old.type):
            self._fields(fields_in(field.type), fields_in(old.type), f"{path}.")
        elif in_order(field.type) != in_order(old.type):
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
        if self.described and (entries := changed(field, old)):
            self.metadata.append((path, entries))

    def _inside(self, of: pa.DataType, old: pa.DataType, path: str) -> None:
        """What the fields inside two types say that are the same but for it."""
        there = {field.name: field for field in fields_in(old)}
        # The item of a list may be called anything; there is one.
        pairs = [(field, there.get(field.name) or next(iter(there.values()))) for field in fields_in(of)]
        for field, other in pairs:
            self._metadata(field, other, f"{path}.{other.name}")
            self._inside(field.type, other.type, f"{path}.{other.name}")


def changed(field: pa.Field, old: pa.Field) -> dict[str, str | None]:
    """The entries of a column's metadata that are to be set, or removed."""
    wanted, found = text_metadata(field.metadata), text_metadata(old.metadata)
    entries: dict[str, str | None] = {k: v for k, v in wanted.items() if found.get(k) != v}
    entries |= {k: None for k in found if k not in wanted}
    return {k: v for k, v in entries.items() if not k.startswith("lancemig.")}


def apart(wanted: pa.DataType, found: pa.DataType) -> bool:
    """Whether both are structs whose differences are all such as operations on single fields can mend."""
    if not (pa.types.is_struct(wanted) and pa.types.is_struct(found)):
        return False
    there = {field.name: field for field in fields_in(found)}
    fields = fields_in(wanted)
    if not fields or any(set(".`") & set(name) for name in [*there, *(f.name for f in fields)]):
        return False
    return all(_mendable(field, there.get(field.name)) for field in fields)


def _mendable(field: pa.Field, old: pa.Field | None) -> bool:
    if old is None:
        return bool(field.nullable)
    same = in_order(field.type) == in_order(old.type)
    return field.nullable == old.nullable and (
        same or apart(field.type, old.type) or convertible(old.type, field.type)
    )
