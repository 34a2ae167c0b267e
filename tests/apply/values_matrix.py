"""One table for each type of column: what stands there, and what it is to become."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa

NAN = float("nan")
VALUES: dict[str, tuple[pa.DataType, list[Any], list[Any]]] = {
    "int8": (pa.int8(), [1, 2, None, 4], [9, 2, 3, None]),
    "uint64": (pa.uint64(), [2**63, 2, None, 4], [9, 2, 3, None]),
    "float32": (pa.float32(), [1.5, NAN, None, NAN], [NAN, NAN, 3, 0]),
    "float64": (pa.float64(), [1.5, NAN, None, NAN], [NAN, NAN, 3, 0]),
    "bool": (pa.bool_(), [True, False, None, True], [False, False, True, None]),
    "string": (pa.string(), ["a", "b", None, ""], ["", "b", "c", None]),
    "large_string": (pa.large_string(), ["a", "b", None, ""], ["", "b", "c", None]),
    "binary": (pa.binary(), [b"a", b"\x00", None, b""], [b"", b"\x00", b"c", None]),
    "timestamp": (
        pa.timestamp("us", "UTC"),
        [datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC), None, None],
        [None, datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 3, tzinfo=UTC), None],
    ),
    "nanoseconds": (pa.timestamp("ns"), [1, 2, None, 4], [9, 2, 3, None]),
    "date": (
        pa.date32(),
        [date(2026, 1, 1), date(2026, 1, 2), None, None],
        [None, date(2026, 1, 2), date(1, 1, 1), None],
    ),
    "decimal": (
        pa.decimal128(9, 2),
        [Decimal("1.10"), Decimal(2), None, None],
        [None, Decimal(2), Decimal(3), None],
    ),
    "list": (pa.list_(pa.float64()), [[1, NAN], [NAN], None, []], [[], [NAN], [1], [NAN]]),
    "fixed_size_list": (
        pa.list_(pa.float32(), 2),
        [[1, 2], [3, NAN], None, [0, 0]],
        [[NAN, 2], [3, NAN], [1, 1], None],
    ),
    "struct": (
        pa.struct({"a": pa.float64(), "b": pa.string()}),
        [{"a": 1, "b": "x"}, {"a": NAN, "b": None}, None, {"a": None, "b": None}],
        [{"a": NAN, "b": "x"}, {"a": NAN, "b": None}, {"a": 1, "b": "y"}, None],
    ),
    "list of structs": (
        pa.list_(pa.struct({"a": pa.float64()})),
        [[{"a": 1}], [{"a": NAN}], None, []],
        [[{"a": NAN}], [{"a": NAN}], [None], None],
    ),
    "dictionary": (pa.dictionary(pa.int32(), pa.string()), ["a", "b", None, "a"], ["b", "b", "c", None]),
}
TABLES = {
    name: pa.table({"id": pa.array(range(4)), "c": pa.array(old, of), "new": pa.array(new, of)})
    for name, (of, old, new) in VALUES.items()
}
CHANGED = dict.fromkeys(TABLES, 3) | {"timestamp": 2, "date": 2, "decimal": 2}
