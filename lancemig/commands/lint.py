"""`lint`: what a reviewer should know of the migration files, told without a store."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from lancemig.catalog.findings import Finding, matches
from lancemig.catalog.schema import CatalogSchema
from lancemig.commands.check_files import unfit
from lancemig.commands.files import shown
from lancemig.config import Settings
from lancemig.errors import LancemigError
from lancemig.lint.engine import findings
from lancemig.lint.subject import build_subject, schema_after
from lancemig.revisions.chain import RevisionChain, chain_of
from lancemig.revisions.header import (
    Header,
    decode_source,
    migration_files,
    parse_migration,
    read_bytes,
    read_header,
)
from lancemig.revisions.loader import Migration, ProjectModules, load_migration
from lancemig.revisions.sumfile import missing_sum, sum_findings
from lancemig.store.process import changed_since


def lint(settings: Settings, base: str | None = None, ignored: Sequence[str] = ()) -> list[Finding]:
    """What the files say that a reviewer should know, but for codes that `ignored` means.

    With `base`, only of files that this git commit has not, or has otherwise; whether all of them load, form
    a line and are those of the sum file is told in any case. What stands in a file of the project that
    revisions import is told once, for the first revision that uses it.
    """
    directory = shown(settings.script_location)
    changed = None if base is None else changed_since(directory, base)
    modules = ProjectModules([settings.path.parent, settings.script_location])
    told = (each for each in _findings(directory, changed, modules) if not matches(each.code, ignored))
    return list(_once(told, directory))


def _once(found: Iterable[Finding], directory: Path) -> Iterator[Finding]:
    seen: set[tuple[str, str]] = set()
    for each in found:
        is_elsewhere = each.path is not None and each.path.parent != directory
        if is_elsewhere and (each.code, each.place) in seen:
            continue
        seen.add((each.code, each.place))
        yield each


def _findings(directory: Path, changed: Collection[str] | None, modules: ProjectModules) -> Iterator[Finding]:
    headers: list[Header] = []
    line: RevisionChain | None = None
    try:
        files = migration_files(directory)
    except LancemigError as error:
        yield unfit(error)
        return
    for path in files:
        try:
            headers.append(read_header(path))
        except LancemigError as error:
            yield unfit(error)
    # A file that cannot be read may be the one that the others lack.
    if len(headers) == len(files):
        try:
            line = chain_of(headers)
        except LancemigError as error:
            yield unfit(error)
    yield from sum_findings(directory, line)
    if line is not None:
        yield from missing_sum(directory, line)
    yield from _of_files(
        headers if line is None else line.headers, changed, modules, in_line=line is not None
    )


def _of_files(
    headers: Sequence[Header], changed: Collection[str] | None, modules: ProjectModules, *, in_line: bool
) -> Iterator[Finding]:
    """What the rules find in each file; the schema before it is followed only along a line."""
    catalog = CatalogSchema()
    for at, header in enumerate(headers):
        wanted = changed is None or header.path.name in changed
        try:
            migration = load_migration(header)
        except LancemigError as error:
            catalog = CatalogSchema()
            if wanted:
                yield unfit(error)
            continue
        if wanted:
            above = headers[at + 1 :] if in_line and changed is not None else ()
            others = tuple(h.revision for h in above if h.path.name not in (changed or ()))
            yield from _of_one(migration, catalog, modules, others)
        catalog = schema_after(migration.operations, catalog) if in_line else CatalogSchema()


def _of_one(
    migration: Migration, before: CatalogSchema, modules: ProjectModules, followed_by: tuple[str, ...]
) -> Iterator[Finding]:
    path = migration.header.path
    content = read_bytes(path)
    tree = parse_migration(path, content)
    for each in findings(
        build_subject(migration, decode_source(path, content), tree, before, modules, followed_by)
    ):
        yield each.model_copy(update={"path": shown(each.path)}) if each.path else each
