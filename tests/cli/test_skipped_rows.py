"""What a person sees of single rows: samples in a plan, the report of rows left alone, conflicts."""

import json
from pathlib import Path
from typing import Any

import lance
import pytest
from console import Console
from lab import Lab

FIX = """
def third(batch: pa.RecordBatch) -> pa.RecordBatch:
    gain = batch.column("gain")
    unknown = pc.greater(gain, 1.5)
    reason = pc.if_else(unknown, pa.scalar("too loud"), pa.scalar(None, pa.string()))
    return pa.record_batch({"gain": pc.divide(gain, 4), "__unknown__": unknown, "__reason__": reason})
"""
BACKFILL = 'BackfillColumns(table="recordings", columns=("gain",), reads=("gain",), using=third{more})'


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_plan_shows_old_and_new_values(live: Lab, console: Console) -> None:
    live.revision(
        'UpdateRows(table="recordings", set={"gain": "gain * 2"}, where="id > 1"),'
        'DeleteRows(table="recordings", where="gain = 4"),'
        'AddColumn(table="recordings", column=pa.field("loud", pa.bool_()), sql="gain > 0.5")'
    )
    before = live.dataset("recordings").version
    text = console.says("upgrade", "--plan", "--sample", "20")
    assert (
        "sample   0002 operation 1  recordings: set gain = gain * 2 where id > 1\n  id=2  gain  2.0 → 4.0"
        in text
    )
    assert "id=2  deleted  id=2, gain=4.0" in text
    assert "id=1  loud  null → true" in text
    document = console.json("upgrade", "--plan", "--sample", "1")
    assert document["samples"][0] == {
        "step": "0002/0",
        "table": "recordings",
        "rows": [{"key": {"id": 2}, "old": {"gain": 2.0}, "new": {"gain": 4.0}}],
    }
    assert live.dataset("recordings").version == before
    assert console("upgrade", "--sample", "3").exit_code == 2


def test_a_sample_of_an_upsert_shows_what_it_would_insert_and_overwrite(live: Lab, console: Console) -> None:
    live.revision(
        'UpsertRows(table="recordings", on=("id",), when_exists="overwrite",'
        ' rows=[{"id": 2, "gain": 9.0}, {"id": 1, "gain": 1.0}, {"id": 3, "gain": 3.0}])'
    )
    text = console.says("upgrade", "--plan", "--sample", "20")
    assert "id=2  gain      2.0 → 9.0" in text
    assert "id=3  inserted  id=3, gain=3.0" in text
    assert "id=1" not in text.partition("sample")[2]


def test_rows_without_an_answer_are_listed(live: Lab, console: Console, tmp_path: Path) -> None:
    live.revision(BACKFILL.format(more=""), above=FIX)
    report = tmp_path / "left.json"
    text = console.says("upgrade", "--report", str(report))
    assert "0002 operation 1  recordings: 1 row changed, 1 unchanged, of these 1 indeterminate" in text
    [line] = lines(report)
    run = line.pop("run")
    assert run in console.says("history", "--lineage", "-v")
    assert line == {
        "step": "0002/0",
        "table": "recordings",
        "key": {"id": 2},
        "old": {"gain": 2.0},
        "reason": "too loud",
    }


def test_past_the_brake_they_are_listed_too_and_the_brake_is_raised_for_once(
    live: Lab, console: Console, tmp_path: Path
) -> None:
    live.revision(BACKFILL.format(more=", max_indeterminate=0"), above=FIX)
    report = tmp_path / "left.json"
    said = console.refuses("upgrade", "--report", str(report), status=1)
    assert "1 row could not be decided, but max_indeterminate is 0" in said
    assert "lancemig upgrade --max-indeterminate 1" in said
    assert [line["key"] for line in lines(report)] == [{"id": 2}]
    assert "brakes: max_indeterminate 1" in console.says("upgrade", "--max-indeterminate", "1")
    assert live.rows("recordings") == [{"id": 1, "gain": 0.25}, {"id": 2, "gain": 2.0}]


def test_max_rows_from_the_command_line_is_a_brake_of_every_operation(live: Lab, console: Console) -> None:
    live.revision('UpdateRows(table="recordings", set={"gain": "gain * 2"})')
    assert "2 rows would change, but max_rows is 1" in console.refuses("upgrade", "--max-rows", "1", status=1)
    console.says("upgrade", "--max-rows", "2")


def test_a_saved_plan_keeps_its_brakes(live: Lab, console: Console, tmp_path: Path) -> None:
    live.revision('UpdateRows(table="recordings", set={"gain": "gain * 2"})')
    plan = str(tmp_path / "plan.json")
    console.says("upgrade", "--plan", "--max-rows", "1", "--out", plan)
    assert console("upgrade", "--from", plan, "--max-rows", "9").exit_code == 2
    assert "max_rows is 1" in console.refuses("upgrade", "--from", plan, status=1)


@pytest.mark.parametrize("content", ["no json\n", '{"other": 1}\n'])
def test_a_file_that_is_no_report_is_not_overwritten(
    live: Lab, console: Console, tmp_path: Path, content: str
) -> None:
    live.revision(BACKFILL.format(more=""), above=FIX)
    report = tmp_path / "precious"
    report.write_text(content)
    assert "is not a row report" in console.refuses("upgrade", "--report", str(report), status=2)
    assert report.read_text() == content
    assert live.rows("recordings")[0]["gain"] == 1.0


def changed_since(live: Lab) -> None:
    live.revision('UpdateRows(table="recordings", set={"gain": "gain * 2"})')
    live.upgrade()
    lance.dataset(live.dataset("recordings").uri).update({"gain": "-1"}, where="id = 2")


def test_a_cell_that_others_changed_is_reported_and_kept(live: Lab, console: Console, tmp_path: Path) -> None:
    changed_since(live)
    report = tmp_path / "kept.json"
    assert "1 row changed, 1 unchanged" in console.says("downgrade", "-1", "--report", str(report))
    assert live.rows("recordings") == [{"id": 1, "gain": 1.0}, {"id": 2, "gain": -1.0}]
    [line] = lines(report)
    assert (line["key"], line["old"]) == ({"id": 2}, {"gain": -1.0})
    assert line["reason"] == "changed by another writer since"


def test_overwrite_puts_it_back_too(live: Lab, console: Console) -> None:
    changed_since(live)
    assert "2 rows" in console.says("downgrade", "-1", "--overwrite")
    assert live.rows("recordings") == [{"id": 1, "gain": 1.0}, {"id": 2, "gain": 2.0}]
