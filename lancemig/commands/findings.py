"""What `check` finds, and the part of it that needs no store."""

from lancemig.catalog.value import Value
from lancemig.commands.project import read_line
from lancemig.config import Settings
from lancemig.errors import LancemigError
from lancemig.script.loader import load


class Finding(Value):
    """One thing that is not as it should be; `code` is contract."""

    code: str
    message: str
    next_step: str = ""


def check_files(settings: Settings) -> list[Finding]:
    """The part of the check that needs no store: one line, one head, and files that load."""
    try:
        for header in read_line(settings).headers:
            load(header)
    except LancemigError as error:
        return [Finding(code="LM200", message=error.message, next_step=error.next_step or "")]
    return []
