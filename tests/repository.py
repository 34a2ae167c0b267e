"""A git repository around a project, as people keep their revisions in."""

import subprocess
from pathlib import Path

_WHO = ("-c", "user.name=You", "-c", "user.email=you@example.org", "-c", "commit.gpgsign=false")


def git(folder: Path, *words: str, status: int = 0) -> str:
    """What git answers."""
    done = subprocess.run(["git", *_WHO, *words], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def started(folder: Path) -> None:
    """Make a repository, its branch `main`, and commit what is there."""
    git(folder, "init", "-q", "-b", "main")
    committed(folder, "first")


def committed(folder: Path, message: str) -> None:
    """Commit all there is."""
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", message)
