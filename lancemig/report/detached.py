"""What a detaching did, as text and as JSON."""

from typing import Any

from lancemig.catalog.sources import counted
from lancemig.commands.detaching import Detached
from lancemig.report.words import JSON_FORMAT


def detached_text(done: Detached) -> str:
    """What was copied, table by table, and that the root stands on its own."""
    root = done.place.prefix or "./"
    if not done.files:
        return f"{root} borrows no files"
    lines = [f"{name}: {counted(files, 'file')} copied" for name, files in done.files.items()]
    roots = ", ".join(other or "./" for other in done.roots)
    return "\n".join([*lines, f"{root} no longer borrows files (previously from {roots})"])


def detached_json(done: Detached) -> dict[str, Any]:
    """The same for programs."""
    return {
        "format": JSON_FORMAT,
        "live": done.place.model_dump(mode="json"),
        "files": done.files,
        "read": list(done.roots),
    }
