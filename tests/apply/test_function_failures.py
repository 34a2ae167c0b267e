"""Exceptions of a migration's functions: earlier results are kept, retries are made, the advice fits."""

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from lab import Lab
from servers import Place

from lancemig.apply.environment import Progress
from lancemig.apply.store import SAMPLE
from lancemig.catalog.function_errors import is_unavailable
from lancemig.commands import recovery, status, upgrade
from lancemig.errors import FunctionFailed, FunctionUnavailable, RunUnfinished

START = 'CreateTable(table="t", key=("id",), schema=["id: int64", "x: float64"], rows=[])'
CALLED = """
from pathlib import Path

RateLimitError = type("RateLimitError", (Exception,), {{}})

def asked(batch):
    ids = batch.column("id").to_pylist()
    log, switch = Path({folder!r}, "log"), Path({folder!r}, "fails")
    if {at} in ids and switch.exists():
        if switch.read_text():
            switch.write_text(switch.read_text()[1:])
        if not switch.read_text():
            switch.unlink()
        raise {error}
    with log.open("a") as file:
        file.writelines(f"{{i}}\\n" for i in ids)
    return ids

def f(batch):
    return pa.array([float(i) for i in asked(batch)])

def g(batch):
    return pa.record_batch({{"id": asked(batch), "x": batch.column("id").cast(pa.float64())}})
"""
BACKFILL = 'BackfillColumns(table="t", columns=("x",), reads=("id",), using=f{more})'
ADD = 'AddColumn(table="t", column="y: float64", reads=("id",), using=f{more})'
TRANSFORM = 'TransformTable(table="t", using=g, reads=("id",), schema=["id: int64", "x: float64"]{more})'
OPERATIONS = {"backfill": BACKFILL, "add": ADD, "transform": TRANSFORM}
ROWS = 1000


