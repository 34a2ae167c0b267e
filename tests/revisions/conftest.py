"""Migration files on disk, written from the parts that a test cares about."""

from collections.abc import Callable
from pathlib import Path

import pytest

Write = Callable[..., Path]


@pytest.fixture
def versions(tmp_path: Path) -> Path:
    directory = tmp_path / "versions"
    directory.mkdir()
    return directory


@pytest.fixture
def write(versions: Path) -> Write:
    """Write versions/<name> with a header and `body`; `text` replaces all of it."""

    def written(
        body: str = "operations = []\n",
        *,
        name: str = "0001_first.py",
        revision: str = '"0001"',
        parent: str = "None",
        text: str | None = None,
    ) -> Path:
        header = f'"""The first."""\n\nrevision = {revision}\ndown_revision = {parent}\n'
        path = versions / name
        path.write_text(header + body if text is None else text, encoding="utf-8")
        return path

    return written
