"""A cell becomes a value of JSON that says all of it."""

import datetime as dt
import json
from decimal import Decimal

import pyarrow as pa
import pytest

from lancemig.catalog.keys import json_cell

UTC = dt.UTC


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        (pa.scalar(None, pa.int64()), None),
        (pa.scalar(True), True),
        (pa.scalar(2**63 - 1), 2**63 - 1),
        (pa.scalar(1.5), 1.5),
        (pa.scalar(float("nan")), "NaN"),
        (pa.scalar(float("inf")), "Infinity"),
        (pa.scalar(float("-inf")), "-Infinity"),
        (pa.scalar("ä\n"), "ä\n"),
        (pa.scalar(b"\x00\xff"), "00ff"),
        (pa.scalar(b"ab", pa.large_binary()), "6162"),
        (pa.scalar(Decimal("1.50")), "1.50"),
        (pa.scalar(Decimal("0.0000001")), "0.0000001"),
        (pa.scalar(Decimal(10**37), pa.decimal128(38, 0)), 10**37),
        (pa.scalar(dt.date(2026, 2, 9)), "2026-02-09"),
        (pa.scalar(dt.time(10, 31)), "10:31:00"),
        (pa.scalar(dt.datetime(2026, 2, 9, 10, 31)), "2026-02-09T10:31:00"),
        (pa.scalar(dt.datetime(2026, 2, 9, 10, 31, 2, 500)), "2026-02-09T10:31:02.000500"),
        (
            pa.scalar(dt.datetime(2026, 2, 9, 10, tzinfo=UTC), pa.timestamp("us", "UTC")),
            "2026-02-09T10:00:00Z",
        ),
        (pa.scalar(1, pa.timestamp("ns")), "1970-01-01T00:00:00.000000001"),
        (pa.scalar((1, 2, 3_500_000_000), pa.month_day_nano_interval()), "P1M2DT3.5S"),
        (pa.scalar([1, None]), [1, None]),
        (pa.scalar([b"a"], pa.large_list(pa.binary())), ["61"]),
        (pa.scalar({"a": dt.date(2026, 2, 9), "b": [1.0]}), {"a": "2026-02-09", "b": [1.0]}),
        (pa.scalar([("k", 1)], pa.map_(pa.string(), pa.int8())), [["k", 1]]),
        (pa.array(["a"]).dictionary_encode()[0], "a"),
    ],
)
def test_a_cell_as_json(cell: pa.Scalar, value: object):
    assert json_cell(cell) == value
    assert json.loads(json.dumps(json_cell(cell), allow_nan=False)) == value


def test_a_date_beyond_python_is_still_text():
    assert isinstance(json_cell(pa.scalar(2**31 - 1, pa.date32())), str)
