"""archive, copy and gc as a user types them: words, exit status, JSON, and what they refuse."""

from datetime import timedelta
from pathlib import Path

import pytest
from console import CREATE, DOUBLE, RENAME, Console
from lab import ROOT, Lab
from servers import NewPlace

import lancemig
from lancemig.commands import retention
from lancemig.errors import Refused
from lancemig.store.lance import Tables
from lancemig.store.objects import open_objects


@pytest.fixture
def flipped(lab: Lab, console: Console) -> Lab:
    """A catalog that was rebuilt once: `v1/` is its old root."""
    lab.revision(CREATE)
    lab.revision(RENAME)
    console.says("upgrade")
    return lab


def test_the_old_root_is_archived_and_goes_when_its_retention_is_over(flipped: Lab, console: Console) -> None:
    assert "target of rollback" in console.says("gc", "--plan")
    said = console.says("archive", "--retention", "2d")
    assert said.startswith("archived v1/  until ")
    found = console.json("gc", "--plan")
    assert found["items"] == []
    assert [kept["why"][:14] for kept in found["kept"] if kept["name"] == ROOT] == ["archived until"]
    assert console.says("archive", "--retention", "2d").endswith(" (unchanged)\n")
    again = console.json("archive", "--retention", "0s")
    assert again["new"] is True
    found = console.json("gc", "--plan")
    assert [(item["kind"], item["name"]) for item in found["items"]] == [("root", ROOT)]
    assert found["deleted"] is False
    assert flipped.rows("recordings", ROOT), "a plan deletes nothing"
    assert "deleted: " in console.says("gc")
    assert list(flipped.catalog().store.objects.list(ROOT)) == []
    assert len(flipped.rows("recordings")) == 2
    assert "nothing to delete" in console.says("gc")
    verbose = console.says("history", "--lineage", "-v")
    assert "deleted root v1/" in verbose
    assert console.says("history", "--lineage", "--verify")


def test_what_is_no_old_root_is_not_archived(flipped: Lab, console: Console) -> None:
    live = flipped.root
    assert "is live" in console.refuses("archive", live, status=2)
    assert "was never live; roots that were live: " in console.refuses("archive", "elsewhere/", status=2)
    assert "is not a duration" in console("archive", "--retention", "soon").output
    assert console("archive", "--to-section", "lancemig").exit_code == 2


def test_before_the_first_flip_there_is_no_old_root(live: Lab, console: Console) -> None:
    assert "no old root" in console.refuses("archive", status=2)


def test_a_root_that_is_gone_is_not_archived_again(flipped: Lab, console: Console) -> None:
    console.says("archive", "--retention", "0s")
    console.says("gc")
    assert "gc deleted it on" in console.refuses("archive", ROOT, status=2)


def test_an_archive_is_copied_and_compared_first(flipped: Lab, console: Console, tmp_path: Path) -> None:
    to = str(tmp_path / "backup")
    first = console.json("archive", "--to", to)
    assert first["copied"]["objects"] == first["sent"] > 3
    assert (tmp_path / "backup" / "_lancemig-copy.json").exists()
    again = console.json("archive", "--to", to)
    assert (again["new"], again["sent"]) == (False, 0)
    assert f"copied   {to} (earlier)" in console.says("archive")


def test_a_corrupted_byte_is_found_and_named(live: Lab, console: Console, tmp_path: Path) -> None:
    to = tmp_path / "backup"
    assert "recorded as a backup of the live root" in console.says("copy", "v1/", str(to))
    file = next(to.rglob("*.lance/data/*.lance"))
    body = file.read_bytes()
    file.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
    said = console.refuses("copy", "v1/", str(to), status=4)
    assert str(file.relative_to(to)) in said
    file.unlink()
    assert console.json("copy", "v1/", str(to))["sent"] == 1


def test_a_copy_goes_into_the_same_store_too(live: Lab, console: Console) -> None:
    made = console.json("copy", "v1/", "backup/v1")
    assert made["recorded"] is True
    assert len(live.rows("recordings", "backup/v1/")) == 2
    assert console.json("copy", "backup/v1", "backup/v2")["recorded"] is False


def test_nothing_is_copied_over_a_root_or_into_what_is_not_empty(
    flipped: Lab, console: Console, tmp_path: Path
) -> None:
    assert "is a root of this catalog" in console.refuses("copy", flipped.root, "v1/", status=2)
    assert "is a root of this catalog" in console.refuses("archive", "--to", "v1", status=2)
    assert "has no tables" in console.refuses("copy", "nowhere/", str(tmp_path / "b"), status=2)
    console.says("copy", "v1/", "other")
    assert "already has a copy of" in console.refuses("copy", flipped.root, "other", status=3)
    (Path(flipped.place.store) / "other" / "_lancemig-copy.json").unlink()
    assert "is not empty" in console.refuses("copy", "v1/", "other", status=3)


