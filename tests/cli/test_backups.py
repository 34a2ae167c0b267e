"""A protected catalog is flipped by somebody who types its name, and has a backup."""

import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from lab import ROOT, Lab
from servers import NewPlace, Place

from lancemig.cli import main
from lancemig.commands import retention
from lancemig.commands.retention import missing_backup

NAME = ("--confirm", "lancemig")
BACKUP = "--i-have-a-backup"


@pytest.fixture
def lab(tmp_path: Path, local_place: Place) -> Lab:
    lab = Lab(tmp_path, local_place)
    lab.revision(
        'CreateTable(table="t", key=("id",), schema={"id": "int64", "x": "int64"}, rows=[{"id": 1}])'
    )
    lab.upgrade()
    ini = tmp_path / "lancemig.ini"
    ini.write_text(ini.read_text() + "protected = true\n")
    return lab


def run(lab: Lab, *words: str) -> Result:
    return CliRunner().invoke(main, ["-c", str(lab.folder / "lancemig.ini"), *words])


def refused(lab: Lab, *words: str) -> str:
    root = lab.root
    done = run(lab, *words)
    assert done.exit_code == 2, done.output
    assert lab.root == root
    return done.stderr


def copied(lab: Lab, root: str | None = None) -> None:
    """A backup, every object compared."""
    retention.copy(
        lab.catalog(), root or lab.root, str(lab.folder / f"backup-{len(list(lab.folder.iterdir()))}")
    )


def test_a_flip_wants_both(lab: Lab) -> None:
    lab.revision('RenameColumn(table="t", column="x", to="y")')
    assert "add --confirm lancemig" in refused(lab, "upgrade", BACKUP)
    said = refused(lab, "upgrade", *NAME)
    assert "the lineage has no record of a copy of v1/ in the last 7d" in said
    assert "confirm that you have a backup: --i-have-a-backup" in said
    assert run(lab, "upgrade", *NAME, BACKUP).exit_code == 0
    assert lab.root != ROOT


def test_a_change_in_place_and_a_staged_root_that_waits_want_the_name_only(lab: Lab) -> None:
    lab.revision('UpdateRows(table="t", set={"x": "1"})')
    assert run(lab, "upgrade", *NAME).exit_code == 0
    lab.revision('RenameColumn(table="t", column="x", to="y")')
    assert run(lab, "upgrade", "--no-flip", *NAME).exit_code == 0
    assert "--i-have-a-backup" in refused(lab, "flip", *NAME)
    assert run(lab, "flip", *NAME, BACKUP).exit_code == 0
    assert "--i-have-a-backup" in refused(lab, "downgrade", "-1", *NAME)
    assert run(lab, "rollback", *NAME).exit_code == 0


def test_a_copy_of_the_live_root_that_is_young_enough_is_a_backup(lab: Lab) -> None:
    assert missing_backup(lab.catalog())
    copied(lab)
    lab.revision('RenameColumn(table="t", column="x", to="y")')
    assert run(lab, "upgrade", *NAME).exit_code == 0
    lab.revision('RenameColumn(table="t", column="y", to="z")')
    assert "no record of a copy of lancemig-staging-" in refused(lab, "upgrade", *NAME)


def test_a_copy_that_is_too_old_is_none(lab: Lab) -> None:
    copied(lab)
    lab.late = timedelta(days=6)
    assert missing_backup(lab.catalog()) is None
    lab.late = timedelta(days=8)
    assert missing_backup(lab.catalog())


def test_how_old_it_may_be_is_for_the_file_to_say(lab: Lab) -> None:
    ini = lab.folder / "lancemig.ini"
    ini.write_text(ini.read_text() + "backup_max_age = 12h\n")
    copied(lab)
    lab.revision('RenameColumn(table="t", column="x", to="y")')
    done = run(lab, "-x", "backup_max_age=900d", "upgrade", *NAME)
    assert done.exit_code == 2
    assert "this key can be set only in the file" in done.stderr
    assert run(lab, "upgrade", *NAME).exit_code == 0


