"""`lint`: report risky changes in migration files, without a store."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from lancemig.catalog.findings import Finding, matches
from lancemig.catalog.schema import CatalogSchema
from lancemig.commands.check_files import load_error
from lancemig.commands.files import display_path, prepend_sys_path
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
    """Run all rules over the migration files.

    That the files load, form one chain and match the sum file is checked in any case. A finding in another
    file of the project is reported once, for the first revision that uses it.

    Args:
        settings: The settings of the catalog.
        base: A git commit: report only files that were added or changed since.
        ignored: Codes, prefixes or patterns to leave out.
    """
    directory = display_path(settings.script_location)
    changed = None if base is None else changed_since(directory, base)
    prepend_sys_path(settings)
    modules = ProjectModules([settings.path.parent, settings.script_location, *settings.prepend_sys_path])
    reported = (
        finding for finding in _findings(directory, changed, modules) if not matches(finding.code, ignored)
    )
    return list(_without_repeats(reported, directory))


def _without_repeats(all_findings: Iterable[Finding], directory: Path) -> Iterator[Finding]:
    seen: set[tuple[str, str]] = set()
    for finding in all_findings:
        is_elsewhere = finding.path is not None and finding.path.parent != directory
        if is_elsewhere and (finding.code, finding.place) in seen:
            continue
        seen.add((finding.code, finding.place))
        yield finding


def _findings(directory: Path, changed: Collection[str] | None, modules: ProjectModules) -> Iterator[Finding]:
    headers: list[Header] = []
    chain: RevisionChain | None = None
    try:
        files = migration_files(directory)
    except LancemigError as error:
        yield load_error(error)
        return
    for path in files:
        try:
            headers.append(read_header(path))
        except LancemigError as error:
            yield load_error(error)
    # A file that cannot be read may be the one that the others lack.
    if len(headers) == len(files):
        try:
            chain = chain_of(headers)
        except LancemigError as error:
            yield load_error(error)
    yield from sum_findings(directory, chain)
    if chain is not None:
        yield from missing_sum(directory, chain)
    yield from _file_findings(
        headers if chain is None else chain.headers, changed, modules, in_line=chain is not None
    )


def _file_findings(
    headers: Sequence[Header], changed: Collection[str] | None, modules: ProjectModules, *, in_line: bool
) -> Iterator[Finding]:
    """Run the rules over each file; the schema before it is known only along a chain."""
    catalog = CatalogSchema()
    for at, header in enumerate(headers):
        selected = changed is None or header.path.name in changed
        try:
            migration = load_migration(header)
        except LancemigError as error:
            catalog = CatalogSchema()
            if selected:
                yield load_error(error)
            continue
        if selected:
            above = headers[at + 1 :] if in_line and changed is not None else ()
            others = tuple(h.revision for h in above if h.path.name not in (changed or ()))
            yield from _migration_findings(migration, catalog, modules, others)
        catalog = schema_after(migration.operations, catalog) if in_line else CatalogSchema()


def _migration_findings(
    migration: Migration, before: CatalogSchema, modules: ProjectModules, followed_by: tuple[str, ...]
) -> Iterator[Finding]:
    path = migration.header.path
    content = read_bytes(path)
    tree = parse_migration(path, content)
    for finding in findings(
        build_subject(migration, decode_source(path, content), tree, before, modules, followed_by)
    ):
        yield finding.model_copy(update={"path": display_path(finding.path)}) if finding.path else finding
