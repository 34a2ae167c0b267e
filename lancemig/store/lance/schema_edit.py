"""Changing a Lance schema without touching its table, so that field ids stay what they are.

A schema made from Arrow renumbers the fields and corrupts the table. So Lance itself makes the change, on a
scratch table in memory, one for each change, that has the same schema and, where ids must not be reused, the
same fragments; its files are never opened (tests/surface/test_lance_schema.py).
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pyarrow as pa
from lance import LanceDataset, LanceOperation
from lance.fragment import FragmentMetadata

from lancemig.catalog.arrow_types import fields_in

LanceSchema = Any


def scratch(
    schema: LanceSchema, fragments: Iterable[FragmentMetadata] = (), where: str = "memory://scratch"
) -> LanceDataset:
    """A table of its own with this very schema."""
    operation = LanceOperation.Overwrite(new_schema=schema, fragments=list(fragments))
    return LanceDataset.commit(where, operation)


def _after(schema: LanceSchema, change: Callable[[LanceDataset], None]) -> LanceSchema:
    made = scratch(schema)
    change(made)
    return made.lance_schema


def with_null_column(dataset: LanceDataset, field: pa.Field) -> LanceSchema:
    """The schema with one more nullable column; a path adds a field to a struct."""
    # A new table may not begin with deletions.
    fragments = [replace(f.metadata, deletion_file=None) for f in dataset.get_fragments()]
    made = scratch(dataset.lance_schema, fragments)
    made.add_columns(as_struct(field))
    return made.lance_schema


def as_struct(field: pa.Field) -> pa.Field:
    """The field at a path as `add_columns` takes it: in the structs of its parents."""
    parents = field.name.split(".")
    wanted = field.with_name(parents.pop())
    for parent in reversed(parents):
        wanted = pa.field(parent, pa.struct([wanted]))
    return wanted


def renamed(schema: LanceSchema, path: str, to: str) -> LanceSchema:
    """The schema with the field at `path` called `to`."""
    return _after(schema, lambda made: made.alter_columns(_alter(_escaped(path), name=to)))


def without(schema: LanceSchema, path: str) -> LanceSchema:
    """The schema without the field at `path`."""
    return _after(schema, lambda made: made.drop_columns([path]))


def with_nullable(schema: LanceSchema, path: str, *, nullable: bool) -> LanceSchema:
    """The schema with the field at `path` nullable or not."""
    return _after(schema, lambda made: made.alter_columns(_alter(path, nullable=nullable)))


def replaced(schema: LanceSchema, old: str, new: str, *, nullable: bool) -> LanceSchema:
    """The schema with the column `new` in the place, and under the name, of `old`."""
    order = [field.name() for field in schema.fields() if field.name() != new]

    def change(made: LanceDataset) -> None:
        made.drop_columns([old])
        made.alter_columns(_alter(new, name=old))
        if not nullable:
            made.alter_columns(_alter(old, nullable=False))

    return ordered(_after(schema, change), order)


def ordered(schema: LanceSchema, names: list[str]) -> LanceSchema:
    """The schema with its top-level columns in the order of `names`.

    LanceSchema is pickled as its serialized fields, depth first; they are put in another order.
    """
    build, (metadata, *serialized) = schema.__reduce__()
    by_name = {field.name(): field for field in schema.fields()}
    in_order = [id_ for field in schema.fields() for id_ in ids_in(field)]
    field_of = dict(zip(in_order, serialized, strict=True))
    return build(metadata, *[field_of[id_] for name in names for id_ in ids_in(by_name[name])])


def _escaped(path: str) -> str:
    """A path as Lance parses it: a name with a backtick is quoted."""
    names = (f"`{name.replace('`', '``')}`" if "`" in name else name for name in path.split("."))
    return ".".join(names)


def _alter(path: str, **changes: Any) -> Any:
    # pylance types the argument as a mapping from AlterColumn, which it is not.
    return {"path": path, **changes}


def field_id(schema: LanceSchema, path: str) -> int:
    """The id of the field at `path`, which may lead into lists and maps."""
    found: Any = None
    fields, arrow = schema.fields(), tuple(schema.to_pyarrow())
    for name in path.split("."):
        at = [field.name for field in arrow].index(name)
        found, of = fields[at], arrow[at].type
        # A map's key and value lie in entries, under whatever names they were declared by.
        fields = found.children()[0].children() if pa.types.is_map(of) else found.children()
        arrow = fields_in(of)
    return int(found.id())


def column_ids(schema: LanceSchema) -> dict[str, frozenset[int]]:
    """The id of each top-level column and of all fields in it, by the column's name.

    `schema.field(name)` is not called: Lance parses the name as a path, and finds none for a name with a
    backtick.
    """
    return {field.name(): frozenset(ids_in(field)) for field in schema.fields()}


def ids_of(schema: LanceSchema) -> frozenset[int]:
    """The ids of all its fields."""
    return frozenset(id_ for field in schema.fields() for id_ in ids_in(field))


def ids_in(field: Any) -> list[int]:
    """The id of a field and of all fields in it, depth first."""
    return [field.id(), *(id_ for child in field.children() for id_ in ids_in(child))]
