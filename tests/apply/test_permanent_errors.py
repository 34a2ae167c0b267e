"""An error that the same command cannot cure ends the run where nothing landed; a transient one leaves it."""

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import lance
import pytest
from lab import Lab
from servers import Place

from lancemig.apply.rows import results_cache
from lancemig.commands import recovery
from lancemig.errors import PlanError, StoreError
from lancemig.store.lance import LanceRefused

CREATE = """CreateTable(table="t", key=("id",),
    schema=pa.schema([("id", pa.int64()), ("n", pa.int64()), ("s", pa.string())]),
    rows=[{"id": i, "n": i % 3, "s": f"({i}"} for i in range(1, 30)])"""
ADD = 'AddColumn(table="t", column="q: int64", sql="id + 1")'
REBUILD = 'RenameColumn(table="t", column="n", to="m"), UpdateRows(table="t", set={"m": "m + 1"})'


class PanicException(BaseException):
    """A panic of Lance, as Python sees it."""


@pytest.fixture
def lab(tmp_path: Path, local_place: Place) -> Lab:
    lab = Lab(tmp_path, local_place)
    lab.revision(CREATE)
    lab.upgrade()
    return lab


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> Callable[[], None]:
    """Let each commit of Lance to the table fail with `error`; returns what ends that."""
    real = lance.LanceDataset.commit

    def commit(uri: Any, *arguments: Any, **named: Any) -> Any:
        if "t.lance" in str(uri) and not str(uri).startswith("memory:"):
            raise error
        return real(uri, *arguments, **named)

    monkeypatch.setattr(lance.LanceDataset, "commit", staticmethod(commit))
    return lambda: monkeypatch.setattr(lance.LanceDataset, "commit", staticmethod(real))


@pytest.mark.parametrize(
    "operation",
    [
        'UpdateRows(table="t", set={"n": "id / n"})',
        'AddColumn(table="t", column="q: int64", sql="id / n")',
        'AddColumn(table="t", column="q: int64", sql="cast(s as bigint)")',
        'UpdateRows(table="t", set={"s": "regexp_replace(s, concat(\'(\', s), \'\')"})',
    ],
    ids=["division", "division in a new column", "a cast", "a regular expression"],
)
def test_values_that_lance_cannot_compute_end_the_run(lab: Lab, operation: str) -> None:
    before = lab.rows("t")
    lab.revision(operation)
    with pytest.raises(PlanError) as failed:
        lab.upgrade()
    assert failed.value.exit_status == 2
    assert "again later" not in str(failed.value)
    assert lab.catalog().in_flight() is None
    assert lab.rows("t") == before


@pytest.mark.parametrize("operations", [ADD, REBUILD], ids=["in place", "rebuild"])
@pytest.mark.parametrize(
    "error",
    [
        OSError("LanceError(Schema): nobody has seen this"),
        TypeError("an argument of pylance"),
        PanicException("index out of bounds: the len is 0 but the index is 0"),
    ],
    ids=["unknown", "pylance", "panic"],
)
def test_an_unknown_error_ends_the_run_and_the_migration_can_be_edited(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, operations: str, error: BaseException
) -> None:
    before = lab.rows("t")
    lab.revision(operations)
    heal = failing(monkeypatch, error)
    with pytest.raises(LanceRefused, match=re.escape(str(error))) as failed:
        lab.upgrade()
    assert failed.value.exit_status == 2
    assert "change the operation" in str(failed.value.next_step)
    assert lab.catalog().in_flight() is None
    assert lab.rows("t") == before
    heal()
    file = lab.folder / "versions" / "0002.py"
    file.write_text(file.read_text() + "# edited\n")
    lab.upgrade()
    assert len(lab.rows("t")) == len(before)


@pytest.mark.parametrize("operations", [ADD, REBUILD], ids=["in place", "rebuild"])
@pytest.mark.parametrize(
    "text",
    [
        "Generic S3 error: operation timed out",
        "Server returned non-2xx status code: 503 Service Unavailable",
        "LanceError(IO): No space left on device (os error 28)",
        "LanceError(IO): Permission denied (os error 13)",
    ],
)
def test_a_transient_error_leaves_the_run_and_the_same_command_continues(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, operations: str, text: str
) -> None:
    lab.revision(operations)
    heal = failing(monkeypatch, OSError(text))
    with pytest.raises(StoreError) as failed:
        lab.upgrade()
    assert "run the same command again" in str(failed.value.next_step)
    assert lab.catalog().in_flight() is not None
    heal()
    lab.upgrade()
    assert lab.catalog().in_flight() is None


def test_where_something_landed_the_named_command_resolves_it(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = lab.rows("t")
    lab.revision(f'{ADD}, AddColumn(table="t", column="r: int64", sql="id / n")')
    with pytest.raises(PlanError) as failed:
        lab.upgrade()
    assert "lancemig recover --undo" in str(failed.value.next_step)
    recovery.undo(lab.catalog())
    assert lab.catalog().in_flight() is None
    assert lab.rows("t") == before


def test_results_of_functions_outlive_an_unknown_error(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = lab.folder / "calls"
    above = f"""
def f(batch):
    with open({str(calls)!r}, "a") as log:
        log.write("x" * batch.num_rows)
    return pc.multiply(batch.column("n"), 2)
"""
    monkeypatch.setattr(results_cache, "KEEP_EVERY", timedelta(0))
    lab.revision('BackfillColumns(table="t", columns=("n",), reads=("n",), using=f)', above=above)
    heal = failing(monkeypatch, OSError("LanceError(Index): nobody has seen this"))
    with pytest.raises(LanceRefused) as failed:
        lab.upgrade()
    assert "recover --undo" in str(failed.value.next_step)
    assert lab.catalog().in_flight() is not None
    heal()
    asked = len(calls.read_text())
    lab.upgrade()
    assert len(calls.read_text()) == asked


def test_an_unknown_error_after_a_commit_landed_leaves_the_run_to_be_undone(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = lab.rows("t")
    lab.revision(ADD)
    real = lance.LanceDataset.commit

    def commit(uri: Any, *arguments: Any, **named: Any) -> Any:
        done = real(uri, *arguments, **named)
        if "t.lance" in str(uri):
            raise OSError("nobody has seen this")
        return done

    monkeypatch.setattr(lance.LanceDataset, "commit", staticmethod(commit))
    with pytest.raises(LanceRefused) as failed:
        lab.upgrade()
    assert "lancemig recover --undo" in str(failed.value.next_step)
    assert lab.catalog().in_flight() is not None
    monkeypatch.setattr(lance.LanceDataset, "commit", staticmethod(real))
    recovery.undo(lab.catalog())
    assert lab.catalog().in_flight() is None
    assert lab.rows("t") == before
