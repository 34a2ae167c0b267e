"""Checkouts, terminals, and files that the user asks for: what other machines make of them."""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import lance
import pyarrow as pa
import pytest
from click.testing import CliRunner, Result
from console import Console
from lab import Lab

from lancemig.cli import main
from lancemig.store.objects.location import lance_address

UPDATE = 'UpdateRows(table="recordings", set={"id": "id"}, where="id = 1")'
BOM = b"\xef\xbb\xbf"


def lancemig(folder: Path, *arguments: str) -> Result:
    with chdir(folder):
        return CliRunner().invoke(main, arguments, prog_name="lancemig")


def with_crlf(content: bytes) -> bytes:
    return content.replace(b"\n", b"\r\n")


CHECKOUTS: dict[str, Callable[[bytes], bytes]] = {
    "crlf": with_crlf,
    "bom": lambda content: BOM + content,
    "crlf and bom": lambda content: BOM + with_crlf(content),
    "cr": lambda content: content.replace(b"\n", b"\r"),
    "one crlf": lambda content: content.replace(b"\n", b"\r\n", 1),
}


class TestAnotherCheckoutOfTheSameText:
    @pytest.mark.parametrize("checkout", CHECKOUTS)
    def test_is_not_edited(self, live: Lab, console: Console, checkout: str):
        console.says("rehash")
        for path in (live.folder / "versions").iterdir():
            if path.is_file():
                path.write_bytes(CHECKOUTS[checkout](path.read_bytes()))
        assert "edited" not in console.says("check")
        assert "LM21" not in console("lint").output
        before = (live.folder / "versions" / "lancemig.sum").read_text(encoding="utf-8-sig").split()
        console.says("rehash")
        assert (live.folder / "versions" / "lancemig.sum").read_text().split() == before

    def test_is_reverted_and_applied_again(self, live: Lab, console: Console):
        live.revision(UPDATE)
        console.says("upgrade")
        path = live.folder / "versions" / "0002.py"
        path.write_bytes(with_crlf(path.read_bytes()))
        console.says("downgrade", "0001")
        console.says("upgrade")

    def test_a_change_beside_the_line_ends_is_an_edit(self, live: Lab, console: Console):
        path = live.folder / "versions" / "0001.py"
        path.write_bytes(with_crlf(path.read_bytes()) + b"# edited\r\n")
        assert "was edited after it was applied" in console("check").output

    def test_what_was_recorded_from_crlf_by_an_earlier_release_is_recognised(
        self, lab: Lab, monkeypatch: pytest.MonkeyPatch
    ):
        from hashlib import sha256

        from lancemig.revisions.header import read_header

        lab.revision(UPDATE)
        path = lab.folder / "versions" / "0001.py"
        text = path.read_bytes()
        for recorded in (text, with_crlf(text), BOM + text, BOM + with_crlf(text)):
            assert read_header(path).has_digest(sha256(recorded).hexdigest())
        assert not read_header(path).has_digest(sha256(text + b"\n").hexdigest())


def test_init_lets_git_keep_the_line_ends(tmp_path: Path):
    assert lancemig(tmp_path, "init").exit_code == 0
    assert "*.py text eol=lf" in (tmp_path / "versions" / ".gitattributes").read_text()


def test_init_keeps_the_attributes_that_are_there(tmp_path: Path):
    (tmp_path / "versions").mkdir()
    (tmp_path / "versions" / ".gitattributes").write_text("*.py -text\n")
    assert lancemig(tmp_path, "init").exit_code == 0
    assert (tmp_path / "versions" / ".gitattributes").read_text() == "*.py -text\n"


@pytest.mark.parametrize("encoding", ["cp1252", "iso8859-7", "latin-1"])
def test_letters_that_stdout_lacks_are_escaped(tmp_path: Path, encoding: str):
    lance.write_dataset(pa.table({"id": [1], "Ω": ["日本"]}), str(tmp_path / "data" / "t.lance"))
    assert lancemig(tmp_path, "init", "--from-live", "--store", "data").exit_code == 0
    done = subprocess.run(
        [sys.executable, "-m", "lancemig", "query", "select * from t"],
        cwd=tmp_path, env={**os.environ, "PYTHONIOENCODING": encoding}, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"\\u65e5\\u672c" in done.stdout


class TestOtherModulesInVersions:
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("helpers.py", "import re\n\nclass Unit:\n    pass\n\nprint\n\ndef shout(x):\n    return x\n"),
            ("units.py", "SECONDS = {'m': 60}\n"),
            ("conftest.py", "import pytest\n\n@pytest.fixture\ndef revision():\n    return 1\n"),
            ("__init__.py", "raise SystemExit\n"),
        ],
    )
    def test_are_not_taken_for_revisions(self, live: Lab, console: Console, name: str, text: str):
        (live.folder / "versions" / name).write_text(text)
        console.says("check")
        assert name not in console.says("history")

    @pytest.mark.parametrize(
        "text", ['revison = "0002"\ndown_revision = "0001"\n', '"""X.\n\nRevises: 0001\n"""\nimport re\n', ""]
    )
    def test_a_damaged_revision_is_refused(self, live: Lab, console: Console, text: str):
        (live.folder / "versions" / "0002_x.py").write_text(text)
        console.refuses("history", status=2)


