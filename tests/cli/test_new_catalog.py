"""A store that is not there is never an empty catalog; an adopted catalog is created only on request."""

import shutil
from pathlib import Path

import lance
import pyarrow as pa
import pytest
from click.testing import CliRunner
from console import CREATE, Console
from lab import Lab

from lancemig.cli import main


def missing(lab: Lab) -> Path:
    """Let lancemig.ini name a store that does not exist."""
    store = lab.folder / "absent"
    ini = lab.folder / "lancemig.ini"
    ini.write_text(ini.read_text().replace(f"store = {lab.place.store}", f"store = {store}"))
    return store


def test_a_plan_says_that_it_creates_the_catalog(lab: Lab, console: Console) -> None:
    store = missing(lab)
    lab.revision(CREATE)
    text = console.says("upgrade", "--plan")
    assert f"creates  {store}/v1/: there is no catalog yet; it will be created" in text
    assert console.json("upgrade", "--plan")["creates"] == f"{store}/v1/"
    assert not store.exists()
    console.says("upgrade")
    assert (store / "v1").is_dir()
    assert console.json("upgrade", "--plan")["creates"] is None


@pytest.mark.parametrize("verb", ["status", "check", "current", "stamp head", "query select-1", "audit"])
def test_every_other_verb_names_a_store_that_is_missing(lab: Lab, console: Console, verb: str) -> None:
    lab.revision(CREATE)
    store = missing(lab)
    words = verb.split(maxsplit=1)
    message = console.refuses(*words, status=2)
    assert f"the store {store} does not exist" in message
    assert not store.exists()


@pytest.fixture
def adopted(tmp_path: Path) -> Path:
    lance.write_dataset(pa.table({"id": [1]}), str(tmp_path / "data" / "v1" / "t.lance"))
    project = tmp_path / "project"
    arguments = ["init", str(project), "--from-live", "--store", str(tmp_path / "data"), "--prefix", "v1/"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    return project


@pytest.mark.parametrize("gone", ["data", "data/*"])
def test_an_adopted_catalog_is_created_only_on_request(adopted: Path, gone: str) -> None:
    data = adopted.parent / "data"
    shutil.rmtree(data)
    if gone == "data/*":
        # A mount point whose disk is not mounted.
        data.mkdir()
    run = ["-c", str(adopted / "lancemig.ini"), "upgrade"]
    refused = CliRunner().invoke(main, run)
    assert refused.exit_code == 2, refused.output
    assert "adopts tables that exist" in refused.stderr
    assert "lancemig upgrade --create" in refused.stderr
    made = CliRunner().invoke(main, [*run, "--create"])
    assert made.exit_code == 0, made.output
    assert "it will be created" in made.stdout


def test_a_protected_catalog_is_created_only_on_request(lab: Lab, console: Console) -> None:
    ini = lab.folder / "lancemig.ini"
    ini.write_text(ini.read_text() + "protected = true\n")
    lab.revision(CREATE)
    assert "catalog lancemig is protected" in console.refuses("upgrade", "--confirm", "lancemig", status=2)
    console.says("upgrade", "--create", "--confirm", "lancemig")
