"""Hashes of the values of Arrow arrays of any type, to compare the content of tables.

`hash_values` hashes each value of an array, `hash_rows` combines columns, `checksum` sums up hashes in an
order-independent `Checksum`.

Values with equal bits and equal shape have equal hashes of 64 bits. The hashes do not withstand an adversary:
two different values collide with a probability of 2^-64. Null differs from empty, from zero and from NaN; 0.0
from -0.0; NaNs from each other by their bits. The split into batches, the memory layout of dictionaries and
lists, and the names of struct fields make no difference.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

Hashes = np.ndarray[Any, np.dtype[np.uint64]]
_WORDS_PER_RANGE = 1 << 15
_MAX_SIZES = 32
_M1, _M2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_STEP = np.uint64(0x9E3779B97F4A7C15)
_NULL = np.uint64(0x6A09E667F3BCC909)
_EMPTY = np.uint64(0xBB67AE8584CAA73B)


def hash_values(array: pa.Array) -> Hashes:
    """The hash of each value of an array; all nulls have the same hash."""
    of = array.type
    if isinstance(of, pa.BaseExtensionType):
        return hash_values(array.storage)
    if pa.types.is_null(of):
        return np.full(len(array), _NULL)
    hashes = _hash_valid(array)
    if array.null_count:
        hashes[array.is_null().to_numpy(zero_copy_only=False)] = _NULL
    return hashes


def hash_rows(columns: Sequence[Hashes], length: int) -> Hashes:
    """The hash of each row.

    Args:
        columns: The hashes of the values, a column for each; their order matters.
        length: The number of rows.
    """
    total = np.full(length, _EMPTY)
    for position, column in enumerate(columns, 1):
        total += _mix(column + np.uint64(position * int(_STEP) % 2**64))
    return _mix(total)


def hash_pairs(keys: Hashes, values: Hashes) -> Hashes:
    """The hash of each pair of a key and a value."""
    return _mix(keys + _mix(values ^ _STEP))


@dataclass(frozen=True)
class Checksum:
    """A sum of hashes in two lanes of 64 bits: it depends on repeated hashes, and not on their order."""

    low: int = 0
    high: int = 0

    def __add__(self, other: "Checksum") -> "Checksum":
        return Checksum((self.low + other.low) % 2**64, (self.high + other.high) % 2**64)

    def __str__(self) -> str:
        return f"{self.high:016x}{self.low:016x}"


def checksum(hashes: Hashes) -> Checksum:
    """The checksum of these hashes."""
    return Checksum(*(int(lane.sum(dtype=np.uint64)) for lane in (hashes, _mix(hashes ^ _NULL))))


def _hash_valid(array: pa.Array) -> Hashes:
    of = array.type
    if pa.types.is_struct(of):
        return hash_rows([hash_values(array.field(index)) for index in range(of.num_fields)], len(array))
    if pa.types.is_dictionary(of):
        return _hash_dictionary(array)
    for applies, cast in _CASTS:
        if applies(of):
            return _hash_valid(cast(array))
    if pa.types.is_fixed_size_list(of):
        return _hash_fixed_lists(array)
    if pa.types.is_large_list(of):
        return _hash_lists(array)
    if pa.types.is_large_binary(of):
        offsets = _offsets(array)
        return _hash_ragged(_buffer_bytes(array.buffers()[2]), offsets[:-1], np.diff(offsets))
    return _hash_fixed(_fixed_bytes(array))


def _mix(words: Hashes) -> Hashes:
    """Mix the bits of each word, in place: the finalizer of splitmix64."""
    shifted = np.empty_like(words)
    for shift, factor in ((30, _M1), (27, _M2), (31, None)):
        np.right_shift(words, np.uint64(shift), out=shifted)
        np.bitwise_xor(words, shifted, out=words)
        if factor is not None:
            np.multiply(words, factor, out=words)
    return words


def _is_text_or_short(of: pa.DataType) -> bool:
    views = pa.types.is_string_view(of) or pa.types.is_binary_view(of)
    return bool(views or pa.types.is_string(of) or pa.types.is_large_string(of) or pa.types.is_binary(of))


def _is_short_list(of: pa.DataType) -> bool:
    return bool(pa.types.is_list(of) or pa.types.is_list_view(of) or pa.types.is_large_list_view(of))


def _map_entries(array: pa.Array) -> pa.Array:
    """A map as the list of its entries."""
    of = array.type
    entry = pa.struct([of.key_field, of.item_field.with_nullable(True)])
    return array.cast(pa.list_(pa.field("entries", entry, nullable=False)))


_CASTS: tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.Array], pa.Array]], ...] = (
    (pa.types.is_boolean, lambda array: array.cast(pa.uint8())),
    (_is_text_or_short, lambda array: array.cast(pa.large_binary())),
    (pa.types.is_map, _map_entries),
    (_is_short_list, lambda array: array.cast(pa.large_list(array.type.value_field))),
)


def _hash_dictionary(array: pa.DictionaryArray) -> Hashes:
    values = hash_values(array.dictionary)
    if not len(values):
        return np.full(len(array), _NULL)
    hashes: Hashes = values[array.indices.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)]
    return hashes


def _hash_lists(array: pa.Array) -> Hashes:
    offsets = _offsets(array)
    first, last = int(offsets[0]), int(offsets[-1])
    items = array.values.slice(first, last - first)
    starts, lengths = offsets[:-1] - first, np.diff(offsets)
    if pa.types.is_null(items.type):
        return _mix(lengths.astype(np.uint64) * _STEP + _EMPTY)
    width = _width(items.type)
    if width is None:
        return _hash_ragged(hash_values(items).view(np.uint8), starts * 8, lengths * 8)
    hashes = _hash_ragged(_fixed_bytes(items).reshape(-1), starts * width, lengths * width)
    return _mark_null_items(hashes, items, starts, lengths)


def _hash_fixed_lists(array: pa.Array) -> Hashes:
    size = array.type.list_size
    if pa.types.is_null(array.type.value_type):
        return np.full(len(array), _EMPTY)
    items = array.values.slice(array.offset * size, len(array) * size)
    width = _width(items.type)
    if width is None:
        return _hash_fixed(hash_values(items).view(np.uint8).reshape(len(array), size * 8))
    hashes = _hash_fixed(_fixed_bytes(items).reshape(len(array), size * width))
    starts = np.arange(len(array), dtype=np.int64) * size
    return _mark_null_items(hashes, items, starts, np.full(len(array), size, np.int64))


def _mark_null_items(hashes: Hashes, items: pa.Array, starts: Any, lengths: Any) -> Hashes:
    """Add the positions of null items to the hashes of lists, where nulls were hashed as zeros."""
    if not items.null_count:
        return hashes
    nulls = np.flatnonzero(items.is_null().to_numpy(zero_copy_only=False))
    owners = np.searchsorted(starts + lengths, nulls, side="right")
    positions = (nulls - starts[owners]).astype(np.uint64)
    np.add.at(hashes, owners, _mix(positions * _STEP + _NULL))
    return hashes


def _hash_fixed(rows: np.ndarray[Any, np.dtype[np.uint8]]) -> Hashes:
    """The hash of each row of a matrix of bytes."""
    count, width = rows.shape
    words = (width + 7) // 8
    if width in (1, 2, 4, 8):
        return _mix(_as_words(rows, width) + _STEP)
    if width % 8:
        padded = np.zeros((count, words * 8), np.uint8)
        padded[:, :width] = rows
        rows = padded
    hashes = np.full(count, _EMPTY)
    keys = _STEP * np.arange(1, words + 1, dtype=np.uint64)
    size = max(_WORDS_PER_RANGE // max(words, 1), 1)
    for start in range(0, count, size) if words else ():
        block = np.ascontiguousarray(rows[start : start + size]).view(np.uint64)
        hashes[start : start + size] += _mix(block + keys).sum(axis=1, dtype=np.uint64)
    return _mix(hashes)


def _as_words(rows: np.ndarray[Any, np.dtype[np.uint8]], width: int) -> Hashes:
    return np.ascontiguousarray(rows).view(f"<u{width}").reshape(len(rows)).astype(np.uint64)


def _hash_ragged(data: np.ndarray[Any, np.dtype[np.uint8]], starts: Any, lengths: Any) -> Hashes:
    """The hash of each piece of `data`, by its bytes and its length.

    Args:
        data: The bytes of all pieces.
        starts: The first byte of each piece.
        lengths: The bytes of each piece.
    """
    counts = (lengths + 7) // 8
    hashes = _mix(lengths.astype(np.uint64) * _STEP + _EMPTY)
    for first, last in _word_ranges(counts):
        hashes[first:last] += _piece_sums(data, starts[first:last], lengths[first:last], counts[first:last])
    return _mix(hashes)


def _word_ranges(counts: Any) -> Iterator[tuple[int, int]]:
    """Ranges of pieces with about `_WORDS_PER_RANGE` words together; `counts` are the words of each piece."""
    ends, first = np.cumsum(counts), 0
    while first < len(counts):
        done = ends[first - 1] if first else 0
        last = max(int(np.searchsorted(ends, done + _WORDS_PER_RANGE, side="right")), first + 1)
        yield first, last
        first = last


def _piece_sums(data: Any, starts: Any, lengths: Any, counts: Any) -> Hashes:
    """The sum of the mixed words of each piece."""
    low, high = int(starts[0]), int(starts[-1] + lengths[-1])
    padded = np.zeros(high - low + 8, np.uint8)
    padded[:-8] = data[low:high]
    # A view with a word at every byte; the last word of a piece is masked to the bytes of the piece.
    word_at = np.ndarray((high - low + 1,), np.uint64, padded.data, strides=(1,))
    result = np.zeros(len(counts), np.uint64)
    sizes = np.unique(counts)
    if len(sizes) > _MAX_SIZES:
        return _piece_sums_any_size(word_at, starts - low, lengths, counts)
    for size in sizes[sizes > 0].tolist():
        of_size = counts == size
        first = (starts[of_size] - low)[:, None]
        words = word_at[first + 8 * np.arange(size)]
        words[:, -1] &= _last_word_mask(lengths[of_size] - 8 * (size - 1))
        words += _STEP * np.arange(1, size + 1, dtype=np.uint64)
        result[of_size] = _mix(words).sum(axis=1, dtype=np.uint64)
    return result


def _piece_sums_any_size(word_at: Any, starts: Any, lengths: Any, counts: Any) -> Hashes:
    """As `_piece_sums`, with one pass over all words, for pieces of many different sizes."""
    ends = np.cumsum(counts)
    index_in_piece = np.arange(int(ends[-1])) - np.repeat(ends - counts, counts)
    words = word_at[np.repeat(starts, counts) + index_in_piece * 8]
    nonempty = counts > 0
    words[(ends - 1)[nonempty]] &= _last_word_mask((lengths - 8 * (counts - 1))[nonempty])
    words += _STEP * (index_in_piece + 1).astype(np.uint64)
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(_mix(words), dtype=np.uint64)])
    result: Hashes = sums[ends] - sums[ends - counts]
    return result


def _last_word_mask(byte_counts: Any) -> Hashes:
    """The mask of a piece's last word, of which only the first bytes belong to the piece."""
    mask: Hashes = np.uint64(2**64 - 1) >> (np.uint64(64) - np.uint64(8) * byte_counts.astype(np.uint64))
    return mask


