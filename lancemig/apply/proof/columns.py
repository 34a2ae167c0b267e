"""The gates of rows, keys and columns that the migration leaves alone: equal on both sides, all of them.

Files that both sides have in common are not read: Lance writes none of them again. What is in other files is
read on both sides, and what it adds up to is compared.
"""

from collections.abc import Iterator
from time import perf_counter

from lancemig.apply.proof.pairs import Pair
from lancemig.apply.proof.scan import KEY, Differing, Reading, Sums, differing, spelt, summed
from lancemig.catalog.hashes import Checksum
from lancemig.catalog.operations import DeleteRows, UndoRows, UpsertRows
from lancemig.catalog.proof import Outcome, Way
from lancemig.catalog.sources import counted
from lancemig.store.tables.same import kindred


def rows_gate(pair: Pair) -> Iterator[Outcome]:
    """As many rows on both sides, where the migration takes and brings none."""
    rows, staged = pair.live.count(), pair.staged.count()
    sides = {"live": str(rows), "staged": str(staged), "rows": staged}
    if pair.passage.keeps_rows:
        detail = counted(staged, "row") if rows == staged else f"{staged:,} rows, expected {rows:,}"
        yield Outcome(gate="rows", table=pair.name, ok=rows == staged, detail=detail, **sides)
        return
    detail = f"{rows:,} rows became {staged:,}, as the migration determines"
    yield Outcome(gate="rows", table=pair.name, ok=True, way="not compared", detail=detail, **sides)


def columns_gate(pair: Pair) -> Iterator[Outcome]:
    """Keys, and each column: equal, or a reason why it is not compared."""
    yield from _unfit(pair)
    kept = [name for name in pair.staged.columns.names if name in pair.flow.kept]
    if not pair.passage.keeps_rows and pair.old_key in (None, {}):
        why = "the migration adds or removes rows, and the table has no unchanged key to match them by"
        yield from (_declared(pair, name, why) for name in kept)
        return
    if pair.key and pair.old_key is None:
        why = f"the key {', '.join(pair.key)} is computed by the migration"
        yield Outcome(gate="keys", table=pair.name, ok=True, way="not compared", detail=why)
        yield from (_declared(pair, name, why) for name in kept)
        return
    if not kept and not pair.key:
        return
    readings = _readings(pair, kept)
    if pair.passage.keeps_rows:
        yield from _by_checksum(pair, kept, readings)
    else:
        yield from _by_row(pair, kept, readings)


def _unfit(pair: Pair) -> Iterator[Outcome]:
    for name, why in pair.flow.changed.items():
        if name in pair.staged.columns.names:
            yield _not_compared(pair, name, f"the migration changes it: {why}")


def _not_compared(pair: Pair, name: str, why: str) -> Outcome:
    return Outcome(gate="columns", table=pair.name, column=name, ok=True, way="not compared", detail=why)


def _declared(pair: Pair, name: str, why: str) -> Outcome:
    return _not_compared(pair, name, why).model_copy(update={"declared": True})


def _readings(pair: Pair, kept: list[str]) -> list[Reading]:
    """What is not the same by its files: fragments, and the columns that are read of them."""
    names = {**{name: pair.flow.kept[name] for name in kept}, **(pair.old_key or {})}
    tables = pair.ground.tables
    folders = (
        tables.folder(pair.live.root, pair.live.name),
        tables.folder(pair.staged.root, pair.staged.name),
    )
    relatives = kindred(tables.objects, pair.live, pair.staged, folders, names)
    whole, readings = frozenset(kept), []
    alike: dict[bool, set[int]] = {True: set(), False: set()}
    for kin in relatives:
        keys = set(pair.key) <= kin.same if pair.key else whole <= kin.same
        columns = whole - kin.same if keys else whole
        alike[True].add(kin.left.fragment_id)
        alike[False].add(kin.right.fragment_id)
        if columns or not keys:
            readings += [
                Reading(live, fragment, columns, keys=not keys)
                for live, fragment in ((True, kin.left), (False, kin.right))
            ]
    for live, table in ((True, pair.live), (False, pair.staged)):
        others = (f for f in table.fragments if f.fragment_id not in alike[live])
        readings += [Reading(live, fragment, whole, keys=True) for fragment in others]
    return readings