class TestPathsAreUsedAsTheyAre:
    @pytest.mark.parametrize(
        "prefix", ["50%off/v1/", "a$b/", "p%20z/", "h#z/", "~t/", "s p/", "ü/", "%(here)s/"]
    )
    def test_a_prefix(self, tmp_path: Path, prefix: str):
        lance.write_dataset(pa.table({"id": [1]}), str(tmp_path / "data" / prefix / "t.lance"))
        done = lancemig(tmp_path, "init", "--from-live", "--store", "data", "--prefix", prefix)
        assert done.exit_code == 0, done.output
        assert lancemig(tmp_path, "check").exit_code == 0
        # Nothing beside the root, not even an empty folder.
        assert {path.name for path in (tmp_path / "data").iterdir()} - {prefix.split("/")[0]} <= {
            "_lancemig", "ACTIVE.json", ".lancemig",
        }  # fmt: skip

    @pytest.mark.parametrize("store", ["q?z", "file://{folder}/q%3Fz", "q?z/"])
    def test_a_store_that_lance_cannot_keep_to_is_refused(self, tmp_path: Path, store: str):
        lance.write_dataset(pa.table({"id": [1]}), str(tmp_path / "q?z" / "t.lance"))
        done = lancemig(tmp_path, "init", "--from-live", "--store", store.format(folder=tmp_path))
        assert done.exit_code == 2, done.output
        assert "q?z" in done.stderr
        assert [path.name for path in tmp_path.iterdir()] == ["q?z"]

    @pytest.mark.parametrize("key", ["a?b/", "a#b/", "a%20b/"])
    def test_a_key_that_lance_reads_otherwise_is_refused(self, key: str):
        from lancemig.errors import ConfigError

        with pytest.raises(ConfigError, match="outside the store"):
            lance_address("s3://bucket", key)

    @pytest.mark.parametrize("key", ["a%b/", "a b/", "ü/", "~a/", "a+b/", "50%off/"])
    def test_other_keys_are_not(self, key: str):
        assert lance_address("s3://bucket", key) == f"s3://bucket/{key}".rstrip("/")


class TestFilesThatCannotBeWritten:
    @pytest.mark.parametrize("target", ["missing/out.json", "file/out.json", "folder"])
    @pytest.mark.parametrize(
        "verb", [("upgrade", "--plan", "--out"), ("verify", "--against", "0001", "--report")]
    )
    def test_are_named_with_exit_2(self, live: Lab, console: Console, target: str, verb: tuple[str, ...]):
        (live.folder / "file").write_text("")
        (live.folder / "folder").mkdir()
        live.revision(UPDATE)
        done = console(*verb, str(live.folder / target))
        assert done.exit_code == 2, done.output
        assert target in done.stderr
        assert "Traceback" not in done.output

    @pytest.mark.parametrize("folder", ["file", "file/below"])
    def test_init_names_the_folder(self, tmp_path: Path, folder: str):
        (tmp_path / "file").write_text("")
        done = lancemig(tmp_path, "init", folder)
        assert done.exit_code == 2, done.output
        assert "file" in done.stderr

    def test_init_names_the_file_in_the_way_of_versions(self, tmp_path: Path):
        (tmp_path / "versions").write_text("")
        done = lancemig(tmp_path, "init")
        assert done.exit_code == 2, done.output
        assert "versions" in done.stderr
        assert not (tmp_path / "lancemig.ini").exists()

    def test_a_full_disk_leaves_no_part(self, live: Lab, console: Console, monkeypatch: pytest.MonkeyPatch):
        live.revision(UPDATE)

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        done = console("upgrade", "--plan", "--out", str(live.folder / "plan.json"))
        assert done.exit_code == 2, done.output
        assert "No space left" in done.stderr
        assert not [path.name for path in live.folder.iterdir() if "plan.json" in path.name]


class TestTablesThatDifferInCase:
    @pytest.fixture
    def twins(self, tmp_path: Path) -> Path:
        for name, ids in (("Users", [1]), ("users", [2, 3])):
            lance.write_dataset(pa.table({"id": ids}), str(tmp_path / "data" / f"{name}.lance"))
        assert lancemig(tmp_path, "init", "--from-live", "--store", "data").exit_code == 0
        return tmp_path

    @pytest.mark.parametrize(
        ("sql", "rows"),
        [
            ('select count(*) as n from "Users"', "1"),
            ("select count(*) as n from users", "2"),
            ("select sum(users.id) as n from users", "5"),
            ("select sum(u.id + v.id) as n from Users u, users v", "7"),
            ("with users as (select 9 as id) select id from users", "9"),
            ("select (select max(id) from users) as n from Users", "3"),
        ],
    )
    def test_are_queried(self, twins: Path, sql: str, rows: str):
        done = lancemig(twins, "query", sql)
        assert done.exit_code == 0, done.output
        assert rows in done.stdout.split()

    def test_another_case_names_both(self, twins: Path):
        done = lancemig(twins, "query", "select * from USERS")
        assert done.exit_code == 2
        assert '"Users" or "users"' in done.stderr
