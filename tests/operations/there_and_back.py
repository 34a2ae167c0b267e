"""The one harness for operations: there, back exactly as before, and there again as the first time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lancedb
import pyarrow as pa
import pytest
from lab import Lab
from servers import Place

from lancemig.catalog.arrow_types import format_field
from lancemig.catalog.schema import CatalogSchema, Index, text_metadata
from lancemig.commands import check, upgrade
from lancemig.commands.check_files import all_findings
from lancemig.errors import Irreversible, LancemigError
from lancemig.revisions.loader import replay

Rows = Sequence[Mapping[str, Any]]
Look = Callable[[Lab], None]


@dataclass(frozen=True)
class State:
    """A table as its users see it; rows in no particular order."""

    columns: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    key: tuple[str, ...]
    metadata: dict[str, str]
    indices: tuple[Index, ...]
    rows: tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """An operation there and back.

    `start` and `do` are the text of operations (`start` of several revisions, if it is a tuple), `above` the
    functions they use, `before` what other writers do in between. `then` are the expected rows by table,
    `columns` the expected columns, `look` whatever else must hold. `back` are the rows after the downgrade;
    as before, if not given. `irreversible` is what is said instead of going back. `changed` are the rows
    that the operation says it changed.
    """

    name: str
    do: str
    start: str | tuple[str, ...] = ()
    above: str = ""
    before: Look | None = None
    then: Mapping[str, Rows] = field(default_factory=dict)
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    look: Look | None = None
    back: Mapping[str, Rows] | None = None
    irreversible: str | None = None
    changed: int | None = None
    everywhere: bool = False

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Refusal:
    """An operation that is refused: nothing changes, and what is said contains all of `says`.

    With `plan` false it is found while the step is staged, before the operation's own first commit.
    """

    name: str
    do: str
    says: Sequence[str]
    error: type[LancemigError]
    start: str | tuple[str, ...] = ()
    above: str = ""
    before: Look | None = None
    plan: bool = True

    def __str__(self) -> str:
        return self.name


def there_and_back(folder: Path, place: Place, case: Case) -> None:
    """Upgrade, downgrade, upgrade: each time the catalog is what `case` says."""
    lab = begun(folder, place, case)
    before = states(lab)
    lab.revision(case.do, above=case.above)
    upgrade.prepare(lab.catalog(), "head", "up", no_flip=False, note=None)
    assert states(lab) == before
    outcome = lab.upgrade()
    first = states(lab)
    if case.changed is not None:
        assert sum(step.changed for step in outcome.steps) == case.changed
    expected(lab, case)
    in_sync(lab)
    if case.irreversible is not None:
        with pytest.raises(Irreversible) as refused:
            lab.downgrade()
        assert case.irreversible in refused.value.message
        assert refused.value.next_step
        assert states(lab) == first
        return
    lab.downgrade()
    after = states(lab)
    if case.back is None:
        assert after == before
    else:
        assert {name: after[name].rows for name in case.back} == spelt_rows(case.back)
    declared(lab, upto=len(lab.written) - 1)
    lab.upgrade()
    assert states(lab) == first
    expected(lab, case)


def refused(folder: Path, place: Place, case: Refusal) -> None:
    """The operation is refused in so many words, and the catalog is as it was."""
    lab = begun(folder, place, case)
    before = states(lab)
    lab.revision(case.do, above=case.above)
    with pytest.raises(case.error) as caught:
        if case.plan:
            upgrade.prepare(lab.catalog(), "head", "up", no_flip=False, note=None)
        else:
            lab.upgrade()
    assert type(caught.value) is case.error
    for words in case.says:
        assert words in caught.value.message
    assert states(lab) == before


def in_sync(lab: Lab) -> None:
    """`check` finds nothing wrong with what was applied."""
    wrong = [finding for finding in all_findings(check.check(lab.catalog())) if finding.level == "error"]
    assert wrong == []


def begun(folder: Path, place: Place, case: Case | Refusal) -> Lab:
    """The catalog before the operation."""
    lab = Lab(folder, place)
    for operations in (case.start,) if isinstance(case.start, str) else case.start:
        lab.revision(operations, above=case.above)
    if case.start:
        lab.upgrade()
    if case.before:
        case.before(lab)
    return lab


def expected(lab: Lab, case: Case) -> None:
    """Rows and columns are as the case says, the schema as the operations' pure faces say."""
    found = states(lab)
    assert {name: found[name].rows for name in case.then} == spelt_rows(case.then)
    for name, columns in case.columns.items():
        assert [text for text, _ in found[name].columns] == list(columns)
    declared(lab, upto=len(lab.written))
    if case.look:
        case.look(lab)


def declared(lab: Lab, upto: int) -> None:
    """The live catalog is what replaying the files gives, where they tell all of it."""
    catalog = lab.catalog()
    try:
        wanted = replay(catalog.migrations(catalog.chain.upto(lab.written[upto - 1] if upto else None)))
    except LancemigError:
        return
    assert faces(catalog.store.tables.live(lab.root).catalog) == faces(wanted)


def faces(catalog: CatalogSchema) -> dict[str, Any]:
    """What an operation promises about the schema of each table."""
    return {
        name: (
            spelt_columns(table.columns),
            table.key,
            table.metadata,
            sorted((index.name, index.column, index.type) for index in table.indices),
        )
        for name, table in catalog.tables.items()
    }


def states(lab: Lab) -> dict[str, State]:
    """Every live table, its rows read by Lance and by LanceDB alike."""
    tables, root = lab.catalog().store.tables, lab.root
    database = lancedb.connect(
        tables.uri(root, "x").rpartition("/")[0], storage_options=tables.options() or None
    )
    found = {}
    for name in lab.tables():
        seen = lab.dataset(name, root).to_table()
        by_lancedb = database.open_table(name).to_arrow()
        assert spelt(by_lancedb) == spelt(seen)
        assert by_lancedb.schema.names == seen.schema.names
        schema = tables.open(root, name).schema()
        found[name] = State(
            columns=spelt_columns(schema.columns),
            key=schema.key,
            metadata=schema.metadata,
            indices=tuple(sorted(schema.indices, key=lambda index: index.name)),
            rows=spelt(seen),
        )
    return found


def spelt_columns(columns: pa.Schema) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    """Each column's text and metadata, in their order."""
    return tuple((format_field(f), tuple(sorted(text_metadata(f.metadata).items()))) for f in columns)


def spelt(rows: pa.Table) -> tuple[str, ...]:
    """Rows as sorted text, so that NaN equals NaN and nanoseconds need no pandas."""
    columns = [[repr(value) for value in plain(column)] for column in rows.columns]
    lines = (
        ", ".join(f"{n}={v}" for n, v in zip(rows.column_names, line, strict=True))
        for line in zip(*columns, strict=True)
    )
    return tuple(sorted(lines))


def plain(column: pa.ChunkedArray) -> list[Any]:
    """Python values; timestamps of nanoseconds as numbers."""
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        column = column.cast(pa.int64())
    return column.to_pylist()


def spelt_rows(tables: Mapping[str, Rows]) -> dict[str, tuple[str, ...]]:
    """The rows a case gives, as `spelt` does."""
    return {
        name: tuple(sorted(", ".join(f"{n}={v!r}" for n, v in row.items()) for row in rows))
        for name, rows in tables.items()
    }