def _by_checksum(pair: Pair, kept: list[str], readings: list[Reading]) -> Iterator[Outcome]:
    start = perf_counter()
    live, staged = summed(pair, readings)
    seconds = round(perf_counter() - start, 3)
    told = {KEY: "keys" if pair.key else "whole rows"} | dict.fromkeys(kept, "")
    for name, gate in told.items():
        same = live.checksums.get(name, Checksum()) == staged.checksums.get(name, Checksum())
        same = same and live.rows.get(name, 0) == staged.rows.get(name, 0)
        yield Outcome(
            gate=gate or "columns",
            table=pair.name,
            column=name or None,
            ok=same,
            way=_way(pair, readings, name, staged),
            live=str(live.checksums.get(name, "")) or None,
            staged=str(staged.checksums.get(name, "")) or None,
            rows=staged.rows.get(name, 0),
            detail=_alike(pair, name) if same else _unlike(pair, readings, name),
            seconds=seconds,
        )


def _way(pair: Pair, readings: list[Reading], name: str, sums: Sums) -> Way:
    read = sums.rows.get(name, 0)
    of = [r for r in readings if not r.live and (r.keys if name == KEY else name in r.columns)]
    if not of and not read:
        return "same files"
    return "checksum" if len(of) == len(pair.staged.fragments) else "same files and checksum"


def _alike(pair: Pair, name: str) -> str:
    rows = pair.staged.count()
    if name:
        return f"equal in {counted(rows, 'row')}"
    return counted(rows, "key") if pair.key else f"equal: {counted(rows, 'row')}"


def _unlike(pair: Pair, readings: list[Reading], name: str) -> str:
    """Which rows differ, with an example."""
    if name and not pair.key:
        return "the values on both sides differ"
    wanted = [r for r in readings if (r.keys if name == KEY else name in r.columns)]
    found = differing(pair, wanted, name or None)
    return _said(pair, wanted, found, name) or "the checksums differ"


def _said(pair: Pair, readings: list[Reading], found: Differing, name: str) -> str:
    example = spelt(pair, readings, found.examples)
    what = "key" if pair.key else "row"
    parts = [f"{_other(found)}, for example {example('other')}"] if found.other else []
    if name == KEY or not parts:
        for attribute, said in (("missing", "missing"), ("extra", "unexpected")):
            if count := getattr(found, attribute):
                are = f"{counted(count, what)} {'is' if count == 1 else 'are'} {said}"
                parts.append(f"{are}, for example {example(attribute)}")
    return "; ".join(parts)


def _other(found: Differing) -> str:
    return f"{counted(found.other, 'row')} {'has' if found.other == 1 else 'have'} a different value"


def _by_row(pair: Pair, kept: list[str], readings: list[Reading]) -> Iterator[Outcome]:
    """Of rows that come and go, those that both sides have: their values are compared one by one."""
    yield _keys_that_stay(pair, readings)
    for name in (name for name in kept if name not in pair.key):
        start = perf_counter()
        wanted = [reading for reading in readings if name in reading.columns]
        found = differing(pair, wanted, name)
        detail = f"equal in the {found.common:,} rows that are on both sides in different files"
        if found.other:
            detail = f"{_other(found)}, for example "
            detail += spelt(pair, wanted, found.examples)("other")
        yield Outcome(
            gate="columns",
            table=pair.name,
            column=name,
            ok=not found.other,
            way="row by row",
            rows=found.common,
            detail=detail,
            seconds=round(perf_counter() - start, 3),
        )


def _keys_that_stay(pair: Pair, readings: list[Reading]) -> Outcome:
    """Where rows only go, no key is new; where they only come, none is missing."""
    operations = [step.operation for step in pair.passage.steps]
    found = differing(pair, [reading for reading in readings if reading.keys])
    go, come = (any(isinstance(op, of) for op in operations) for of in ((DeleteRows, UndoRows), _BRINGING))
    wrong = {"missing": 0 if go else found.missing, "extra": 0 if come else found.extra}
    example = {name: told for name, told in found.examples.items() if wrong.get(name)}
    kept = Differing(missing=wrong["missing"], extra=wrong["extra"], examples=example)
    alike = f"{found.missing:,} keys removed, {found.extra:,} added, as the migration determines"
    return Outcome(
        gate="keys",
        table=pair.name,
        ok=not any(wrong.values()),
        way="row by row",
        rows=found.common,
        detail=_said(pair, readings, kept, KEY) or alike,
    )


_BRINGING = (UpsertRows, UndoRows)