def _fixed_bytes(array: pa.Array) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The bytes of each value as a matrix of shape `(values, width)`; nulls are zero bytes."""
    width = _width(array.type) or 0
    data = _buffer_bytes(array.buffers()[1])[array.offset * width : (array.offset + len(array)) * width]
    rows = data.reshape(len(array), width)
    if array.null_count:
        rows = rows.copy()
        rows[array.is_null().to_numpy(zero_copy_only=False)] = 0
    return rows


def _width(of: pa.DataType) -> int | None:
    """The bytes of a value of a type with a fixed width in whole bytes; None for another type."""
    nested = pa.types.is_nested(of) or pa.types.is_dictionary(of) or pa.types.is_boolean(of)
    if nested or isinstance(of, pa.BaseExtensionType) or pa.types.is_null(of):
        return None
    try:
        return int(of.bit_width) // 8
    except ValueError:
        return None


def _buffer_bytes(buffer: pa.Buffer | None) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.zeros(0, np.uint8) if buffer is None else np.frombuffer(buffer, np.uint8)


def _offsets(array: pa.Array) -> np.ndarray[Any, np.dtype[np.int64]]:
    if not len(array):
        return np.zeros(1, np.int64)
    return np.frombuffer(array.buffers()[1], np.int64)[array.offset : array.offset + len(array) + 1]
