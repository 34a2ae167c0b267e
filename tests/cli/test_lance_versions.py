"""Only tested pairs of lancedb and pylance write: others are refused with the pip command."""

import tomllib
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from console import CREATE, RENAME, Console
from lab import Lab

from lancemig.commands import lance_versions
from lancemig.errors import ConfigError

Installed = Callable[[str | None, str | None], None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Installed:
    def install(lancedb: str | None, pylance: str | None) -> None:
        def version(name: str) -> str:
            found = {"lancedb": lancedb, "pylance": pylance}[name]
            if found is None:
                raise PackageNotFoundError(name)
            return found

        monkeypatch.setattr(lance_versions, "installed_version", version)

    return install


def test_the_table_is_what_the_package_requires() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    required = dict(d.split("==") for d in tomllib.loads(text)["project"]["dependencies"] if "==" in d)
    newest = max(lance_versions.SUPPORTED, key=lambda release: tuple(map(int, release.split("."))))
    assert required["lancedb"] == f"{newest}.*"
    assert required["pylance"] == f"{lance_versions.SUPPORTED[newest]}.*"


def test_the_installed_pair_is_supported() -> None:
    assert lance_versions.unsupported() is None


@pytest.mark.parametrize(
    ("lancedb", "pylance"),
    [
        ("0.40.0", "14.0.2"),
        ("0.40.0", "13.1.0"),
        ("0.39.0", "13.0.0"),
        ("0.41.0", "14.0.0"),
        ("0.40.0", None),
        (None, "13.0.0"),
        ("0.40.0", "13.0.0b3"),
        ("0.40.1.dev0", "13.0.0"),
    ],
)
def test_another_pair_is_refused_with_both_versions(
    install: Installed, lancedb: str | None, pylance: str | None
) -> None:
    install(lancedb, pylance)
    with pytest.raises(ConfigError) as refused:
        lance_versions.require_supported()
    assert f"lancedb {lancedb or 'is not installed'}" in refused.value.message
    assert f"pylance {pylance or 'is not installed'}" in refused.value.message
    assert refused.value.next_step == "pip install 'lancedb==0.40.*' 'pylance==13.0.*'"


@pytest.mark.parametrize(("lancedb", "pylance"), [("0.40.3", "13.0.9"), ("0.40.0+local", "13.0.0.post1")])
def test_a_patch_release_is_the_same_pair(install: Installed, lancedb: str, pylance: str) -> None:
    install(lancedb, pylance)
    assert lance_versions.unsupported() is None


def test_verbs_that_write_are_refused_before_a_write(lab: Lab, console: Console, install: Installed) -> None:
    lab.revision(CREATE)
    lab.upgrade()
    lab.revision(RENAME)
    before = sorted(p for p in lab.folder.rglob("*") if "__pycache__" not in p.parts)
    install("0.40.0", "14.0.2")
    for words in (["upgrade"], ["downgrade", "base"], ["stamp", "base"], ["gc"], ["flip"]):
        done = console(*words)
        assert done.exit_code == 2, (words, done.output)
        assert "\nlancemig: lancedb 0.40.0, pylance 14.0.2: " in done.stderr, words
    assert sorted(p for p in lab.folder.rglob("*") if "__pycache__" not in p.parts) == before


def test_verbs_that_read_warn(lab: Lab, console: Console, install: Installed) -> None:
    lab.revision(CREATE)
    lab.upgrade()
    install("0.40.0", "14.0.2")
    done = console("status")
    assert done.exit_code == 0
    assert "warning: lancedb 0.40.0, pylance 14.0.2" in done.stderr
    assert "pylance" not in done.stdout
    assert console("upgrade", "--plan").exit_code == 0


def test_doctor_names_the_pair_and_fails_if_it_is_not_tested(
    lab: Lab, console: Console, install: Installed
) -> None:
    lab.revision(CREATE)
    lab.upgrade()
    done = console("doctor")
    assert done.exit_code == 0, done.output
    assert "lancedb 0.40" in done.stdout
    install("0.40.0", "14.0.2")
    done = console("doctor")
    assert done.exit_code == 1
    assert "pylance 14.0.2" in done.stdout


def test_version_shows_all_three(console: Console) -> None:
    done = console("--version")
    assert done.exit_code == 0
    assert done.stdout.startswith("lancemig ")
    assert lance_versions.versions_text() in done.stdout