def test_a_backup_of_the_live_root_follows_it(live: Lab, console: Console, tmp_path: Path) -> None:
    to = str(tmp_path / "backup")
    console.says("copy", "v1/", to)
    live.revision(DOUBLE)
    console.says("upgrade")
    sent = console.json("copy", "v1/", to)
    assert 0 < sent["sent"] < sent["copied"]["objects"]
    copied = Tables(open_objects(to, {}), "catalog/")
    assert copied.open("", "recordings").read().column("gain").to_pylist() == [2.0, 4.0]


def test_a_copy_beside_a_rebuild_that_waits_is_a_backup(live: Lab, console: Console, tmp_path: Path) -> None:
    live.revision(RENAME)
    console.says("upgrade", "--no-flip")
    assert console.json("copy", "v1/", str(tmp_path / "backup"))["recorded"] is True
    assert "waits" not in console.says("flip")
    assert "staged by run" not in console.says("gc", "--plan")


def test_while_a_run_is_under_way_nothing_is_deleted(live: Lab, console: Console) -> None:
    live.revision(RENAME)
    console.says("upgrade", "--no-flip")
    assert "staged by run" in console.says("gc", "--plan")
    assert "has been in progress" in console.refuses("gc", "--force", status=3)


def test_an_attempt_that_was_given_up_goes_after_its_grace(live: Lab, console: Console) -> None:
    live.revision(RENAME)
    staged = console.json("upgrade", "--no-flip")["staged_prefix"]
    console.says("recover", "--undo")
    assert "kept until" in console.says("gc", "--plan")
    found = console.json("gc", "--plan", "--force")
    assert [(item["kind"], item["name"]) for item in found["items"] if item["kind"] == "staged"] == [
        ("staged", staged)
    ]
    console.says("gc", "--force")
    assert list(live.catalog().store.objects.list(staged)) == []
    assert len(live.rows("recordings")) == 2


def test_force_spares_what_the_pointer_names(flipped: Lab, console: Console) -> None:
    console.says("archive")
    assert [kept["name"] for kept in console.json("gc", "--force")["kept"]] == [flipped.root, ROOT]
    assert flipped.rows("recordings", ROOT)


def test_a_reader_keeps_its_root(flipped: Lab, console: Console) -> None:
    config = flipped.folder / "lancemig.ini"
    console.says("archive", "--retention", "0s")
    with lancemig.connect(config, at="0001", lease=timedelta(minutes=10), reader="training") as reader:
        assert reader.root == ROOT
        assert reader.table_names() == ["recordings"]
        assert "readers  1 lease" in console.says("status")
        said = console.says("gc", "--force")
        assert "training@" in said
        assert reader.open_table("recordings").count_rows() == 2
        reader.renew()
    assert console.json("status")["readers"] == 0
    assert "deleted: " in console.says("gc")
    with pytest.raises(lancemig.LancemigError, match="gc deleted"):
        lancemig.connect(config, at="0001", lease=60)


def test_a_lease_lasts_a_day_at_most_and_is_not_revived(flipped: Lab) -> None:
    config = flipped.folder / "lancemig.ini"
    with pytest.raises(lancemig.LancemigError, match="the maximum is 24 hours"):
        lancemig.connect(config, lease=timedelta(days=2))
    reader = lancemig.connect(config, lease=0.000001)
    with pytest.raises(lancemig.LancemigError, match="expired"):
        reader.renew(60)
    reader.close()


def test_a_protected_catalog_is_archived_and_collected_by_name_only(flipped: Lab, console: Console) -> None:
    config = flipped.folder / "lancemig.ini"
    config.write_text(config.read_text() + "protected = true\n")
    assert "protected" in console.refuses("archive", status=2)
    assert console("gc").exit_code == 2
    assert console.says("gc", "--plan")
    assert console.says("archive", "--confirm", "lancemig")


def test_a_copy_during_which_a_migration_was_at_work_is_no_backup(
    live: Lab, console: Console, tmp_path: Path
) -> None:
    live.revision(DOUBLE)
    told = []

    def upgraded(_: object) -> None:
        if not told:
            told.append(console.says("upgrade"))

    with pytest.raises(Refused, match=r"was changed during the copy \(upgrade\)"):
        retention.copy(live.catalog(), "v1/", str(tmp_path / "backup"), on_progress=upgraded)
    assert console.json("copy", "v1/", str(tmp_path / "backup"))["recorded"] is True


@pytest.mark.s3
@pytest.mark.parametrize("kind", ["moto", "seaweedfs"])
def test_a_copy_goes_to_a_bucket_and_back(
    kind: str, live: Lab, console: Console, new_place: NewPlace, tmp_path: Path
) -> None:
    bucket = new_place(kind)
    config = live.folder / "lancemig.ini"
    section = f"[bucket]\nstore = {bucket.store}\nstorage_options.endpoint = {bucket.options['endpoint']}\n"
    config.write_text(config.read_text() + section)
    there, back = f"{bucket.store}/backup", str(tmp_path / "back")
    console.says("copy", "v1/", there, "--to-section", "bucket")
    console.says("copy", there, back, "--from-section", "bucket")
    copied = Tables(open_objects(back, {}), "catalog/")
    assert copied.open("", "recordings").read().num_rows == 2
    assert console.json("copy", there, back, "--from-section", "bucket")["sent"] == 0
