"""Which values Lance takes in a condition made of a list of them."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pyarrow.compute as pc
import pytest

TAKEN: dict[pa.DataType, list[Any]] = {
    pa.int8(): [1, 2, 3],
    pa.int64(): [-(2**63), 2**53 + 1, 2**53],
    pa.string(): ["a", "b'", ""],
    pa.binary(): [b"a", b"\x00", b""],
    pa.date32(): [1, 2, 3],
}
REFUSED: dict[pa.DataType, list[Any]] = {
    pa.uint64(): [2**64 - 1, 2**53 + 1, 2**53],
    pa.large_string(): ["a", "b", ""],
    pa.large_binary(): [b"a", b"\x00", b""],
    pa.timestamp("ns", "UTC"): [1000000001, 1000000002, 3],
    pa.time64("ns"): [1, 2, 3],
    pa.duration("ms"): [1, 2, 3],
    pa.decimal256(50, 2): [Decimal("1.10"), Decimal(2), Decimal(3)],
}


@pytest.mark.parametrize(("of", "values"), TAKEN.items(), ids=str)
@pytest.mark.parametrize("index", [False, True])
def test_a_list_of_these_finds_exactly_them(tmp_path: Path, of: pa.DataType, values: Any, index: bool):
    array = pa.array(values, of)
    ds = lance.write_dataset(pa.table({"k": array, "at": [0, 1, 2]}), tmp_path / "t.lance")
    if index:
        ds.create_scalar_index("k", "BTREE")
    for at in range(3):
        assert ds.to_table(filter=pc.field("k").isin(array.slice(at, 1)))["at"].to_pylist() == [at]


@pytest.mark.parametrize(("of", "values"), REFUSED.items(), ids=str)
def test_a_list_of_these_is_refused(tmp_path: Path, of: pa.DataType, values: Any):
    array = pa.array(values, of)
    ds = lance.write_dataset(pa.table({"k": array, "at": [0, 1, 2]}), tmp_path / "t.lance")
    with pytest.raises((ValueError, pa.ArrowNotImplementedError)):
        ds.to_table(filter=pc.field("k").isin(array))
