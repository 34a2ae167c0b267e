"""Places of rows in a fragment as Lance takes them: a roaring bitmap in its portable format."""

from typing import Any

import numpy as np

_NO_RUNS = 12_346
_MOST_LISTED = 4096
_BYTES = 8192


def offsets_within(addresses: Any) -> bytes:
    """The offsets of these row addresses, all of one fragment (tests/store/test_patches.py)."""
    offsets = np.unique(np.asarray(addresses, dtype=np.uint64) & np.uint64(0xFFFF_FFFF))
    keys, starts = np.unique(offsets >> np.uint64(16), return_index=True)
    parts = np.split((offsets & np.uint64(0xFFFF)).astype("<u2"), starts[1:])
    containers = [_container(part) for part in parts] if len(offsets) else []
    sizes = np.array([len(part) - 1 for part in parts][: len(containers)], dtype="<u2")
    descriptions = np.stack([keys.astype("<u2"), sizes], axis=1)
    first = 8 + 8 * len(containers)
    at = first + np.cumsum([0, *(len(one) for one in containers)], dtype="<u4")[: len(containers)]
    head = np.array([_NO_RUNS, len(containers)], dtype="<u4")
    return b"".join([head.tobytes(), descriptions.tobytes(), at.astype("<u4").tobytes(), *containers])


def _container(offsets: Any) -> bytes:
    if len(offsets) <= _MOST_LISTED:
        return bytes(offsets.tobytes())
    bits = np.zeros(_BYTES * 8, dtype=np.uint8)
    bits[offsets] = 1
    return bytes(np.packbits(bits, bitorder="little").tobytes())
