"""Rows of the live table, sent the same way once more, and what is there in their place."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lancemig.apply.proof.agreement import agreeing
from lancemig.apply.proof.pairs import Pair
from lancemig.apply.rows.upserts import existing
from lancemig.apply.steps.transform import through
from lancemig.catalog.hashes import Hashes, hashed, together
from lancemig.catalog.keys import Places, matches, spelled, spelled_key
from lancemig.catalog.operations import TransformTable, UpsertRows
from lancemig.catalog.schema import TableSchema
from lancemig.catalog.sources import counted
from lancemig.store.tables import Table


@dataclass
class Found:
    """What came of computing one column again."""

    rows: int = 0
    nulls: int = 0
    wrong: int = 0
    example: str = ""
    tolerance: str | None = None

    @property
    def untried(self) -> bool:
        """Whether no row was compared, but for nulls that were added up."""
        return not (self.rows or self.wrong)


def drawn(pair: Pair, table: Table) -> list[int]:
    """The places of the rows that are drawn from a table: for one run, always the same."""
    text = f"{pair.ground.seed}/{table.name}"
    random = np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))
    count = table.count()
    picked = random.choice(count, size=min(pair.ground.sample, count), replace=False, shuffle=False)
    return sorted(int(place) for place in picked)


def narrow(pair: Pair) -> TableSchema:
    """The live table with the columns that some step mentions, and its key: vectors need not go along."""
    operations = [step.operation for step in pair.passage.steps]
    if any(isinstance(op, UpsertRows) or (isinstance(op, TransformTable) and op.reads is None)
           for op in operations):  # fmt: skip
        return pair.start
    said = " ".join(operation.model_dump_json() for operation in operations)
    used = set((pair.old_key or {}).values()) | {*pair.start.key, *pair.key}
    fields = [field for field in pair.start.columns if field.name in used or field.name in said]
    start = pair.start.with_columns(fields or list(pair.start.columns)[:1])
    return start.model_copy(update={"indices": ()})


@dataclass(frozen=True)
class Sent:
    """Rows that went the way again; `lost` says which are not there, or are though they should have gone."""

    rows: pa.Table
    lost: str | None


def compared(pair: Pair, start: TableSchema, rows: pa.Table, found: dict[str, Found]) -> Sent | None:
    """Send rows the way again, and compare their columns in `found` with the staged ones."""
    if not rows.num_rows:
        return None
    wanted = through(pair.passage, start, rows)
    key = list(pair.key)
    there = existing(pair.staged, wanted, key, [*key, *found])
    at = matches(wanted, there, key)
    pairs = wanted.filter(pa.array(at >= 0)), there.take(pa.array(at[at >= 0]))
    for name, one in found.items():
        old, new = (whole(rows.column(name)) for rows in pairs)
        agree, tolerance = agreeing(old, new, pair.tolerances(name))
        wrong = np.flatnonzero(~agree)
        one.tolerance = one.tolerance or tolerance
        one.rows += len(agree)
        one.wrong += len(wrong)
        if len(wrong) and not one.example:
            place = int(wrong[0])
            one.example = (
                f"{spelled_key(pairs[0], key, place)}: first run {spelled(new[place])}, second run "
                f"{spelled(old[place])}"
            )
    return Sent(wanted, _lost(pair, rows, wanted, at))


def origins(pair: Pair, start: TableSchema, keys: pa.Table) -> pa.Table | None:
    """The live rows that staged rows with these keys come from; None where no key leads there."""
    names = pair.looked_up
    if names is None:
        return None
    old = pa.table(
        {old: keys.column(new).cast(pair.live.columns.field(old).type) for new, old in names.items()}
    )
    return existing(pair.live, old, list(names.values()), start.columns.names).select(start.columns.names)


def _lost(pair: Pair, rows: pa.Table, wanted: pa.Table, at: Places) -> str | None:
    """Rows that should be there and are not, and rows that should have gone and have not."""
    missing = wanted.filter(pa.array(at < 0))
    if missing.num_rows:
        example = spelled_key(missing, list(pair.key), 0)
        return f"{counted(missing.num_rows, 'recomputed row')} missing, for example {example}"
    if pair.old_key is None or pair.passage.keeps_rows or wanted.num_rows >= rows.num_rows:
        return None
    names = list(pair.old_key.items())
    keys = pa.table({new: rows.column(old).cast(wanted.schema.field(new).type) for new, old in names})
    gone = keys.filter(pa.array(matches(keys, wanted, list(pair.key)) < 0))
    stayed = existing(pair.staged, gone, list(pair.key), list(pair.key))
    if not stayed.num_rows:
        return None
    return (
        f"{counted(stayed.num_rows, 'row')} not deleted by the migration as expected, for example "
        f"{spelled_key(stayed, list(pair.key), 0)}"
    )


def row_hashes(rows: pa.Table, columns: Sequence[str]) -> Hashes:
    """A hash of each row, by these columns."""
    return together([hashed(whole(rows.column(name))) for name in columns], rows.num_rows)


def whole(column: pa.ChunkedArray) -> pa.Array:
    """The column as one array."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
