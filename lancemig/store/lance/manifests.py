"""Manifests as bytes: the locations that one names are changed, and what it says of indices is read.

Lance returns the details of an index in part, and those of its system indices not at all.

A branch's manifest names the folder of its table by an absolute address. Copied as it is, the branch would go
on reading the table that it was copied from (tests/surface/test_lance_references.py).
"""

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple
from uuid import UUID

from lancemig.errors import StoreError

_MAGIC = b"LANC"
_FOOTER = struct.Struct("<QHH4s")
_LENGTH = struct.Struct("<I")
_BASE_PATHS, _PATH = 18, 4
_INDEX_SECTION, _INDICES = 6, 1
_UUID, _UUID_BYTES, _DETAILS, _TYPE_URL, _VALUE = 1, 1, 6, 1, 2
_FILES, _FILE_PATH, _FILE_SIZE = 10, 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


_NEWEST_VERSION = 2**64 - 1


def manifest_version(name: str) -> int | None:
    """The version of a manifest, by its file name; None if it is not a manifest."""
    stem, dot, suffix = name.partition(".")
    if not dot or suffix != "manifest" or not stem.isdigit():
        return None
    number = int(stem)
    return _NEWEST_VERSION - number if number > _NEWEST_VERSION // 2 else number


def manifest_names(version: int) -> tuple[str, str]:
    """The names that the manifest of a version may have, the newer form first."""
    # Newer tables count manifests down from 2^64 - 1, so that the latest is listed first.
    return f"{_NEWEST_VERSION - version:020d}.manifest", f"{version}.manifest"


class SegmentDetails(NamedTuple):
    """What a manifest says of a segment of an index, and Lance does not return."""

    details: tuple[str, bytes] | None
    """Lance's type of the details, and the details; None in tables of old releases."""

    files: dict[str, int]
    """The files of the segment with their sizes in bytes; empty in tables of old releases."""


def with_locations(manifest: bytes, moved: Callable[[str], str]) -> bytes:
    """The manifest with each location `l` that it borrows files from replaced by `moved(l)`.

    Raises:
        StoreError: The bytes are not a manifest as this release of Lance writes it.
    """
    with _parsing():
        position, body = _body(manifest)
        changed = b"".join(
            _field(number, _moved(value, moved)) if number == _BASE_PATHS and value is not None else raw
            for number, value, raw in _fields(body)
        )
    _, *version, magic = _FOOTER.unpack(manifest[-_FOOTER.size :])
    head = manifest[:position] + _LENGTH.pack(len(changed)) + changed
    return head + _FOOTER.pack(position, *version, magic)


def segment_details(manifest: bytes) -> dict[str, SegmentDetails]:
    """What the manifest says of the segments of all indices, system indices included, by segment id.

    Raises:
        StoreError: The bytes are not a manifest as this release of Lance writes it.
    """
    with _parsing():
        _, body = _body(manifest)
        places = [_number(raw) for number, _, raw in _fields(body) if number == _INDEX_SECTION]
        if not places:
            return {}
        section = _message(manifest, places[-1])
        return dict(_segment(value) for number, value, _ in _fields(section) if number == _INDICES and value)


def _segment(message: bytes) -> tuple[str, SegmentDetails]:
    found: dict[int, bytes] = {}
    files: dict[str, int] = {}
    for number, value, _ in _fields(message):
        if number == _FILES and value is not None:
            sizes = {inner: _number(raw) for inner, content, raw in _fields(value) if content is None}
            files[_contents(value)[_FILE_PATH].decode()] = sizes.get(_FILE_SIZE, 0)
        elif value is not None:
            found[number] = value
    details = None
    if _DETAILS in found:
        known = _contents(found[_DETAILS])
        details = known.get(_TYPE_URL, b"").decode(), known.get(_VALUE, b"")
    return str(UUID(bytes=_contents(found[_UUID])[_UUID_BYTES])), SegmentDetails(details, files)


@contextmanager
def _parsing() -> Iterator[None]:
    try:
        yield
    except (struct.error, LookupError, ValueError) as error:
        raise StoreError("a manifest cannot be parsed", next_step="lancemig status") from error


def _body(manifest: bytes) -> tuple[int, bytes]:
    """The position and the content of the main message."""
    position, *_, magic = _FOOTER.unpack(manifest[-_FOOTER.size :])
    body = _message(manifest, position)
    if magic != _MAGIC or position + _LENGTH.size + len(body) + _FOOTER.size != len(manifest):
        raise StoreError("a manifest is not laid out as expected", next_step="lancemig status")
    return position, body


def _message(manifest: bytes, position: int) -> bytes:
    (length,) = _LENGTH.unpack_from(manifest, position)
    start = position + _LENGTH.size
    if start + length > len(manifest):
        raise IndexError(position)
    return manifest[start : start + length]


def _contents(message: bytes) -> dict[int, bytes]:
    return {number: value for number, value, _ in _fields(message) if value is not None}


def _number(raw: bytes) -> int:
    """The value of a field that is a number, from all its bytes."""
    _, at = _varint(raw, 0)
    return _varint(raw, at)[0]


def _moved(base: bytes, moved: Callable[[str], str]) -> bytes:
    return b"".join(
        _field(number, moved(value.decode()).encode()) if number == _PATH and value is not None else raw
        for number, value, raw in _fields(base)
    )


def _fields(message: bytes) -> Iterator[tuple[int, bytes | None, bytes]]:
    """The fields of a protobuf message: number, content where it has a length, and all its bytes."""
    at = 0
    while at < len(message):
        start = at
        key, at = _varint(message, at)
        number, kind, value = key >> 3, key & 7, None
        if kind == _VARINT:
            _, at = _varint(message, at)
        elif kind == _BYTES:
            length, at = _varint(message, at)
            value, at = message[at : at + length], at + length
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        else:
            raise IndexError(kind)
        if at > len(message):
            raise IndexError(at)
        yield number, value, message[start:at]


def _field(number: int, content: bytes) -> bytes:
    return _as_varint(number << 3 | _BYTES) + _as_varint(len(content)) + content


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value, at, shift = value | (byte & 127) << shift, at + 1, shift + 7
        if byte < 128:
            return value, at


def _as_varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])
