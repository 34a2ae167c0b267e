"""How many rows a batch may have: Lance decodes a batch whole, however wide its rows are."""

from collections.abc import Iterable

import lance
import pyarrow as pa

from lancemig.catalog.schema import text_metadata

BATCH_BYTES = 16 << 20
"""What a batch may take in memory; several of them are under way at a time."""

_FEWEST, _BLOBS_AT_ONCE = 8, 8
_NARROW = 16


def rows_at_once(dataset: lance.LanceDataset, texts: Iterable[str], most: int) -> int:
    """How many rows to read at once of the columns that are named in `texts`, names or SQL; `most` at most.

    Estimated from types and, where these have no width, from the bytes that are stored for a row.
    """
    said = " ".join(texts)
    fields = [field for field in dataset.schema if field.name in said]
    if any(is_blob(field) for field in fields):
        return min(_BLOBS_AT_ONCE, most)
    widths = [_width(field.type) for field in fields]
    row = sum(width or 0 for width in widths) + (0 if all(widths) else _varying(dataset))
    return min(max(BATCH_BYTES // max(row, 1), _FEWEST), most)


def is_blob(field: pa.Field) -> bool:
    """Whether Lance keeps the column's bytes apart, as blobs."""
    metadata = text_metadata(field.metadata)
    extension = metadata.get("ARROW:extension:name", "") or getattr(field.type, "extension_name", "")
    return "lance-encoding:blob" in metadata or extension.startswith("lance.blob")


def _width(of: pa.DataType) -> int | None:
    """How many bytes a value of this type takes; None where that varies."""
    if isinstance(of, pa.BaseExtensionType):
        return _width(of.storage_type)
    if pa.types.is_fixed_size_list(of):
        width = _width(of.value_type)
        return None if width is None else width * int(of.list_size)
    try:
        return max(int(of.bit_width) // 8, 1)
    except ValueError:
        return None


def _varying(dataset: lance.LanceDataset) -> int:
    """How many bytes the columns without a fixed width take in a row, on average, as they are stored."""
    metadata = [fragment.metadata for fragment in dataset.get_fragments()]
    stored = sum(file.file_size_bytes or 0 for one in metadata for file in one.files)
    rows = sum(one.physical_rows for one in metadata)
    fixed = sum(_width(field.type) or 0 for field in dataset.schema)
    return max(stored // max(rows, 1) - fixed, _NARROW)
