"""The comparisons of `check` that need no store."""

from collections.abc import Sequence

from lancemig.catalog.findings import Code, Finding, Level, matches
from lancemig.catalog.value import FrozenModel
from lancemig.commands.files import display_path, read_chain
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
    """One of the four comparisons of `check`, with its findings, or the reason why it was skipped."""

    name: str
    findings: tuple[Finding, ...] = ()
    skipped: str = ""

    @property
    def code(self) -> str:
        """The prefix of the codes of its findings."""
        return _CODES[self.name]

    @property
    def ok(self) -> bool:
        """Whether no finding is an error."""
        return not any(finding.level is Level.ERROR for finding in self.findings)

    def without(self, patterns: Sequence[str]) -> "Comparison":
        """Remove the findings whose code matches one of the patterns.

        LM200 stays: if the files do not load, nothing was compared with them.
        """
        findings = [
            finding
            for finding in self.findings
            if finding.code == Code.UNLOADED or not matches(finding.code, patterns)
        ]
        return self.model_copy(update={"findings": tuple(findings)})


def all_findings(comparisons: Sequence[Comparison]) -> list[Finding]:
    """The findings of all comparisons."""
    return [finding for comparison in comparisons for finding in comparison.findings]


def check_files(settings: Settings) -> list[Comparison]:
    """Check that the files load and form one chain, and compare the models with them."""
    findings = load_findings(settings)
    stops = failed_to_load(findings)
    files = Comparison(name=FILES, findings=tuple(findings))
    models = Comparison(name=MODELS, skipped=_NO_FILES) if stops else check_models(settings)
    offline = [Comparison(name=name, skipped="not checked: --offline") for name in (LIVE, HEAD)]
    return [models, files, *offline]


def failed_to_load(findings: Sequence[Finding]) -> bool:
    """Whether the files do not load, so that nothing can be compared with them."""
    return any(finding.code == Code.UNLOADED for finding in findings)


def without_files(findings: Sequence[Finding]) -> list[Comparison]:
    """The comparisons if the files do not load: all others are skipped."""
    others = {name: Comparison(name=name, skipped=_NO_FILES) for name in _CODES}
    return list({**others, FILES: Comparison(name=FILES, findings=tuple(findings))}.values())


_NO_FILES = "the files cannot be loaded"


def load_findings(settings: Settings) -> list[Finding]:
    """Check that the files load, form one chain with one head, and match the sum file if there is one."""
    directory = display_path(settings.script_location)
    try:
        chain = read_chain(settings)
        for header in chain.headers:
            load_migration(header)
    except LancemigError as error:
        return [load_error(error), *sum_findings(directory, None)]
    return sum_findings(directory, chain)


def load_error(error: LancemigError) -> Finding:
    """The finding for files that do not load or form no chain, at the place that the error names."""
    path, line = (error.path, error.line) if isinstance(error, ScriptError) else (None, None)
    finding = Finding(
        code=Code.UNLOADED, message=error.message, next_step=error.next_step or "", path=path, line=line
    )
    return finding.model_copy(update={"message": error.message.removeprefix(f"{finding.place}: ")})


def check_models(settings: Settings) -> Comparison:
    """Compare the models with the schema that the files lead to."""
    if settings.models is None:
        return Comparison(name=MODELS, skipped="no models in lancemig.ini")
    sentences = model_differences(settings, read_chain(settings)).sentences
    step = "lancemig revision --autogenerate -m MESSAGE"
    file = models_file(settings.models)
    path = display_path(file) if file is not None else None
    findings = [
        Finding(code=Code.MODELS_AHEAD, message=text, next_step=step, path=path) for text in sentences
    ]
    return Comparison(name=MODELS, findings=tuple(findings))
