"""Manifests as bytes: the locations that one names are changed without opening the table.

A branch's manifest names the folder of its table by an absolute address. Copied as it is, the branch would go
on reading the table that it was copied from (tests/surface/test_lance_references.py).
"""

import struct
from collections.abc import Callable, Iterator

from lancemig.errors import StoreError

_MAGIC = b"LANC"
_FOOTER = struct.Struct("<QHH4s")
_LENGTH = struct.Struct("<I")
_BASE_PATHS, _PATH = 18, 4
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def with_locations(manifest: bytes, moved: Callable[[str], str]) -> bytes:
    """The manifest with each location `l` that it borrows files from replaced by `moved(l)`.

    Raises:
        StoreError: The bytes are not a manifest as this release of Lance writes it.
    """
    try:
        position, *version, magic = _FOOTER.unpack(manifest[-_FOOTER.size :])
        (length,) = _LENGTH.unpack_from(manifest, position)
        start = position + _LENGTH.size
        if magic != _MAGIC or start + length + _FOOTER.size != len(manifest):
            raise StoreError("a manifest is not laid out as expected", next_step="lancemig status")
        body = manifest[start : start + length]
        changed = b"".join(
            _field(number, _moved(value, moved)) if number == _BASE_PATHS and value is not None else raw
            for number, value, raw in _fields(body)
        )
    except (struct.error, IndexError) as error:
        raise StoreError("a manifest cannot be parsed", next_step="lancemig status") from error
    head = manifest[:position] + _LENGTH.pack(len(changed)) + changed
    return head + _FOOTER.pack(position, *version, magic)


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
