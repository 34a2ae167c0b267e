"""Running a case as data."""

from collections.abc import Callable
from pathlib import Path

import pytest
from servers import Place

pytest.register_assert_rewrite("there_and_back")

from there_and_back import Case, Refusal, refused, there_and_back  # noqa: E402


@pytest.fixture
def run(tmp_path: Path, local_place: Place) -> Callable[[Case | Refusal], None]:
    """Send a case there and back in a local directory, or see it refused."""

    def running(case: Case | Refusal) -> None:
        run_in = there_and_back if isinstance(case, Case) else refused
        run_in(tmp_path, local_place, case)

    return running
