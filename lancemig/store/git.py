"""What git knows of a folder: which of its files are not as in another commit; writes nothing."""

import subprocess
from pathlib import Path

from lancemig.errors import ConfigError

SECONDS = 60
_NAMES = ("--name-only", "--no-renames", "--diff-filter=d", "--relative", "-z")


def changed_since(folder: Path, ref: str) -> frozenset[str]:
    """The names of files directly in `folder` that were added or changed since it left `ref`.

    Counted from where the two histories parted; from `ref` itself where a shallow clone does not show that.
    What is not committed counts too. Raises ConfigError outside a repository and for a `ref` unknown to git.
    """
    if _run(folder, "rev-parse", "--is-inside-work-tree") is None:
        raise ConfigError(
            f"{folder} is not in a git repository, so lancemig cannot tell which files are new since {ref}",
            next_step="run lancemig lint without --base",
        )
    commit = _run(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    if commit is None:
        raise ConfigError(
            f"git does not know the commit {ref!r}",
            next_step="run git fetch, then the same command; or choose another --base",
        )
    start = _run(folder, "merge-base", commit.strip(), "HEAD") or commit
    names = [
        _run(folder, "diff", *_NAMES, start.strip(), "--", "."),
        _run(folder, "ls-files", "--others", "--exclude-standard", "-z", "--", "."),
    ]
    if None in names:
        raise ConfigError(
            f"git cannot compare {folder} with {ref}", next_step=f"git diff --name-only {ref} -- {folder}"
        )
    return frozenset(name for listed in names if listed for name in listed.split("\0") if name)


def _run(folder: Path, *words: str) -> str | None:
    """What git answers; None where it refuses."""
    try:
        done = subprocess.run(  # noqa: S603 - fixed commands; what is given is no option
            ["git", "-C", str(folder), *words],  # noqa: S607 - whichever git is there
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(
            f"git cannot be run: {error}", next_step="run lancemig lint without --base"
        ) from error
    return done.stdout if done.returncode == 0 else None