class TestACopyThatIsNoBackup:
    @pytest.fixture
    def backup(self, lab: Lab) -> Path:
        """A copy outside of the store, and a revision that flips."""
        copied(lab)
        lab.revision('RenameColumn(table="t", column="x", to="y")')
        assert missing_backup(lab.catalog()) is None
        [backup] = lab.folder.glob("backup-*")
        return backup

    def test_its_folder_is_gone(self, lab: Lab, backup: Path) -> None:
        shutil.rmtree(backup)
        assert f"the copy at {backup} is no backup: " in refused(lab, "upgrade", *NAME)
        assert run(lab, "upgrade", *NAME, BACKUP).exit_code == 0

    def test_its_record_is_gone(self, lab: Lab, backup: Path) -> None:
        (backup / "_lancemig-copy.json").unlink()
        assert "has no _lancemig-copy.json any more" in refused(lab, "upgrade", *NAME)

    def test_one_of_its_files_is_gone(self, lab: Lab, backup: Path) -> None:
        next(backup.rglob("data/*.lance")).unlink()
        assert "1 of its " in refused(lab, "upgrade", *NAME)

    def test_one_of_its_files_is_cut(self, lab: Lab, backup: Path) -> None:
        file = next(backup.rglob("data/*.lance"))
        file.write_bytes(file.read_bytes()[:-1])
        assert str(file.relative_to(backup)) in refused(lab, "upgrade", *NAME)

    def test_another_copy_took_its_folder(self, lab: Lab, backup: Path) -> None:
        shutil.rmtree(backup)
        lab.upgrade("0001")
        (lab.folder / "versions" / "0002.py").unlink()
        lab.written.pop()
        lab.revision('UpsertRows(table="t", rows=[{"id": 2}], on=("id",))')
        lab.upgrade()
        copied_to = lab.folder / "other"
        retention.copy(lab.catalog(), lab.root, str(copied_to))
        copied_to.rename(backup)
        lab.revision('RenameColumn(table="t", column="x", to="y")')
        message = refused(lab, "upgrade", *NAME)
        assert "has the record of another copy" in message
        assert f"the copy at {copied_to} is no backup" in message

    def test_an_older_one_counts_if_the_newest_is_gone(self, lab: Lab, backup: Path) -> None:
        copied(lab)
        [newest] = set(lab.folder.glob("backup-*")) - {backup}
        shutil.rmtree(newest)
        assert run(lab, "upgrade", *NAME).exit_code == 0

    @pytest.mark.parametrize("by_link", [False, True])
    def test_it_is_in_the_store_itself(self, lab: Lab, tmp_path: Path, by_link: bool) -> None:
        target = "throwaway/"
        if by_link:
            (tmp_path / "link").symlink_to(lab.place.store)
            target = str(tmp_path / "link" / "throwaway")
        retention.copy(lab.catalog(), ROOT, target)
        lab.revision('RenameColumn(table="t", column="x", to="y")')
        assert f"it is in the same store, {lab.place.store}" in refused(lab, "upgrade", *NAME)


@pytest.mark.s3
def test_a_bucket_is_another_store_only_by_its_address(tmp_path: Path, new_place: NewPlace) -> None:
    place = new_place("moto")
    lab = Lab(tmp_path, place)
    lab.revision('CreateTable(table="t", key=("id",), schema={"id": "int64"}, rows=[{"id": 1}])')
    lab.upgrade()
    retention.copy(lab.catalog(), ROOT, f"{place.store}/backups/1")
    assert "is in the same store" in (missing_backup(lab.catalog()) or "")
    other = new_place("moto")
    retention.copy(lab.catalog(), ROOT, f"{other.store}/backups/1")
    assert missing_backup(lab.catalog()) is None
