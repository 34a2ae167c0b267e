"""What Lance keeps of a transaction that was rebased."""

from pathlib import Path

import lance
import pyarrow as pa
from lance import LanceOperation, Transaction


def test_a_rebased_transaction_is_kept_with_the_version_it_was_rebased_onto(tmp_path: Path) -> None:
    rows = pa.table({"id": [1, 2, 3]})
    dataset = lance.write_dataset(rows, tmp_path / "t.lance")
    [fragment] = dataset.get_fragments()
    left = fragment.delete("id = 1")
    assert left is not None
    staged = LanceOperation.Delete([left], [], "id = 1")
    lance.write_dataset(rows, dataset.uri, mode="append")
    done = lance.LanceDataset.commit(dataset.uri, Transaction(1, staged))
    assert (done.version, done.read_transaction(3).read_version) == (3, 2)
