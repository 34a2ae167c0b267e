"""`lancemig verify`: the proof of a flip once more, whatever was written since; and root against root."""

import json
import shutil
from pathlib import Path

import lance
import pytest
from click.testing import CliRunner
from lab import Lab
from servers import Place

from lancemig.cli import main
from lancemig.commands import flip, verify
from lancemig.errors import PlanError

START = """
    CreateTable(table="t", key=("id",), schema=["id: int64", "x: float64", "fs: int32"],
                rows=[{"id": n, "x": float(n), "fs": n} for n in range(50)]),
    CreateTable(table="log", schema=["at: int64"], rows=[{"at": n} for n in range(5)]),
"""
REBUILD = """
    RenameColumn(table="t", column="fs", to="rate"),
    RetypeColumn(table="t", column="x", to="float32", using="cast(x * 2 as float)"),
    RenameTable(table="log", to="journal"),
"""


@pytest.fixture
def lab(tmp_path: Path, local_place: Place) -> Lab:
    lab = Lab(tmp_path / "lab", local_place)
    lab.revision(START)
    lab.upgrade()
    lab.revision(
        REBUILD, above='checks = [Check(name="some", sql="select count(*) > 9 from t", expect=True)]'
    )
    lab.upgrade()
    return lab


def asked(lab: Lab, *words: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["-c", str(lab.folder / "lancemig.ini"), "verify", *words])
    return result.exit_code, result.output


def test_a_flip_is_verified_long_after(lab: Lab) -> None:
    lab.append("t", [{"id": 99, "x": 1.0, "rate": 1}])
    lab.dataset("t").delete("id = 3")
    lab.dataset("t", "v1/").update({"x": "0.0"})
    lab.revision('UpdateRows(table="t", set={"x": "x + 1"})')
    lab.upgrade()
    report = verify.verify(lab.catalog())
    assert report.ok, report.failed
    assert report == verify.verify(lab.catalog(), "0002").model_copy(
        update={n: getattr(report, n) for n in ("started", "finished", "outcomes")}
    )
    assert {o.gate for o in report.outcomes} >= {"schema", "rows", "keys", "columns", "recomputed"}
    assert [(c.check, c.ok) for c in report.checks] == [("some", True)]
    code, output = asked(lab)
    assert (code, output.rstrip().rpartition("\n")[2]) == (0, "passed")


def test_the_same_rows_are_drawn_again(lab: Lab) -> None:
    first, second = (verify.verify(lab.catalog()) for _ in range(2))
    assert [o.model_copy(update={"seconds": 0.0}) for o in first.outcomes] == [
        o.model_copy(update={"seconds": 0.0}) for o in second.outcomes
    ]


def test_a_file_that_is_gone_from_a_guarded_version_is_found(lab: Lab) -> None:
    table = lab.catalog().store.tables.open(lab.root, "t")
    for fragment in table.fragments:
        for file in fragment.metadata.files:
            (Path(table.uri) / "data" / file.path).unlink()
    code, output = asked(lab)
    assert code == 6
    assert "was not found" in output or "Not found" in output


def test_a_version_that_was_cleaned_away_is_named(lab: Lab) -> None:
    shutil.rmtree(Path(lab.place.store) / "v1")
    with pytest.raises(
        PlanError, match=r"log at version \d+, t at version \d+ in v1/ was removed by cleanup"
    ):
        verify.verify(lab.catalog())


def test_without_a_flip_there_is_nothing_to_verify(tmp_path: Path, local_place: Place) -> None:
    lab = Lab(tmp_path / "lab", local_place)
    lab.revision(START)
    lab.upgrade()
    with pytest.raises(PlanError, match="no rebuild has been flipped to yet"):
        verify.verify(lab.catalog())
    with pytest.raises(PlanError, match="revision 0001 was never flipped to: in-place migrations"):
        verify.verify(lab.catalog(), "0001")


def test_a_copy_is_verified_against(lab: Lab) -> None:
    store = Path(lab.place.store)
    shutil.copytree(store / lab.root, store / "copy")
    assert asked(lab, "--against", "copy")[0] == 0
    dataset = lance.dataset(str(store / "copy" / "catalog" / "t.lance"))
    dataset.update({"rate": "8"}, where="id = 7")
    code, output = asked(lab, "--against", "copy/", "--report", str(lab.folder / "found.json"))
    assert code == 1
    assert "FAILED t.rate: columns: checksum: 1 row has a different value, for example id=7" in output
    found = json.loads((lab.folder / "found.json").read_text())
    assert found["format"] == 1
    lab.append("t", [{"id": 99, "x": 1.0, "rate": 1}])
    code, output = asked(lab, "--against", "copy/", "--json")
    assert code == 1
    assert any("51 rows, expected 50" in text for text in json.loads(output[output.index("{") :])["failed"])


def test_the_old_root_is_verified_against_through_the_files(lab: Lab) -> None:
    assert asked(lab, "--against", "v1/")[0] == 0
    flip.rollback(lab.catalog())
    [staged] = [p.name for p in Path(lab.place.store).iterdir() if p.name.startswith("lancemig-staging")]
    assert asked(lab, "--against", staged)[0] == 0
    lab.dataset("t", f"{staged}/").delete("id = 5")
    code, output = asked(lab, "--against", staged)
    assert (code, "1 key is missing, for example id=5" in output) == (1, True)


@pytest.mark.parametrize(("prefix", "said"), [("nowhere", "has no tables"), ("", "has no tables")])
def test_a_root_that_is_none_is_refused(lab: Lab, prefix: str, said: str) -> None:
    code, output = asked(lab, "--against", prefix)
    assert (code, said in output) == (2, True)
    code, output = asked(lab, "--against", lab.root)
    assert (code, "is the live root itself" in output) == (2, True)
