"""Replaces several revisions by one with the same effect on a new catalog, which has the id of the last.

A table that these revisions create, and that gets no rows, is created with its final schema; operations on
its values had nothing to change. All other operations stay, in their order.
"""

import ast
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from lancemig.catalog.checks import Check, Tolerance
from lancemig.catalog.drift import drift
from lancemig.catalog.models import recreate
from lancemig.catalog.operations import CreateTable, Operation
from lancemig.catalog.schema import CatalogSchema
from lancemig.catalog.value import FrozenModel
from lancemig.errors import PlanError, ScriptError
from lancemig.revisions.chain import SQUASHED, RevisionChain
from lancemig.revisions.header import (
    Header,
    assignments,
    decode_source,
    parse_header,
    parse_migration,
    read_bytes,
)
from lancemig.revisions.journal import Journal, PendingFile, text_of
from lancemig.revisions.loader import Migration, load_migration, replay
from lancemig.revisions.render import render_operation
from lancemig.revisions.writer import WIDTH, docstring_text, format_expression, imports_for

_OWN = ("revision", "down_revision", "kind", "replaces", "operations", "downgrade", "checks", "tolerances")


def _single_imports(statement: ast.stmt) -> Iterator[ast.Import | ast.ImportFrom]:
    """An import as imports of one name each."""
    if isinstance(statement, ast.Import):
        yield from (ast.Import([alias]) for alias in statement.names)
    elif isinstance(statement, ast.ImportFrom):
        yield from (ast.ImportFrom(statement.module, [alias], statement.level) for alias in statement.names)


class Source:
    """The text of a migration file, and its parts."""

    def __init__(self, header: Header, count: int) -> None:
        self.header = header
        self.count = count
        content = read_bytes(header.path)
        self.tree = parse_migration(header.path, content)
        self.text = decode_source(header.path, content)

    def operation(self, place: int) -> str:
        """The text of one operation; ScriptError where `operations` is no plain list of them."""
        value = assignments(self.tree)["operations"][-1].value
        items = value.elts if isinstance(value, ast.List | ast.Tuple) else []
        if len(items) != self.count or any(isinstance(item, ast.Starred) for item in items):
            raise ScriptError(
                f"{self.header.path}: `operations` is not a plain list, so single operations cannot "
                "be extracted",
                next_step="write every operation as an item of the list, then run the same command again",
            )
        return self._segment(items[place])

    def imports(self) -> Iterator[tuple[str, str]]:
        """Each imported name, with its import statement."""
        for statement in self.tree.body:
            for only in _single_imports(statement):
                alias = only.names[0]
                text = ast.unparse(only)
                yield (text if alias.name == "*" else alias.asname or alias.name.partition(".")[0]), text

    def definitions(self) -> Iterator[tuple[str, str]]:
        """Each defined name, with its text; without the variables that lancemig reads."""
        for statement in self.tree.body:
            if isinstance(statement, ast.FunctionDef):
                yield statement.name, self._segment(statement)
            elif isinstance(statement, ast.Assign | ast.AnnAssign):
                targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                names = [n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)]
                if not set(names) & set(_OWN):
                    yield names[0], self._segment(statement)
            elif isinstance(statement, ast.If):
                yield f"if {statement.lineno} {self.header.path}", self._segment(statement)

    def _segment(self, node: ast.AST) -> str:
        return ast.get_source_segment(self.text, node) or ""


def merged(sources: Sequence[Source], operations: Iterable[str]) -> tuple[list[str], list[str]]:
    """The imports and the definitions of these files, each once; and the imports of new `operations`."""
    bound: dict[str, tuple[str, Path]] = {}
    imports: dict[str, None] = dict.fromkeys(_imports_needed(operations))
    definitions: dict[str, None] = {}
    for source in sources:
        named = [(imports, *pair) for pair in source.imports()]
        named += [(definitions, *pair) for pair in source.definitions()]
        for into, name, text in named:
            other, where = bound.setdefault(name, (text, source.header.path))
            if other != text and where != source.header.path:
                raise ScriptError(
                    f"{where} and {source.header.path} define {name!r} differently",
                    next_step="rename it in one of them, then run the same command again",
                )
            into[text] = None
    return _grouped(imports), list(definitions)


def _grouped(imports: Iterable[str]) -> list[str]:
    """The same imports, with one line for each module; `__future__` first."""
    modules: dict[str, list[str]] = {}
    for line in sorted(imports):
        module, _, name = line.partition(" import ")
        modules.setdefault(f"{module} import *" if name == "*" else module, []).append(name)
    found = []
    for module, names in modules.items():
        line = module if names in ([""], ["*"]) else f"{module} import {', '.join(names)}"
        found.append(line if len(line) <= WIDTH else _wrapped(line, names))
    return sorted(found, key=lambda line: ("__future__" not in line, line.startswith("from"), line))


def _wrapped(line: str, names: Sequence[str]) -> str:
    inner = "".join(f"    {name},\n" for name in names)
    return f"{line.partition(' import ')[0]} import (\n{inner})"


