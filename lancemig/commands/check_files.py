"""The part of `check` that needs no store."""

from collections.abc import Sequence

from lancemig.catalog.findings import Code, Finding, Level, matches
from lancemig.catalog.value import FrozenModel
from lancemig.commands.files import read_line, shown
from lancemig.commands.models import model_differences
from lancemig.config import Settings
from lancemig.errors import LancemigError, ScriptError
from lancemig.revisions.loader import load_migration, models_file
from lancemig.revisions.sumfile import sum_findings

MODELS = "models against files"
FILES = "files against lineage"
LIVE = "lineage against live catalog"
HEAD = "head against pointer"

_CODES = {MODELS: "LM1", FILES: "LM2", LIVE: "LM3", HEAD: "LM4"}


class Comparison(FrozenModel):
    """One of the four things that `check` compares, and what it found; `skipped` says why it was not made."""

    name: str
    findings: tuple[Finding, ...] = ()
    skipped: str = ""

    @property
    def code(self) -> str:
        """How the codes of its findings begin."""
        return _CODES[self.name]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong, as far as it was looked at."""
        return not any(finding.level is Level.ERROR for finding in self.findings)

    def without(self, patterns: Sequence[str]) -> "Comparison":
        """This comparison without the findings whose code begins with, or matches, one of the patterns.

        Files that do not load stay: nothing was compared with them.
        """
        kept = [one for one in self.findings if one.code == Code.UNLOADED or not matches(one.code, patterns)]
        return self.model_copy(update={"findings": tuple(kept)})


def of(comparisons: Sequence[Comparison]) -> list[Finding]:
    """All findings."""
    return [finding for comparison in comparisons for finding in comparison.findings]


def check_files(settings: Settings) -> list[Comparison]:
    """The part of the check that needs no store: files that load and form one line, models against them."""
    found = loadable(settings)
    stops = not_loaded(found)
    files = Comparison(name=FILES, findings=tuple(found))
    models = Comparison(name=MODELS, skipped=_NO_FILES) if stops else check_models(settings)
    offline = [Comparison(name=name, skipped="not checked: --offline") for name in (LIVE, HEAD)]
    return [models, files, *offline]


def not_loaded(found: Sequence[Finding]) -> bool:
    """Whether the files do not load, so that nothing can be compared with them."""
    return any(finding.code == Code.UNLOADED for finding in found)


def unloaded(found: Sequence[Finding]) -> list[Comparison]:
    """What is left to say where the files do not load."""
    others = {name: Comparison(name=name, skipped=_NO_FILES) for name in _CODES}
    return list({**others, FILES: Comparison(name=FILES, findings=tuple(found))}.values())


_NO_FILES = "the files cannot be loaded"


def loadable(settings: Settings) -> list[Finding]:
    """Whether the files load, form one line with one head, and are those of the sum file, if there is one."""
    directory = shown(settings.script_location)
    try:
        line = read_line(settings)
        for header in line.headers:
            load_migration(header)
    except LancemigError as error:
        return [unfit(error), *sum_findings(directory, None)]
    return sum_findings(directory, line)


def unfit(error: LancemigError) -> Finding:
    """That files do not load, or form no line; at the place that the error names."""
    path, line = (error.path, error.line) if isinstance(error, ScriptError) else (None, None)
    found = Finding(
        code=Code.UNLOADED, message=error.message, next_step=error.next_step or "", path=path, line=line
    )
    return found.model_copy(update={"message": error.message.removeprefix(f"{found.place}: ")})


def check_models(settings: Settings) -> Comparison:
    """The models against what the files lead to."""
    if settings.models is None:
        return Comparison(name=MODELS, skipped="no models in lancemig.ini")
    said = model_differences(settings, read_line(settings)).sentences
    step = "lancemig revision --autogenerate -m MESSAGE"
    file = models_file(settings.models)
    path = shown(file) if file is not None else None
    found = [Finding(code=Code.MODELS_AHEAD, message=text, next_step=step, path=path) for text in said]
    return Comparison(name=MODELS, findings=tuple(found))
