"""`lint`: what a reviewer should know of the migration files, told without a store."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from lancemig.catalog.findings import Finding, Level, matches
from lancemig.catalog.schema import CatalogSchema
from lancemig.commands.project import shown
from lancemig.config import Settings
from lancemig.errors import LancemigError
from lancemig.plan.lint.rules import findings
from lancemig.plan.lint.subject import after, subject
from lancemig.script.header import Header, read_bytes, read_headers
from lancemig.script.line import Line, line_of
from lancemig.script.loader import Migration, load
from lancemig.script.sum import missing_sum, sum_findings
from lancemig.script.syntax import decoded, parsed
from lancemig.store.git import changed_since


def lint(settings: Settings, base: str | None = None, ignored: Sequence[str] = ()) -> list[Finding]:
    """What the files say that a reviewer should know, but for codes that `ignored` means.

    With `base`, only of files that this git commit has not, or has otherwise; whether all of them form a line
    and are those of the sum file is told in any case.
    """
    directory = shown(settings.script_location)
    changed = None if base is None else changed_since(directory, base)
    return [each for each in _findings(directory, changed) if not matches(each.code, ignored)]


def _findings(directory: Path, changed: Collection[str] | None) -> Iterator[Finding]:
    try:
        headers = read_headers(directory)
    except LancemigError as error:
        yield _unfit(error)
        return
    try:
        line: Line | None = line_of(headers)
    except LancemigError as error:
        yield _unfit(error)
        line = None
    yield from sum_findings(directory, line)
    if line is not None:
        for each in missing_sum(directory, line):
            yield each.model_copy(update={"level": Level.WARNING})
    yield from _of_files(headers if line is None else line.headers, changed, in_line=line is not None)


def _of_files(
    headers: Sequence[Header], changed: Collection[str] | None, *, in_line: bool
) -> Iterator[Finding]:
    """What the rules find in each file; the schema before it is followed only along a line."""
    catalog = CatalogSchema()
    for at, header in enumerate(headers):
        wanted = changed is None or header.path.name in changed
        try:
            migration = load(header)
        except LancemigError as error:
            catalog = CatalogSchema()
            if wanted:
                yield _unfit(error)
            continue
        if wanted:
            above = headers[at + 1 :] if in_line and changed is not None else ()
            others = tuple(h.revision for h in above if h.path.name not in (changed or ()))
            yield from _of_one(migration, catalog, others)
        catalog = after(migration.operations, catalog) if in_line else CatalogSchema()


def _of_one(migration: Migration, before: CatalogSchema, followed_by: tuple[str, ...]) -> list[Finding]:
    path = migration.header.path
    content = read_bytes(path)
    tree = parsed(path, content)
    return findings(subject(migration, decoded(path, content), tree, before, followed_by))


def _unfit(error: LancemigError) -> Finding:
    return Finding(code="LM200", message=error.message, next_step=error.next_step or "")