def _imports_needed(operations: Iterable[str]) -> list[str]:
    """The imports that these operations need, a name a line."""
    tree = ast.parse("\n".join(imports_for(operations)))
    return [ast.unparse(only) for statement in tree.body for only in _single_imports(statement)]


@dataclass(frozen=True)
class SquashedChecks:
    """Checks and tolerances as source text, and those that are left out, in words."""

    checks: tuple[str, ...]
    tolerances: tuple[str, ...]
    left_out: tuple[str, ...]


def squashed_checks(old: Sequence[Migration]) -> SquashedChecks:
    """The checks and tolerances of these revisions for the one that replaces them."""
    before = [check.model_copy(update={"when": "before"}) for check in old[0].checks if check.due("before")]
    after = [check.model_copy(update={"when": "after"}) for check in old[-1].checks if check.due("after")]
    tolerances, left = [], list[str]()
    for at, migration in enumerate(old):
        later = [operation for one in old[at + 1 :] for operation in one.operations]
        for tolerance in migration.tolerances:
            if any(_makes_stale(operation, tolerance) for operation in later):
                left.append(f"tolerance of {migration.header.revision}: {tolerance.describe()}")
            else:
                tolerances.append(tolerance)
        left += [
            f"check of {migration.header.revision}: {check.title}"
            for check in migration.checks
            if not (at == 0 and check.due("before")) and not (at == len(old) - 1 and check.due("after"))
        ]
        left += [f"`downgrade` of {migration.header.revision}"] if migration.downgrade is not None else []
    return SquashedChecks(_source_texts([*before, *after]), _source_texts(tolerances), tuple(left))


def _makes_stale(operation: Operation, tolerance: Tolerance) -> bool:
    """Whether the operation renames or drops the table or column of the tolerance."""
    if operation.table != tolerance.table:
        return False
    if operation.table_after != operation.table:
        return True
    effects = operation.column_effects(None)
    return tolerance.column in (*effects.renamed, *effects.dropped)


def _source_texts(values: Iterable[FrozenModel]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(f"{type(value).__name__}({', '.join(_fields(value))})" for value in values))


def _fields(value: Check | Tolerance | FrozenModel) -> Iterator[str]:
    for name, given in value.model_dump(exclude_defaults=True).items():
        yield f"{name}={_literal(given)}"


def _literal(given: Any) -> str:
    plain = isinstance(given, str) and given.isprintable() and not set('"\\') & set(given)
    return f'"{given}"' if plain else repr(given)


SquashedOperations = tuple[Sequence[Operation], Sequence[Sequence[int]]]
"""New operations, and for each migration the positions of the operations that stay."""


class Squashed(FrozenModel):
    """The written file, the new paths of the old ones, and what of them was left out, in words."""

    path: Path
    moved: tuple[Path, ...]
    left_out: tuple[str, ...]


def squash(
    directory: Path, line: RevisionChain, span: tuple[str, str], command: str, now: datetime
) -> Journal:
    """Combine the revisions of the span into one; their files move to `versions/squashed/`.

    Returns:
        The changes to the files, which are not made yet.

    Raises:
        ScriptError: the new file gives another schema than the old ones, an operation cannot be taken out of
            its file, or two files define a name differently.
    """
    headers = _headers_between(line, *span)
    old = [load_migration(header) for header in headers]
    start = _schema_before(line, headers[0])
    path = directory / f"{headers[-1].revision}_squashed_from_{headers[0].revision}.py"
    folder = directory / SQUASHED
    _refuse_taken([path, *(folder / header.path.name for header in headers)])
    draft = directory / f".{path.stem}.squash"
    try:
        content = _content(old, start, draft, now)
    finally:
        draft.unlink(missing_ok=True)
    names = [header.path.name for header in headers]
    moved = tuple(folder / name for name in names)
    return Journal(
        command=command,
        written=(PendingFile(name=path.name, text=text_of(content)),),
        moved={name: f"{SQUASHED}/{name}" for name in names},
        told=Squashed(path=path, moved=moved, left_out=squashed_checks(old).left_out).model_dump(mode="json"),
    )


def _headers_between(line: RevisionChain, first: str, last: str) -> tuple[Header, ...]:
    ids = line.revisions
    if ids.index(first) >= ids.index(last):
        raise ScriptError(
            f"{first} does not come before {last}: nothing to squash", next_step="lancemig history"
        )
    return line.headers[ids.index(first) : ids.index(last) + 1]


def _schema_before(line: RevisionChain, first: Header) -> CatalogSchema | None:
    """The schema before the revision; None where the files do not define it."""
    try:
        return replay([load_migration(header) for header in line.upto(first.down_revision)])
    except PlanError:
        return None


def _refuse_taken(paths: Iterable[Path]) -> None:
    for path in paths:
        if os.path.lexists(path):
            raise ScriptError(
                f"{path} already exists", next_step="move it away, then run the same command again"
            )


