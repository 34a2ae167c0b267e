"""The part of `check` that needs no store."""

from lancemig.catalog.findings import Finding
from lancemig.commands.project import read_line, shown
from lancemig.config import Settings
from lancemig.errors import LancemigError
from lancemig.script.loader import load
from lancemig.script.sum import sum_findings


def check_files(settings: Settings) -> list[Finding]:
    """Whether the files form one line with one head, load, and are those of the sum file, if there is one."""
    directory = shown(settings.script_location)
    try:
        line = read_line(settings)
        for header in line.headers:
            load(header)
    except LancemigError as error:
        found = Finding(code="LM200", message=error.message, next_step=error.next_step or "")
        return [found, *sum_findings(directory, None)]
    return sum_findings(directory, line)
