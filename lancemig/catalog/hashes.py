"""A hash for each value of an Arrow array, of any type: equal bits and equal shape, equal hash.

64 bits, not meant to withstand an adversary: two different values get the same one in one case of 2^64. Null
differs from empty, from zero and from NaN; 0.0 from -0.0; NaNs from each other by their bits. What a batch is
cut into, and how a dictionary or a list is laid out in memory, makes no difference; nor do the names of a
struct's fields.
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


def _mix(words: Hashes) -> Hashes:
    """The words with every bit depending on every other, in place (the finalizer of splitmix64)."""
    spare = np.empty_like(words)
    for shift, factor in ((30, _M1), (27, _M2), (31, None)):
        np.right_shift(words, np.uint64(shift), out=spare)
        np.bitwise_xor(words, spare, out=words)
        if factor is not None:
            np.multiply(words, factor, out=words)
    return words


def hash_values(array: pa.Array) -> Hashes:
    """A hash for each value; the same for every null."""
    of = array.type
    if isinstance(of, pa.BaseExtensionType):
        return hash_values(array.storage)
    if pa.types.is_null(of):
        return np.full(len(array), _NULL)
    found = _hash_valid(array)
    if array.null_count:
        found[array.is_null().to_numpy(zero_copy_only=False)] = _NULL
    return found


def hash_rows(parts: Sequence[Hashes], length: int) -> Hashes:
    """One hash for each row, of the hashes of its values; their order matters."""
    total = np.full(length, _EMPTY)
    for place, part in enumerate(parts, 1):
        total += _mix(part + np.uint64(place * int(_STEP) % 2**64))
    return _mix(total)


def _hash_valid(array: pa.Array) -> Hashes:
    of = array.type
    if pa.types.is_struct(of):
        return hash_rows([hash_values(array.field(place)) for place in range(of.num_fields)], len(array))
    if pa.types.is_dictionary(of):
        return _hash_dictionary(array)
    for fits, change in _CASTS:
        if fits(of):
            return _hash_valid(change(array))
    if pa.types.is_fixed_size_list(of):
        return _hash_fixed_lists(array)
    if pa.types.is_large_list(of):
        return _hash_lists(array)
    if pa.types.is_large_binary(of):
        offsets = _offsets(array)
        return _hash_ragged(_buffer_bytes(array.buffers()[2]), offsets[:-1], np.diff(offsets))
    return _hash_fixed(_fixed_bytes(array))


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
    found: Hashes = values[array.indices.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)]
    return found


def _buffer_bytes(buffer: pa.Buffer | None) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.zeros(0, np.uint8) if buffer is None else np.frombuffer(buffer, np.uint8)


def _offsets(array: pa.Array) -> np.ndarray[Any, np.dtype[np.int64]]:
    if not len(array):
        return np.zeros(1, np.int64)
    return np.frombuffer(array.buffers()[1], np.int64)[array.offset : array.offset + len(array) + 1]


def _width(of: pa.DataType) -> int | None:
    """The bytes of a value that lies in memory as it is; None where it does not."""
    nested = pa.types.is_nested(of) or pa.types.is_dictionary(of) or pa.types.is_boolean(of)
    if nested or isinstance(of, pa.BaseExtensionType) or pa.types.is_null(of):
        return None
    try:
        return int(of.bit_width) // 8
    except ValueError:
        return None


def _fixed_bytes(array: pa.Array) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The bytes of each value, a row for each; what lies where a value is null is zero."""
    width = _width(array.type) or 0
    data = _buffer_bytes(array.buffers()[1])[array.offset * width : (array.offset + len(array)) * width]
    found = data.reshape(len(array), width)
    if array.null_count:
        found = found.copy()
        found[array.is_null().to_numpy(zero_copy_only=False)] = 0
    return found


