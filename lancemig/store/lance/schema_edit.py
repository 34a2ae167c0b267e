"""Changing a Lance schema so that field ids stay what they are.

A schema made from Arrow renumbers the fields and corrupts the table, and so does a commit of an `Overwrite`
on some releases of Lance. A Lance schema is pickled as its metadata and its fields, depth first, each a
serialized protobuf message; the change is made there, and everything else stays as Lance wrote it
(tests/store/test_schema_edit.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
from lance import LanceDataset, LanceOperation
from lance.schema import LanceSchema as _LanceSchema

from lancemig.catalog.arrow_types import fields_in
from lancemig.errors import PlanError

LanceSchema = Any

# Of the message `Field` in Lance's file.proto. Ids are int32, which -1 fills up to 64 bits.
_NAME, _ID, _PARENT, _NULLABLE = 2, 3, 4, 6
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5
_WIDTH = {_FIXED_64: 8, _FIXED_32: 4}
_TOP = -1


@dataclass(frozen=True)
class _Field:
    """A field of a schema: the values of its message that an edit changes, and the message."""

    id: int
    parent: int
    name: str
    nullable: bool
    message: bytes


def scratch(schema: LanceSchema, where: str) -> LanceDataset:
    """An empty table with the columns of this schema; its field ids may be others."""
    return LanceDataset.commit(where, LanceOperation.Overwrite(new_schema=schema, fragments=[]))


def with_null_column(dataset: LanceDataset, field: pa.Field) -> LanceSchema:
    """The schema with one more nullable column; a path adds a field to a struct.

    The ids are ones that neither a column nor a data file has: a file may have those of dropped columns.

    Raises:
        PlanError: the table has such a column, or its storage version cannot have one that no file contains.
    """
    *parents, name = field.name.split(".")
    version = dataset.data_storage_version
    if version in ("0.1", "legacy") or (parents and version in ("2.0", "2.1")):
        rewrite = 'RewriteTable with data_storage_version="2.2" before this operation'
        raise PlanError(
            f"Lance cannot add {field.name} without values to a table of storage version {version}",
            next_step=rewrite if parents else f"give the column values with `sql` or `using`; or {rewrite}",
        )
    old = _fields(dataset.lance_schema)
    in_files = (id_ for f in dataset.get_fragments() for file in f.metadata.files for id_ in file.fields)
    free = max([*(f.id for f in old), *in_files], default=_TOP) + 1
    parent, at = _TOP, len(old)
    while parents and (found := _child(old, parent, parents[0])) is not None:
        parent, at = found.id, _end(old, found)
        parents.pop(0)
    if not parents:
        _refuse_taken(old, parent, name)
    wanted = as_struct(field.with_name(".".join([*parents, name])))
    new = _fields(_LanceSchema.from_pyarrow(pa.schema([wanted])))
    number = {f.id: free + place for place, f in enumerate(new)} | {_TOP: parent}
    added = [replace(f, id=number[f.id], parent=number[f.parent]) for f in new]
    return _built(dataset.lance_schema, [*old[:at], *added, *old[at:]])


def as_struct(field: pa.Field) -> pa.Field:
    """The field at a path as `add_columns` takes it: in the structs of its parents."""
    parents = field.name.split(".")
    wanted = field.with_name(parents.pop())
    for parent in reversed(parents):
        wanted = pa.field(parent, pa.struct([wanted]))
    return wanted


def renamed(schema: LanceSchema, path: str, to: str) -> LanceSchema:
    """The schema with the field at `path` called `to`; PlanError if another one has that name."""
    fields = _fields(schema)
    found = _at(fields, path)
    if found.name != to:
        _refuse_taken(fields, found.parent, to)
    return _changed(schema, path, name=to)


def without(schema: LanceSchema, path: str) -> LanceSchema:
    """The schema without the field at `path`, and without a struct whose last field it is."""
    fields = _fields(schema)
    gone = _at(fields, path)
    by_id = {field.id: field for field in fields}
    while gone.parent != _TOP and sum(field.parent == gone.parent for field in fields) == 1:
        gone = by_id[gone.parent]
    start = fields.index(gone)
    return _built(schema, [*fields[:start], *fields[_end(fields, gone) :]])


def with_nullable(schema: LanceSchema, path: str, *, nullable: bool) -> LanceSchema:
    """The schema with the field at `path` nullable or not."""
    return _changed(schema, path, nullable=nullable)


def replaced(schema: LanceSchema, old: str, new: str, *, nullable: bool) -> LanceSchema:
    """The schema with the column `new` in the place, and under the name, of `old`."""
    order = [field.name() for field in schema.fields() if field.name() != new]
    made = _changed(without(schema, old), new, name=old)
    if not nullable:
        made = with_nullable(made, old, nullable=False)
    return ordered(made, order)


def ordered(schema: LanceSchema, names: list[str]) -> LanceSchema:
    """The schema with its top-level columns in the order of `names`."""
    columns: dict[str, list[_Field]] = {}
    column: list[_Field] = []
    for field in _fields(schema):
        if field.parent == _TOP:
            column = columns[field.name] = []
        column.append(field)
    return _built(schema, [field for name in names for field in columns[name]])


def _refuse_taken(fields: list[_Field], parent: int, name: str) -> None:
    """Refuse a second field of one name, which Lance would commit and could not read."""
    if _child(fields, parent, name) is not None:
        raise PlanError(f"the table already has a field {name}", next_step="lancemig upgrade --plan")


def _changed(schema: LanceSchema, path: str, **changes: Any) -> LanceSchema:
    fields = _fields(schema)
    found = _at(fields, path)
    return _built(schema, [replace(f, **changes) if f is found else f for f in fields])


def _at(fields: list[_Field], path: str) -> _Field:
    first, *names = path.split(".")
    found = _child(fields, _TOP, first)
    for name in names:
        found = found and _child(fields, found.id, name)
    if found is None:
        raise PlanError(f"the table has no field {path}", next_step="lancemig status")
    return found


def _child(fields: list[_Field], parent: int, name: str) -> _Field | None:
    return next((f for f in fields if f.parent == parent and f.name == name), None)


def _end(fields: list[_Field], of: _Field) -> int:
    """Where the fields end that lie in `of`, which come after it."""
    within = {of.id}
    at = fields.index(of) + 1
    while at < len(fields) and fields[at].parent in within:
        within.add(fields[at].id)
        at += 1
    return at


def _fields(schema: LanceSchema) -> list[_Field]:
    _, (_, *messages) = schema.__reduce__()
    ids = [id_ for field in schema.fields() for id_ in ids_in(field)]
    fields = []
    for id_, message in zip(ids, messages, strict=True):
        values = {number: value for number, value, _ in _parts(message)}
        fields.append(
            _Field(
                id=id_,
                parent=_signed(values.get(_PARENT, 0)),
                name=bytes(values.get(_NAME, b"")).decode(),
                nullable=bool(values.get(_NULLABLE, 0)),
                message=message,
            )
        )
    return fields


def _built(schema: LanceSchema, fields: list[_Field]) -> LanceSchema:
    build, (metadata, *_) = schema.__reduce__()
    return build(metadata, *[_serialized(field) for field in fields])


def _serialized(field: _Field) -> bytes:
    """The message with these values; of a value that a message has twice, a reader takes the last."""
    ours = {_NAME, _ID, _PARENT, _NULLABLE}
    kept = b"".join(raw for number, _, raw in _parts(field.message) if number not in ours)
    name = field.name.encode()
    return b"".join(
        (
            kept,
            _varint(_NAME << 3 | _BYTES) + _varint(len(name)) + name,
            _varint(_ID << 3 | _VARINT) + _varint(field.id),
            _varint(_PARENT << 3 | _VARINT) + _varint(field.parent),
            _varint(_NULLABLE << 3 | _VARINT) + _varint(int(field.nullable)),
        )
    )


def _parts(message: bytes) -> Iterator[tuple[int, Any, bytes]]:
    """The number, the value and the bytes of each part of a protobuf message, in its order."""
    at = 0
    while at < len(message):
        start = at
        key, at = _read_varint(message, at)
        kind = key & 7
        value: Any
        if kind == _VARINT:
            value, at = _read_varint(message, at)
        else:
            length = _WIDTH.get(kind)
            if kind == _BYTES:
                length, at = _read_varint(message, at)
            if length is None:
                raise ValueError(f"a field of a Lance schema has a part of wire type {kind}")
            value, at = message[at : at + length], at + length
        yield key >> 3, value, message[start:at]


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if byte < 0x80:
            return value, at


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


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