def _content(old: Sequence[Migration], start: CatalogSchema | None, draft: Path, now: datetime) -> bytes:
    """The text of the new file, with as few operations as give the same schema."""
    all_kept: SquashedOperations = ([], [range(len(one.operations)) for one in old])
    error: PlanError | None = None
    for made, kept in [*([_simplified(old, start)] if start is not None else []), all_kept]:
        content = _written(old, made, kept, now).encode()
        draft.write_bytes(content)
        try:
            _refuse_different_schema(old, start, load_migration(parse_header(draft, content)))
        except PlanError as refused:
            error = refused
        else:
            return content
    raise ScriptError(
        f"these revisions cannot be combined into one: {error}", next_step="squash fewer revisions"
    ) from error


def _refuse_different_schema(old: Sequence[Migration], start: CatalogSchema | None, new: Migration) -> None:
    if start is None:
        return
    wanted, found = replay(old, start), replay([new], start)
    if wanted.tables.keys() != found.tables.keys():
        raise PlanError(f"its tables are {', '.join(found.tables)}, not {', '.join(wanted.tables)}")
    for name, table in wanted.tables.items():
        for one in drift(table, found.tables[name]):
            raise PlanError(f"{name}: {one.message}")


@dataclass
class _TableHistory:
    """The operations on one table of these revisions, and whether it stays without rows."""

    rowless: bool
    operations: list[tuple[int, int]] = field(default_factory=list)


def _simplified(old: Sequence[Migration], start: CatalogSchema) -> SquashedOperations:
    """Operations that create the tables without rows as they are finally, and those that have to stay."""
    names: dict[str, _TableHistory] = {}
    all_made: list[_TableHistory] = []
    for at, migration in enumerate(old):
        for index, operation in enumerate(migration.operations):
            made = _table_of(names, operation)
            if made.operations == []:
                all_made.append(made)
            made.operations.append((at, index))
            made.rowless = made.rowless and _is_rowless(operation, len(made.operations) == 1)
    left_out = {place for made in all_made if made.rowless for place in made.operations}
    kept = [
        [index for index in range(len(migration.operations)) if (at, index) not in left_out]
        for at, migration in enumerate(old)
    ]
    end = replay(old, start).tables
    final = {name: end[name] for name, made in names.items() if made.rowless and name in end}
    return recreate(CatalogSchema(tables=final)), kept


def _table_of(names: dict[str, _TableHistory], operation: Operation) -> _TableHistory:
    """The table of an operation, which `names` has by its current name."""
    if isinstance(operation, CreateTable) or operation.table not in names:
        names[operation.table] = _TableHistory(rowless=isinstance(operation, CreateTable))
    made = names[operation.table]
    del names[operation.table]
    if operation.table_after is not None:
        names[operation.table_after] = made
    return made


def _is_rowless(operation: Operation, is_first: bool) -> bool:
    """Whether a table without rows is, after the operation, one that CreateTable makes as it is then."""
    if isinstance(operation, CreateTable):
        return is_first and operation.rows is None
    # A table that is written again may get rows from a function, or a layout that CreateTable does not give.
    return not (operation.row_effect.inserts or operation.row_effect.writes_table)


def _written(
    old: Sequence[Migration], made: Sequence[Operation], kept: Sequence[Sequence[int]], now: datetime
) -> str:
    headers = [migration.header for migration in old]
    texts = [render_operation(operation) for operation in made]
    sources = [Source(migration.header, len(migration.operations)) for migration in old]
    used = [(source, places) for source, places in zip(sources, kept, strict=True) if places]
    terms = squashed_checks(old)
    imports, definitions = merged([source for source, _ in used], [*texts, *terms.checks, *terms.tolerances])
    lines = [f"    {format_expression(text, indent=4)}," for text in texts]
    lines += [f"    {source.operation(place)}," for source, places in used for place in places]
    replaced = [revision for header in headers for revision in (header.replaces or (header.revision,))]
    parent = headers[0].down_revision
    titles = "\n".join(f"{header.revision} {docstring_text(header.message)}".rstrip() for header in headers)
    parts = [
        f'"""Revisions {headers[0].revision} to {headers[-1].revision} in one.\n\n{titles}\n\n'
        f"Revision ID: {headers[-1].revision}\nRevises: {parent or ''}".rstrip()
        + f'\nCreate Date: {now.isoformat(sep=" ", timespec="seconds")}\n"""\n',
        "\n".join(imports) + "\n",
        f'revision = "{headers[-1].revision}"\ndown_revision = {_quoted(parent)}',
        "# A catalog where all of these were applied one by one is at this revision.",
        "replaces = (" + ", ".join(map(_quoted, replaced)) + ")\n",
        *(f"\n{text}\n" for text in definitions),
        "operations = [\n" + "\n".join(lines) + "\n]" if lines else "operations = []",
        *_list_text("checks", terms.checks),
        *_list_text("tolerances", terms.tolerances),
    ]
    return "\n".join(parts) + "\n"


def _list_text(name: str, texts: Sequence[str]) -> list[str]:
    items = "".join(f"    {format_expression(text, indent=4)},\n" for text in texts)
    return [f"\n{name} = [\n{items}]"] if texts else []


def _quoted(text: str | None) -> str:
    return "None" if text is None else f'"{text}"'
