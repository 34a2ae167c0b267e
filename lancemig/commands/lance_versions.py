"""Which releases of lancedb and pylance are tested together, and whether those installed are such a pair.

pylance and lancedb each contain a Lance core. What a newer core writes, an older one may misread
(docs/decisions/0001-one-lance-core.md), so lancemig writes only with a pair of the table. This module imports
neither of them: beside another release the import itself may fail.
"""

import re
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version

from lancemig.errors import ConfigError

SUPPORTED = {"0.40": "13.0"}
"""The release of pylance for each release of lancedb; pyproject.toml requires the same."""


def installed() -> dict[str, str | None]:
    """The installed versions of lancedb and pylance; None for one that is not installed."""
    return {name: _version(name) for name in ("lancedb", "pylance")}


def versions_text() -> str:
    """The installed pair as text: `lancedb 0.40.0, pylance 13.0.0`."""
    return ", ".join(f"{name} {version or 'is not installed'}" for name, version in installed().items())


def unsupported() -> ConfigError | None:
    """The error for the installed pair if it is not in the table, with the pip command; else None."""
    found = installed()
    lancedb, pylance = (_release(found[name]) for name in ("lancedb", "pylance"))
    if lancedb is not None and SUPPORTED.get(lancedb) == pylance:
        return None
    # Programs beside lancemig use lancedb: if its release is known, pylance changes.
    wanted = lancedb if lancedb in SUPPORTED else max(SUPPORTED, key=_numbers)
    return ConfigError(
        f"{versions_text()}: lancemig is not tested with this pair, and tables may be written that lancedb "
        "misreads",
        next_step=f"pip install 'lancedb=={wanted}.*' 'pylance=={SUPPORTED[wanted]}.*'",
    )


def require_supported() -> None:
    """Refuse to write with a pair of releases that is not in the table.

    Raises:
        ConfigError: the pair is unknown, or a part of it is not installed.
    """
    error = unsupported()
    if error is not None:
        raise error


def _version(name: str) -> str | None:
    try:
        return installed_version(name)
    except PackageNotFoundError:
        return None


def _release(version: str | None) -> str | None:
    """The first two numbers of a version; a version before a release counts as none."""
    public = (version or "").partition("+")[0]
    return ".".join(public.split(".")[:2]) if re.fullmatch(r"\d+(\.\d+)+(\.?post\d+)?", public) else None


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(map(int, release.split(".")))
