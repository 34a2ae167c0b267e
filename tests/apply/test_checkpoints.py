"""A table that is written anew goes on where it died, and asks its function about nothing twice."""

import json
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from dying import Died, Fate, dying
from lab import ROOT, Lab
from servers import Place

from lancemig.apply import rebuild
from lancemig.apply.effects import rewrite
from lancemig.errors import ForeignPointer, RunUnfinished

START = """CreateTable(table="t", key=("id",), schema={"id": "int64 not null", "x": "float64"},
                       rows=[{"id": i, "x": i * 1.0} for i in range(10)])"""
TRANSFORM = 'TransformTable(table="t", using=halved, schema={"id": "int64 not null", "x": "float64"})'
LOGGED = """
from pathlib import Path
from threading import current_thread

def halved(batch: pa.RecordBatch) -> list:
    with Path({log!r}).open("a") as file:
        file.writelines(f"{{id}}\\n" for id in batch.column("id").to_pylist())
    if Path({trap!r}).exists() and 25 in batch.column("id").to_pylist():
        raise SystemExit("killed")
    kept = batch.filter(pc.not_equal(batch.column("id"), 21))
    return [kept.set_column(1, "x", pc.divide(kept.column("x"), 2.0))]
"""


class Logged:
    """A catalog with four fragments, and a function that writes down what it was asked about."""

    def __init__(self, folder: Path, place: Place, operation: str = TRANSFORM) -> None:
        self.log, self.trap = folder / "asked", folder / "trap"
        self.lab = Lab(folder / "lab", place)
        self.lab.revision(START)
        self.lab.upgrade()
        for first in (10, 20, 30):
            self.lab.append("t", [{"id": i, "x": i * 1.0} for i in range(first, first + 10)])
        self.lab.revision(operation, above=LOGGED.format(log=str(self.log), trap=str(self.trap)))

    def die_in_the_third_fragment(self) -> None:
        self.trap.touch()
        with pytest.raises(SystemExit):
            self.lab.upgrade()
        self.trap.unlink()
        self.lab.outlive_the_lock()

    @property
    def asked(self) -> Counter[int]:
        """How often the function was asked about each row."""
        return Counter(int(line) for line in self.log.read_text().split())


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each batch is a portion of its own."""
    monkeypatch.setattr(rewrite, "MAX_CHUNK_TIME", timedelta(0))


@pytest.mark.usefixtures("at_once")
def test_no_finished_fragment_is_asked_about_again(
    tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Logged(tmp_path, place)
    one.die_in_the_third_fragment()
    assert one.asked == Counter(range(30))
    one.log.unlink()
    with monkeypatch.context() as patching:
        # The proof asks about a sample of rows once more.
        patching.setattr(rebuild, "catch_up", die)
        with pytest.raises(Died):
            one.lab.upgrade()
    assert one.asked == Counter(range(20, 40))
    one.lab.outlive_the_lock()
    one.lab.upgrade()
    assert one.lab.rows("t") == [{"id": i, "x": i / 2} for i in range(40) if i != 21]


def die(_: object) -> None:
    raise Died


@pytest.mark.usefixtures("at_once")
def test_death_after_each_portion_leads_to_the_same_table(
    tmp_path: Path, local_place: Place, subtests: pytest.Subtests
) -> None:
    wanted = [{"id": i, "x": i / 2} for i in range(40) if i != 21]
    one = Logged(tmp_path, local_place)
    for number in range(4):
        with subtests.test(f"portion {number}"):
            fate = Fate()
            fate.watch = lambda fate=fate, number=number: stop_at(fate, number)
            with pytest.raises(Died):
                one.lab.upgrade(catalog=dying(one.lab.catalog(), fate))
            one.lab.outlive_the_lock()
    one.lab.upgrade()
    assert one.lab.rows("t") == wanted
    assert len(one.lab.dataset("t").get_fragments()) == 4


def stop_at(fate: Fate, number: int) -> None:
    if fate.effects[-1].endswith(f"{number:08d}.json"):
        fate.dead = True
        raise Died(fate.effects[-1])


@pytest.mark.usefixtures("at_once")
def test_a_layout_is_rewritten_in_portions_too(tmp_path: Path, place: Place) -> None:
    one = Logged(tmp_path, place, 'RewriteTable(table="t", stable_row_ids=True, data_storage_version="2.1")')
    fate = Fate()
    fate.watch = lambda: stop_at(fate, 1)
    with pytest.raises(Died):
        one.lab.upgrade(catalog=dying(one.lab.catalog(), fate))
    one.lab.outlive_the_lock()
    one.lab.upgrade()
    found = one.lab.dataset("t")
    assert found.has_stable_row_ids
    assert found.data_storage_version == "2.1"
    assert one.lab.rows("t") == [{"id": i, "x": i * 1.0} for i in range(40)]
    found.validate()


@pytest.mark.usefixtures("at_once")
def test_portions_whose_files_are_gone_are_written_again(tmp_path: Path, local_place: Place) -> None:
    one = Logged(tmp_path, local_place)
    one.die_in_the_third_fragment()
    store = one.lab.catalog().store
    run = one.lab.catalog().in_flight()
    assert run is not None
    folder = store.tables.folder(run.staged_prefix or "", "t")
    store.objects.delete([next(iter(store.objects.list(folder))).key])
    one.lab.upgrade()
    assert one.lab.rows("t") == [{"id": i, "x": i / 2} for i in range(40) if i != 21]


@pytest.mark.usefixtures("at_once")
def test_a_changed_file_refuses_to_go_on(tmp_path: Path, local_place: Place) -> None:
    one = Logged(tmp_path, local_place)
    one.die_in_the_third_fragment()
    file = one.lab.folder / "versions" / "0002.py"
    file.write_text(file.read_text().replace("2.0", "4.0"))
    with pytest.raises(RunUnfinished, match="was edited since"):
        one.lab.upgrade()


@pytest.mark.usefixtures("at_once")
def test_a_moved_pointer_refuses_to_go_on(tmp_path: Path, local_place: Place) -> None:
    one = Logged(tmp_path, local_place)
    one.die_in_the_third_fragment()
    store = one.lab.catalog().store
    found = store.objects.read("ACTIVE.json")
    assert found is not None
    other = {**json.loads(found.body), "active_prefix": "elsewhere/"}
    store.objects.write_if("ACTIVE.json", json.dumps(other).encode(), found.version_token)
    with pytest.raises(ForeignPointer, match="it names elsewhere/ at 0001"):
        one.lab.upgrade()
    assert one.lab.catalog().store.tables.names(ROOT) == ["t"]


def test_a_large_table_is_sorted_as_a_small_one(
    tmp_path: Path, local_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab(tmp_path, local_place)
    rows = [{"id": i, "x": None if i % 7 == 0 else float((i * 37) % 11), "s": f"s{i % 3}"} for i in range(50)]
    lab.revision(f"""CreateTable(table="t", schema={{"id": "int64", "x": "float64", "s": "string"}},
                                 rows={rows})""")
    lab.upgrade()
    lab.append("t", [{"id": 90, "x": 4.5, "s": "z"}])
    lab.dataset("t").delete("id = 5")
    table = lab.catalog().store.tables.open(ROOT, "t")
    small = [row for batch in rewrite.sorted_batches(table, ("x", "s")) for row in batch.to_pylist()]
    monkeypatch.setattr(rewrite, "IN_MEMORY", table.live().bytes // 7)
    large = [row for batch in rewrite.sorted_batches(table, ("x", "s")) for row in batch.to_pylist()]
    assert [(row["x"], row["s"]) for row in large] == [(row["x"], row["s"]) for row in small]
    assert sorted(row["id"] for row in large) == sorted(row["id"] for row in small)
    assert len(large) == 50
    lab.revision('RewriteTable(table="t", order_by=("x", "s"))')
    lab.upgrade()
    assert [row["x"] for row in lab.dataset("t").to_table().to_pylist()] == [row["x"] for row in small]