def _hash_fixed(rows: np.ndarray[Any, np.dtype[np.uint8]]) -> Hashes:
    """A hash of each row of bytes, all of one length."""
    count, width = rows.shape
    words = (width + 7) // 8
    if width in (1, 2, 4, 8):
        return _mix(_as_words(rows, width) + _STEP)
    if width % 8:
        padded = np.zeros((count, words * 8), np.uint8)
        padded[:, :width] = rows
        rows = padded
    found = np.full(count, _EMPTY)
    keys = _STEP * np.arange(1, words + 1, dtype=np.uint64)
    size = max(_WORDS_PER_RANGE // max(words, 1), 1)
    for start in range(0, count, size) if words else ():
        some = np.ascontiguousarray(rows[start : start + size]).view(np.uint64)
        found[start : start + size] += _mix(some + keys).sum(axis=1, dtype=np.uint64)
    return _mix(found)


def _as_words(rows: np.ndarray[Any, np.dtype[np.uint8]], width: int) -> Hashes:
    return np.ascontiguousarray(rows).view(f"<u{width}").reshape(len(rows)).astype(np.uint64)


def _hash_ragged(data: np.ndarray[Any, np.dtype[np.uint8]], starts: Any, lengths: Any) -> Hashes:
    """A hash of each piece of `data`, by its bytes and its length."""
    counts = (lengths + 7) // 8
    found = _mix(lengths.astype(np.uint64) * _STEP + _EMPTY)
    for first, last in _word_ranges(counts):
        found[first:last] += _piece_sums(data, starts[first:last], lengths[first:last], counts[first:last])
    return _mix(found)


def _word_ranges(counts: Any) -> Iterator[tuple[int, int]]:
    """Ranges of pieces that have some thousand words together."""
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
    # A word can be read at every byte; the last of a piece is cut to what belongs to it.
    at_any = np.ndarray((high - low + 1,), np.uint64, padded.data, strides=(1,))
    result = np.zeros(len(counts), np.uint64)
    sizes = np.unique(counts)
    if len(sizes) > _MAX_SIZES:
        return _piece_sums_any_size(at_any, starts - low, lengths, counts)
    for size in sizes[sizes > 0].tolist():
        mine = counts == size
        first = (starts[mine] - low)[:, None]
        words = at_any[first + 8 * np.arange(size)]
        words[:, -1] &= _last_word_mask(lengths[mine] - 8 * (size - 1))
        words += _STEP * np.arange(1, size + 1, dtype=np.uint64)
        result[mine] = _mix(words).sum(axis=1, dtype=np.uint64)
    return result


def _piece_sums_any_size(at_any: Any, starts: Any, lengths: Any, counts: Any) -> Hashes:
    ends = np.cumsum(counts)
    within = np.arange(int(ends[-1])) - np.repeat(ends - counts, counts)
    words = at_any[np.repeat(starts, counts) + within * 8]
    some = counts > 0
    words[(ends - 1)[some]] &= _last_word_mask((lengths - 8 * (counts - 1))[some])
    words += _STEP * (within + 1).astype(np.uint64)
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(_mix(words), dtype=np.uint64)])
    result: Hashes = sums[ends] - sums[ends - counts]
    return result


def _last_word_mask(rest: Any) -> Hashes:
    """The bits of a last word that belong to its piece, which has so many bytes of it."""
    cut: Hashes = np.uint64(2**64 - 1) >> (np.uint64(64) - np.uint64(8) * rest.astype(np.uint64))
    return cut


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
    found = _hash_ragged(_fixed_bytes(items).reshape(-1), starts * width, lengths * width)
    return _mark_null_items(found, items, starts, lengths)


def _hash_fixed_lists(array: pa.Array) -> Hashes:
    size = array.type.list_size
    if pa.types.is_null(array.type.value_type):
        return np.full(len(array), _EMPTY)
    items = array.values.slice(array.offset * size, len(array) * size)
    width = _width(items.type)
    if width is None:
        return _hash_fixed(hash_values(items).view(np.uint8).reshape(len(array), size * 8))
    found = _hash_fixed(_fixed_bytes(items).reshape(len(array), size * width))
    starts = np.arange(len(array), dtype=np.int64) * size
    return _mark_null_items(found, items, starts, np.full(len(array), size, np.int64))


def _mark_null_items(found: Hashes, items: pa.Array, starts: Any, lengths: Any) -> Hashes:
    """The hashes of lists whose null items were taken for zeros, with where these are."""
    if not items.null_count:
        return found
    empty = np.flatnonzero(items.is_null().to_numpy(zero_copy_only=False))
    owners = np.searchsorted(starts + lengths, empty, side="right")
    places = (empty - starts[owners]).astype(np.uint64)
    np.add.at(found, owners, _mix(places * _STEP + _NULL))
    return found


@dataclass(frozen=True)
class Checksum:
    """The sum of the hashes of pairs of values, in two lanes: their order makes no difference, repeats do."""

    low: int = 0
    high: int = 0

    def __add__(self, other: "Checksum") -> "Checksum":
        return Checksum((self.low + other.low) % 2**64, (self.high + other.high) % 2**64)

    def __str__(self) -> str:
        return f"{self.high:016x}{self.low:016x}"


def checksum(pairs: Hashes) -> Checksum:
    """The checksum of these hashes."""
    return Checksum(*(int(lane.sum(dtype=np.uint64)) for lane in (pairs, _mix(pairs ^ _NULL))))


def hash_pairs(keys: Hashes, values: Hashes) -> Hashes:
    """A hash of each pair of a key and a value."""
    return _mix(keys + _mix(values ^ _STEP))
