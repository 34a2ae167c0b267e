"""Several revisions become one that makes the same of a new catalog, and has the id of the last.

Tables that are made on the way and get no rows are made as they are in the end; what was done to their values
in between was done to none. All other operations stay, in their order.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from lancemig.catalog.drift import drift
from lancemig.catalog.making import making
from lancemig.catalog.operations import (
    AddColumn,
    BackfillColumns,
    CreateIndex,
    CreateTable,
    DeleteRows,
    DropColumn,
    DropIndex,
    DropTable,
    Operation,
    RelaxColumn,
    RenameColumn,
    RenameTable,
    RequireColumn,
    RetypeColumn,
    SetKey,
    SetMetadata,
    UpdateRows,
)
from lancemig.catalog.schema import CatalogSchema
from lancemig.catalog.value import Value
from lancemig.errors import PlanError, ScriptError
from lancemig.script.header import Header, header_of
from lancemig.script.journal import Journal, Written, text_of
from lancemig.script.layout import laid_out, quotable
from lancemig.script.line import SQUASHED, Line
from lancemig.script.loader import Migration, load, replay
from lancemig.script.merging import Source, merged
from lancemig.script.rendering import rendered
from lancemig.script.terms import terms_of

# On a table without rows, these change the schema or nothing.
_ROWLESS = (
    AddColumn, BackfillColumns, CreateIndex, DeleteRows, DropColumn, DropIndex, DropTable, RelaxColumn,
    RenameColumn, RenameTable, RequireColumn, RetypeColumn, SetKey, SetMetadata, UpdateRows,
)  # fmt: skip

Way = tuple[Sequence[Operation], Sequence[Sequence[int]]]
"""Operations that were made anew, and the places of those that stay, for each migration."""


class Squashed(Value):
    """The file that was written, where the old ones lie now, and what of them is in it no more."""

    path: Path
    moved: tuple[Path, ...]
    left_out: tuple[str, ...]


def squash(directory: Path, line: Line, span: tuple[str, str], command: str, now: datetime) -> Journal:
    """Make one revision of those of the span: the changes to the files, theirs go to `versions/squashed/`.

    What the new file makes of the schema before it is compared with what the old ones make first. Raises
    ScriptError where the two differ, where what has to stay cannot be taken out of its file, and where two
    files give one name to different things.
    """
    headers = _between(line, *span)
    old = [load(header) for header in headers]
    start = _before(line, headers[0])
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
        written=(Written(name=path.name, text=text_of(content)),),
        moved={name: f"{SQUASHED}/{name}" for name in names},
        told=Squashed(path=path, moved=moved, left_out=terms_of(old).left_out).model_dump(mode="json"),
    )


def _between(line: Line, first: str, last: str) -> tuple[Header, ...]:
    ids = line.revisions
    if ids.index(first) >= ids.index(last):
        raise ScriptError(
            f"{first} does not come before {last}: nothing to squash", next_step="lancemig history"
        )
    return line.headers[ids.index(first) : ids.index(last) + 1]


def _before(line: Line, first: Header) -> CatalogSchema | None:
    """The schema before the first of them; None where the files do not tell."""
    try:
        return replay([load(header) for header in line.upto(first.down_revision)])
    except PlanError:
        return None


def _refuse_taken(paths: Iterable[Path]) -> None:
    for path in paths:
        if os.path.lexists(path):
            raise ScriptError(
                f"{path} already exists", next_step="move it away, then run the same command again"
            )


def _content(old: Sequence[Migration], start: CatalogSchema | None, draft: Path, now: datetime) -> bytes:
    """The text of the new file: with as few operations as are known to make the same."""
    all_kept: Way = ([], [range(len(one.operations)) for one in old])
    error: PlanError | None = None
    for made, kept in [*([_simplified(old, start)] if start is not None else []), all_kept]:
        content = _written(old, made, kept, now).encode()
        draft.write_bytes(content)
        try:
            _refuse_other(old, start, load(header_of(draft, content)))
        except PlanError as refused:
            error = refused
        else:
            return content
    raise ScriptError(
        f"these revisions cannot be combined into one: {error}", next_step="squash fewer revisions"
    ) from error


def _refuse_other(old: Sequence[Migration], start: CatalogSchema | None, new: Migration) -> None:
    if start is None:
        return
    wanted, found = replay(old, start), replay([new], start)
    if wanted.tables.keys() != found.tables.keys():
        raise PlanError(f"its tables are {', '.join(found.tables)}, not {', '.join(wanted.tables)}")
    for name, table in wanted.tables.items():
        for one in drift(table, found.tables[name]):
            raise PlanError(f"{name}: {one.said}")


@dataclass
class _Made:
    """A table that is made on the way: the operations on it, and whether it stays without rows."""

    rowless: bool
    operations: list[tuple[int, int]] = field(default_factory=list)


def _simplified(old: Sequence[Migration], start: CatalogSchema) -> Way:
    """What makes the tables without rows as they are in the end, and the operations that have to stay."""
    names: dict[str, _Made] = {}
    all_made: list[_Made] = []
    for at, migration in enumerate(old):
        for index, operation in enumerate(migration.operations):
            made = _of(names, operation)
            if made.operations == []:
                all_made.append(made)
            made.operations.append((at, index))
            made.rowless = made.rowless and _is_rowless(operation, len(made.operations) == 1)
    gone = {place for made in all_made if made.rowless for place in made.operations}
    kept = [
        [index for index in range(len(migration.operations)) if (at, index) not in gone]
        for at, migration in enumerate(old)
    ]
    end = replay(old, start).tables
    final = {name: end[name] for name, made in names.items() if made.rowless and name in end}
    return making(CatalogSchema(tables=final)), kept


def _of(names: dict[str, _Made], operation: Operation) -> _Made:
    """The table that an operation concerns, under whichever name it has then."""
    if isinstance(operation, CreateTable) or operation.table not in names:
        names[operation.table] = _Made(rowless=isinstance(operation, CreateTable))
    made = names[operation.table]
    if isinstance(operation, RenameTable):
        names[operation.to] = names.pop(operation.table)
    elif isinstance(operation, DropTable):
        del names[operation.table]
    return made


def _is_rowless(operation: Operation, is_first: bool) -> bool:
    if isinstance(operation, CreateTable):
        return is_first and operation.rows is None
    return isinstance(operation, _ROWLESS)


def _written(
    old: Sequence[Migration], made: Sequence[Operation], kept: Sequence[Sequence[int]], now: datetime
) -> str:
    headers = [migration.header for migration in old]
    texts = [rendered(operation) for operation in made]
    sources = [Source(migration.header, len(migration.operations)) for migration in old]
    used = [(source, places) for source, places in zip(sources, kept, strict=True) if places]
    terms = terms_of(old)
    imports, definitions = merged([source for source, _ in used], [*texts, *terms.checks, *terms.tolerances])
    lines = [f"    {laid_out(text, indent=4)}," for text in texts]
    lines += [f"    {source.operation(place)}," for source, places in used for place in places]
    replaced = [revision for header in headers for revision in (header.replaces or (header.revision,))]
    parent = headers[0].down_revision
    told = "\n".join(f"{header.revision} {quotable(header.message)}".rstrip() for header in headers)
    parts = [
        f'"""Revisions {headers[0].revision} to {headers[-1].revision} in one.\n\n{told}\n\n'
        f"Revision ID: {headers[-1].revision}\nRevises: {parent or ''}".rstrip()
        + f'\nCreate Date: {now.isoformat(sep=" ", timespec="seconds")}\n"""\n',
        "\n".join(imports) + "\n",
        f'revision = "{headers[-1].revision}"\ndown_revision = {_quoted(parent)}',
        "# A catalog where all of these were applied one by one is at this revision.",
        "replaces = (" + ", ".join(map(_quoted, replaced)) + ")\n",
        *(f"\n{text}\n" for text in definitions),
        "operations = [\n" + "\n".join(lines) + "\n]" if lines else "operations = []",
        *_list("checks", terms.checks),
        *_list("tolerances", terms.tolerances),
    ]
    return "\n".join(parts) + "\n"


def _list(name: str, texts: Sequence[str]) -> list[str]:
    items = "".join(f"    {laid_out(text, indent=4)},\n" for text in texts)
    return [f"\n{name} = [\n{items}]"] if texts else []


def _quoted(text: str | None) -> str:
    return "None" if text is None else f'"{text}"'