class Service:
    """A function that asks a service, which fails as often as there are letters in a file."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder = lab, folder
        lab.revision(START)
        lab.upgrade()
        lab.append("t", [{"id": i} for i in range(ROWS)])

    def change(
        self, operation: str, more: str = "", error: str = 'RateLimitError("429")', at: int = 700
    ) -> None:
        above = CALLED.format(folder=str(self.folder), error=error, at=at)
        self.lab.revision(OPERATIONS[operation].format(more=more), above=above)

    def fails(self, times: int) -> None:
        (self.folder / "fails").write_text("x" * times)

    @property
    def asked(self) -> Counter[int]:
        """How often each row was answered."""
        log = self.folder / "log"
        return Counter(map(int, log.read_text().split())) if log.exists() else Counter()


@pytest.fixture
def service(tmp_path: Path, local_place: Place) -> Service:
    return Service(Lab(tmp_path / "lab", local_place), tmp_path)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_row_with_an_answer_is_asked_about_again(service: Service, operation: str) -> None:
    service.change(operation)
    service.fails(1)
    with pytest.raises(FunctionUnavailable, match=r"raised RateLimitError: 429") as failed:
        service.lab.upgrade()
    answered = service.asked
    assert 200 < len(answered) < ROWS
    assert "run the same command again" in str(failed.value.next_step)
    assert "retries=" in str(failed.value.next_step)
    service.lab.upgrade()
    # Before a flip, verification calls a function again, for 1,000 sampled rows.
    verified = min(SAMPLE, ROWS) if operation == "transform" else 0
    assert service.asked.total() == ROWS + verified
    assert set(service.asked) == set(range(ROWS))
    column = "y" if operation == "add" else "x"
    assert [row[column] for row in service.lab.rows("t")] == [float(i) for i in range(ROWS)]
    assert list(service.lab.opened.store.objects.list("_lancemig/scratch/")) == []


def test_an_error_of_the_function_itself_says_to_fix_it(service: Service) -> None:
    service.change("backfill", error='KeyError("size")')
    service.fails(1)
    with pytest.raises(FunctionFailed) as failed:
        service.lab.upgrade()
    assert not isinstance(failed.value, FunctionUnavailable)
    assert "lancemig recover --undo, then fix the function" in str(failed.value.next_step)
    path = service.lab.folder / "versions" / "0002.py"
    path.write_text(path.read_text().replace('raise KeyError("size")', "pass"))
    with pytest.raises(RunUnfinished, match="recover --undo"):
        service.lab.upgrade()
    recovery.undo(service.lab.catalog())
    service.lab.upgrade()
    assert status.history(service.lab.catalog())[0].target.revision == "0002"


def test_without_an_answer_the_run_is_over(service: Service) -> None:
    service.change("backfill", error='KeyError("size")', at=0)
    service.fails(1)
    with pytest.raises(FunctionFailed) as failed:
        service.lab.upgrade()
    assert "fix f() in the migration" in str(failed.value.next_step)
    assert service.lab.catalog().in_flight() is None


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_function_is_called_again_as_often_as_declared(service: Service, operation: str) -> None:
    service.change(operation, more=", retries=3, pause=0.001")
    service.fails(3)
    service.lab.upgrade()
    assert not (service.folder / "fails").exists()
    assert service.lab.rows("t")[999]["y" if operation == "add" else "x"] == 999.0


def test_the_pauses_grow_and_the_last_exception_is_told(service: Service) -> None:
    service.change("backfill", more=", retries=2, pause=4.0")
    service.fails(9)
    pauses: list[float] = []
    with pytest.raises(FunctionUnavailable, match=r"429 \(in each of 3 calls\)"):
        service.lab.upgrade(catalog=service.lab.catalog(sleep=pauses.append))
    assert pauses == [4.0, 8.0]


def test_retries_require_a_function() -> None:
    from lancemig import AddColumn

    with pytest.raises(ValueError, match="`retries` requires `using`"):
        AddColumn(table="t", column=pa.field("x", pa.int64()), sql="1", retries=2)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_progress_counts_rows_with_an_answer(service: Service, operation: str) -> None:
    service.change(operation)
    service.fails(1)
    seen: list[int] = []

    def show(progress: Progress) -> None:
        if progress.phase == "step" and progress.rows:
            seen.append(progress.rows)

    catalog = service.lab.catalog()
    with pytest.raises(FunctionUnavailable):
        upgrade.apply_prepared(catalog, upgrade.prepare(catalog, "head", "up"), show)
    assert len(seen) > 3
    assert seen == sorted(seen)
    assert seen[-1] == len(service.asked)


class ReadTimeout(Exception):
    """As of `requests` and `httpx`."""


class APIStatusError(Exception):
    status_code = 503


class ClientError(Exception):
    """As of botocore."""


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "later"),
    [
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (ReadTimeout("x"), True),
        (APIStatusError("x"), True),
        (ClientError("An error occurred (ThrottlingException) when calling InvokeModel"), True),
        (RuntimeError("HTTP 429: Too Many Requests"), True),
        (RuntimeError("the model is overloaded, try again"), True),
        (caused(ValueError("no answer"), TimeoutError()), True),
        (KeyError("size"), False),
        (ValueError("429000 is out of range"), False),
        (ZeroDivisionError("division by zero"), False),
        (AttributeError("'NoneType' object has no attribute 'split'"), False),
        (MemoryError(), False),
    ],
)
def test_what_a_later_call_may_cure(error: Exception, later: bool) -> None:
    assert is_unavailable(error) is later


def test_a_source_that_times_out_says_to_run_again_later(service: Service) -> None:
    above = (
        "def rows():\n    yield pa.record_batch({'id': [5000]})\n    raise TimeoutError('read timed out')\n"
    )
    service.lab.revision('UpsertRows(table="t", rows=rows, on=("id",))', above=above)
    with pytest.raises(FunctionUnavailable, match=r"rows\(\) raised TimeoutError: read timed out") as failed:
        service.lab.upgrade()
    assert "run the same command again later" in str(failed.value.next_step)
    assert len(service.lab.rows("t")) == ROWS
    assert service.lab.catalog().in_flight() is None
