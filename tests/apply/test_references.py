"""Tags and branches of others: carried with their versions, named where they stay, never deleted unnamed."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import lance
import lancedb
import pyarrow as pa
import pytest
from lab import ROOT, Lab
from servers import Place

from lancemig.apply import runner as running
from lancemig.apply.replicate import catch_up as catching_up
from lancemig.apply.retention.held import lent_to
from lancemig.commands import flip, retention, upgrade
from lancemig.errors import ConfigError
from lancemig.report.plan import plan_json, plan_text
from lancemig.report.retention import copy_json, copy_text, detached_text, gc_plan_json, gc_plan_text

START = """
    CreateTable(table="t", key=("id",), schema={"id": "int64 not null", "x": "float64"},
                rows=[{"id": n, "x": n / 2} for n in range(4)]),
    CreateTable(table="other", key=("id",), schema={"id": "int64 not null"}, rows=[{"id": 1}]),
"""
RENAME = 'RenameColumn(table="t", column="x", to="y")'
ANEW = 'RewriteTable(table="t", data_storage_version="2.1")'
NONE = timedelta()


def started(folder: Path, place: Place, staging: str = "copy") -> Lab:
    lab = Lab(folder, place, staging=staging)
    lab.revision(START)
    lab.upgrade()
    return lab


def options(lab: Lab) -> dict[str, str]:
    return lab.catalog().store.tables.options()


def at(lab: Lab, name: Any, table: str = "t", root: str | None = None) -> list[int]:
    """The ids that a tag (text) or a branch (in a tuple) leads to, opened by Lance alone."""
    found = lab.dataset(table, root).checkout_version((name[0], None) if isinstance(name, tuple) else name)
    return sorted(found.to_table(columns=["id"])["id"].to_pylist())


def on_branch(lab: Lab, name: str, start: Any, *ids: int) -> None:
    """A branch of `t` with one commit of its own for each id."""
    branch = lab.dataset("t").create_branch(name, start)
    for n in ids:
        branch.insert(pa.table({"id": [n], "x": [0.0]}, schema=branch.schema))


def gone(lab: Lab, root: str = ROOT) -> None:
    objects = lab.catalog().store.objects
    objects.delete([item.key for item in objects.list(root)])


def furnished(lab: Lab) -> int:
    """Two tags on one old version that only they keep, a tag on the newest, branches with own commits."""
    dataset = lab.dataset("t")
    first = dataset.version
    dataset.tags.create("train-2026", first)
    dataset.tags.create("audit", first)
    on_branch(lab, "experiment", first, 50, 51)
    on_branch(lab, "team/sub", ("experiment", None), 60)
    on_branch(lab, "empty", first)
    lab.dataset("t").tags.create("on-branch", ("experiment", first + 1))
    lab.append("t", [{"id": 10, "x": 0.0}])
    lab.dataset("t").update({"x": "9.0"}, where="id = 1")
    lab.dataset("t").delete("id = 0")
    lab.dataset("t").optimize.compact_files()
    lab.dataset("t").cleanup_old_versions(NONE, delete_unverified=True, error_if_tagged_old_versions=False)
    lab.dataset("t").tags.create("newest", lab.dataset("t").version)
    lab.dataset("other").tags.create("train-2026", lab.dataset("other").version)
    return int(first)


def assert_furnished(lab: Lab) -> None:
    assert at(lab, "train-2026") == at(lab, "audit") == at(lab, ("empty",)) == [0, 1, 2, 3]
    assert at(lab, "newest") == [1, 2, 3, 10]
    assert at(lab, "on-branch") == [0, 1, 2, 3, 50]
    assert at(lab, ("experiment",)) == [0, 1, 2, 3, 50, 51]
    assert at(lab, ("team/sub",)) == [0, 1, 2, 3, 50, 51, 60]
    assert at(lab, "train-2026", "other") == [1]


@pytest.mark.parametrize("staging", ["copy", "clone"])
def test_a_rebuild_carries_tags_and_branches_which_need_the_old_root_no_more(
    tmp_path: Path, place: Place, staging: str
) -> None:
    lab = started(tmp_path, place, staging)
    furnished(lab)
    lab.revision(RENAME)
    lab.upgrade()
    assert lab.root != ROOT
    gone(lab)
    assert_furnished(lab)
    # As a writer would go on: Lance protects what was carried, and writes to the branch.
    lab.append("t", [{"id": 11, "y": 0.0}])
    lab.dataset("t").cleanup_old_versions(NONE, delete_unverified=True, error_if_tagged_old_versions=False)
    assert_furnished(lab)
    branch = lab.dataset("t").checkout_version(("experiment", None))
    branch.insert(pa.table({"id": [52], "x": [0.0]}, schema=branch.schema))
    assert at(lab, ("experiment",)) == [0, 1, 2, 3, 50, 51, 52]
    assert [row["id"] for row in lab.rows("t")] == [1, 2, 3, 10, 11]


def test_a_tagged_old_version_has_its_deletions_indices_and_blobs(tmp_path: Path, local_place: Place) -> None:
    lab = started(tmp_path, local_place)
    lab.dataset("t").create_scalar_index("id", "BTREE")
    lab.dataset("t").delete("id = 2")
    lab.dataset("t").tags.create("v", lab.dataset("t").version)
    lab.dataset("t").drop_index("id_idx")
    lab.dataset("t").optimize.compact_files()
    lab.revision(RENAME)
    lab.upgrade()
    gone(lab)
    tagged = lab.dataset("t").checkout_version("v")
    assert [index.name for index in tagged.describe_indices()] == ["id_idx"]
    assert tagged.to_table(filter="id in (1, 2)")["id"].to_pylist() == [1]


def test_tags_are_there_after_two_rebuilds_rollback_archive_and_gc(
    tmp_path: Path, local_place: Place
) -> None:
    lab = started(tmp_path, local_place)
    furnished(lab)
    lab.revision(RENAME)
    lab.upgrade()
    flip.rollback(lab.catalog())
    assert lab.root == ROOT
    assert_furnished(lab)
    flip.rollback(lab.catalog(), again=True)
    assert_furnished(lab)
    lab.revision('RenameColumn(table="t", column="y", to="z")')
    lab.upgrade()
    for root in list(lab.catalog().store.objects.folders("")):
        if f"{root}/" != lab.root and lab.catalog().store.tables.names(f"{root}/"):
            retention.archive(lab.catalog(), f"{root}/", retention=NONE)
    done = retention.gc(lab.catalog(), force=True)
    # What the live root has is not held by the roots before it.
    assert len([item for item in done.items if item.kind == "root"]) == 2
    assert_furnished(lab)


def test_the_plan_says_what_is_carried_and_what_stays(tmp_path: Path, local_place: Place) -> None:
    lab = started(tmp_path, local_place)
    lab.dataset("t").tags.create("train-2026", 1)
    lab.dataset("other").create_branch("mine", 1)
    lab.revision(ANEW)
    plan = upgrade.prepare(lab.catalog(), "head", "up").plan
    text = plan_text(plan, store="store", staging="next/")
    assert f"note  t: tag train-2026: stay in {ROOT}, which gc keeps because of them" in text
    assert "note  other: branch mine: carried" in text
    carried = {one["table"]: one for one in plan_json(plan)["carried"]}
    assert (carried["t"]["copied"], carried["t"]["tags"]) == (False, ["train-2026"])
    assert (carried["other"]["copied"], carried["other"]["branches"]) == (True, ["mine"])


def test_a_dropped_table_with_a_tag_is_named_and_keeps_its_root(tmp_path: Path, local_place: Place) -> None:
    lab = started(tmp_path, local_place)
    lab.dataset("other").tags.create("audit", 1)
    lab.revision('DropTable(table="other")')
    plan = upgrade.prepare(lab.catalog(), "head", "up").plan
    assert "note  other: tag audit: stay in" in plan_text(plan, store="store", staging="next/")
    lab.upgrade()
    retention.archive(lab.catalog(), ROOT, retention=NONE)
    retention.gc(lab.catalog(), force=True)
    assert at(lab, "audit", "other", ROOT) == [1]


def test_gc_keeps_the_only_root_with_a_tag_until_the_tag_is_named(tmp_path: Path, place: Place) -> None:
    lab = started(tmp_path, place)
    furnished(lab)
    lab.revision(ANEW)
    lab.upgrade()
    retention.archive(lab.catalog(), ROOT, retention=NONE)
    plan = retention.gc_plan(lab.catalog(), force=True)
    kept = next(one for one in plan.kept if one.name == ROOT)
    assert "t:train-2026" in kept.holds
    assert "other:train-2026" not in kept.holds
    text = gc_plan_text(plan, force=True)
    assert f"lancemig gc --force --forget-tags {kept.holds[0]} --forget-tags {kept.holds[1]}" in text
    retention.gc(lab.catalog(), force=True, forget=["t:train-2026"])
    assert at(lab, "train-2026", root=ROOT) == [0, 1, 2, 3]
    last = retention.gc_plan(lab.catalog(), force=True, forget=kept.holds)
    item = next(one for one in last.items if one.kind == "root")
    assert item.forgets == kept.holds
    assert "; with t:" in item.why
    listed = next(one for one in gc_plan_json(last)["items"] if one["kind"] == "root")
    assert listed["forgets"] == list(kept.holds)
    retention.gc(lab.catalog(), force=True, forget=kept.holds)
    assert lab.catalog().store.tables.names(ROOT) == []


def test_a_name_that_no_root_holds_is_reported_and_a_malformed_one_refused(
    tmp_path: Path, local_place: Place
) -> None:
    lab = started(tmp_path, local_place)
    plan = retention.gc_plan(lab.catalog(), forget=["t:nothing"])
    assert "note  --forget-tags t:nothing: no root that can be deleted has it alone" in gc_plan_text(
        plan, force=False
    )
    with pytest.raises(ConfigError, match="does not name a table and its tag"):
        retention.gc_plan(lab.catalog(), forget=["nothing"])


def test_a_branch_that_got_a_commit_after_the_flip_keeps_the_old_root(
    tmp_path: Path, local_place: Place
) -> None:
    lab = started(tmp_path, local_place)
    on_branch(lab, "experiment", 1, 50)
    lab.revision(RENAME)
    lab.upgrade()
    retention.archive(lab.catalog(), ROOT, retention=NONE)
    late = lab.dataset("t", ROOT).checkout_version(("experiment", None))
    late.insert(pa.table({"id": [70], "x": [0.0]}, schema=late.schema))
    plan = retention.gc_plan(lab.catalog(), force=True)
    assert next(one for one in plan.kept if one.name == ROOT).holds == ("t:experiment",)


def beside_catch_up(monkeypatch: pytest.MonkeyPatch, do: Callable[[], None]) -> None:
    """Call `do` once, after staging, before the first round of catching up."""
    real = catching_up._refuse_new_tables
    waiting = [do]

    def first(context: Any) -> None:
        while waiting:
            waiting.pop()()
        real(context)

    monkeypatch.setattr(catching_up, "_refuse_new_tables", first)


def test_tags_made_moved_and_deleted_during_staging_are_as_in_the_live_root(
    tmp_path: Path, local_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = started(tmp_path, local_place)
    lab.append("t", [{"id": 10, "x": 0.0}])
    newest = lab.dataset("t").version
    lab.dataset("t").tags.create("moved", newest - 1)
    lab.dataset("t").tags.create("deleted", newest - 1)
    on_branch(lab, "experiment", newest, 50)
    on_branch(lab, "again", newest, 1000)

    def meanwhile() -> None:
        dataset = lab.dataset("t")
        dataset.tags.update("moved", newest)
        dataset.tags.delete("deleted")
        dataset.tags.create("new", newest - 1)
        dataset.branches.delete("again")
        on_branch(lab, "again", newest - 1, 2000, 2001)
        branch = dataset.checkout_version(("experiment", None))
        branch.insert(pa.table({"id": [51], "x": [0.0]}, schema=branch.schema))
        lab.append("t", [{"id": 11, "x": 0.0}])
        lab.dataset("t").optimize.compact_files()
        lab.dataset("t").tags.create("late", lab.dataset("t").version)

    beside_catch_up(monkeypatch, meanwhile)
    lab.revision(RENAME)
    outcome = lab.upgrade()
    assert any(
        "tag late stays in v1: it is on version" in text.replace("v1/", "v1") for text in outcome.messages
    )
    assert set(lab.dataset("t").tags.list()) == {"moved", "new"}
    retention.archive(lab.catalog(), ROOT, retention=NONE)
    assert next(
        one for one in retention.gc_plan(lab.catalog(), force=True).kept if one.name == ROOT
    ).holds == ("t:late",)
    gone(lab)
    assert at(lab, "moved") == [0, 1, 2, 3, 10]
    assert at(lab, "new") == [0, 1, 2, 3]
    assert at(lab, ("experiment",)) == [0, 1, 2, 3, 10, 50, 51]
    assert at(lab, ("again",)) == [0, 1, 2, 3, 2000, 2001]
    assert [row["id"] for row in lab.rows("t")] == [0, 1, 2, 3, 10, 11]


def test_a_version_that_only_a_tag_makes_borrow_keeps_the_lender(tmp_path: Path, local_place: Place) -> None:
    lab = started(tmp_path, local_place, "clone")
    lab.revision(RENAME)
    lab.upgrade()
    lab.dataset("t").tags.create("of-the-clone", lab.dataset("t").version)
    done = retention.detach(lab.catalog())
    assert f"note  {lab.root}t:of-the-clone still reads" in detached_text(done)
    retention.archive(lab.catalog(), ROOT, retention=NONE)
    plan = retention.gc_plan(lab.catalog(), force=True)
    lender = next(one.why for one in plan.kept if one.name == ROOT)
    assert lender.startswith("lends files to version ")
    assert lender.endswith(" in the live root, which the lineage names; the next rebuild ends that")
    # Whatever the guards are: the tagged version alone would keep the old root.
    lent = lent_to(lab.catalog().store, lab.root)
    assert list(lent.values()) == [f"{lab.root}t:of-the-clone"]
    assert all(f"/{ROOT}" in place for place in lent)
    retention.gc(lab.catalog(), force=True)
    assert at(lab, "of-the-clone") == [0, 1, 2, 3]


def test_programs_with_plain_lancedb_see_the_tag_in_the_new_root(tmp_path: Path, local_place: Place) -> None:
    lab = started(tmp_path, local_place)
    lab.dataset("t").tags.create("train-2026", 1)
    lab.append("t", [{"id": 10, "x": 0.0}])
    lab.revision(RENAME)
    lab.upgrade()
    table = lancedb.connect(Path(lab.dataset("t").uri).parent).open_table("t")
    table.checkout("train-2026")
    assert table.count_rows() == 4


def test_a_branch_that_borrows_by_a_relative_address_stays_and_is_named(
    tmp_path: Path, local_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = started(tmp_path, local_place)
    monkeypatch.chdir(local_place.store)
    key = lab.catalog().store.tables.folder(ROOT, "t").rstrip("/")
    lance.dataset(key).create_branch("relative", 1)
    lab.revision(RENAME)
    outcome = lab.upgrade()
    assert any("branch relative stays in" in text for text in outcome.messages)
    retention.archive(lab.catalog(), ROOT, retention=NONE)
    retention.gc(lab.catalog(), force=True)
    assert at(lab, ("relative",), root=ROOT) == [0, 1, 2, 3]


def test_a_copy_names_branches_that_go_on_reading_their_source_and_restores_them_whole(
    tmp_path: Path, local_place: Place
) -> None:
    lab = started(tmp_path / "lab", local_place)
    furnished(lab)
    lab.revision(RENAME)
    lab.upgrade()
    made = retention.copy(lab.catalog(), ROOT, str(tmp_path / "copy"))
    assert made.copy.branches == ("t:empty", "t:experiment", "t:team/sub")
    assert "only while" in copy_text(made)
    assert copy_json(made)["branches"] == list(made.copy.branches)
    retention.archive(lab.catalog(), ROOT, retention=NONE, to=str(tmp_path / "archive"))
    retention.gc(lab.catalog(), force=True)
    if lab.catalog().store.tables.names(ROOT):
        gone(lab)
    flip.rollback(lab.catalog())
    assert lab.root == ROOT
    assert_furnished(lab)


def test_a_tag_made_while_the_pointer_is_written_is_added_and_one_of_the_new_root_is_left_alone(
    tmp_path: Path, local_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = started(tmp_path, local_place)
    lab.append("t", [{"id": 10, "x": 0.0}])
    real = running.flip

    def meanwhile(*given: Any) -> None:
        lab.dataset("t").tags.create("just-now", 1)
        lab.dataset("t").tags.create("both", 1)
        real(*given)
        live = lab.dataset("t")
        live.tags.create("both", live.version)

    monkeypatch.setattr(running, "flip", meanwhile)
    lab.revision(RENAME)
    outcome = lab.upgrade()
    assert any(
        "tag both stays in" in text and "has another of that name" in text for text in outcome.messages
    )
    assert at(lab, "just-now") == [0, 1, 2, 3]
    assert at(lab, "both") == [0, 1, 2, 3, 10]
    assert at(lab, "both", root=ROOT) == [0, 1, 2, 3]


def test_a_table_with_a_tag_is_copied_where_others_are_cloned(tmp_path: Path, local_place: Place) -> None:
    lab = started(tmp_path, local_place, "clone")
    lab.dataset("t").tags.create("audit", 1)
    lab.revision(RENAME)
    plan = upgrade.prepare(lab.catalog(), "head", "up").plan
    assert {carried.table: carried.by for carried in plan.carried} == {"t": "copy", "other": "clone"}
    text = plan_text(plan, store="store", staging="next/")
    assert "t: copied instead of cloned: it has tags or branches" in text
