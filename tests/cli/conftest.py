from pathlib import Path

import pytest
from console import CREATE, Console
from lab import Lab
from servers import Place


@pytest.fixture
def lab(tmp_path: Path, local_place: Place) -> Lab:
    """A project without revisions, its store empty."""
    return Lab(tmp_path, local_place)


@pytest.fixture
def console(lab: Lab) -> Console:
    return Console(lab)


@pytest.fixture
def live(lab: Lab, console: Console) -> Lab:
    """One revision, applied: the table `recordings` with two rows."""
    lab.revision(CREATE)
    console.says("upgrade")
    return lab
