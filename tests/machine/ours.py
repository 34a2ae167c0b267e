"""The operations that the machine's revisions are made of: text of a migration file, and plain Python."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

Row = dict[str, Any]
Rows = Mapping[int, Row]
"""Rows by the number that tells them apart, whatever is in them."""

ABOVE = """
def filled(batch: pa.RecordBatch) -> pa.RecordBatch:
    known = [x is not None and x % 2 == 0 for x in batch.column("x").to_pylist()]
    return pa.record_batch({"y": pc.add(batch.column("x"), 100), "__unknown__": [not one for one in known]})


def squared(batch: pa.RecordBatch) -> pa.Array:
    return pc.subtract(1000, batch.column("x"))
"""


@dataclass(frozen=True)
class Change:
    """What an operation does to rows: new values of some; new ones, those that go, those that come back."""

    updated: Mapping[int, Row] = field(default_factory=dict)
    inserted: tuple[Row, ...] = ()
    deleted: frozenset[int] = frozenset()
    restored: Mapping[int, Row] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.size)

    @property
    def size(self) -> int:
        """How many rows it concerns."""
        return len(self.updated) + len(self.inserted) + len(self.deleted) + len(self.restored)


@dataclass(frozen=True)
class Asserted:
    """A check of a revision: its text, when it is made, and whether it holds of rows by table."""

    text: str
    when: Literal["before", "after", "both"]
    holds: Callable[[Mapping[str, Rows]], bool]

    def due(self, when: str) -> bool:
        """Whether it is made then."""
        return self.when in (when, "both")


def assertions() -> list[Asserted | None]:
    """What a revision may check; most check nothing."""

    def few(tables: Mapping[str, Rows]) -> bool:
        return not any(above(row["x"], 55) for row in tables["t"].values())

    return [
        Asserted('Check(sql="select id from t where x > 55", when="after")', "after", few),
        Asserted(
            'Check(sql="select count(*) from u where y is null", expect=0)',
            "both",
            lambda tables: all(row["y"] is not None for row in tables["u"].values()),
        ),
        Asserted(
            'Check(sql="select count(*) > 4 from t", expect=True, when="after")',
            "after",
            lambda tables: len(tables["t"]) > 4,
        ),
        Asserted(
            'Check(sql="select id from u where x > 90", when="before")',
            "before",
            lambda tables: not any(above(row["x"], 90) for row in tables["u"].values()),
        ),
        *[None] * 8,
    ]


@dataclass(frozen=True)
class Operation:
    """One operation on `table`: its text, what it is, and what it does to rows."""

    name: str
    table: str
    text: str
    kind: Literal["value", "column", "index", "no index", "metadata", "table"]
    effect: Callable[[Rows, Sequence[str]], Change] = lambda *_: Change()
    column: str = ""
    fill: Callable[[Row], Any] | None = None
    rows: tuple[Row, ...] = ()
    refuses: Callable[[Rows], bool] = lambda _: False
    again: Callable[[list[Row]], Any] | None = None
    most: int | None = None
    unsure: Callable[[Row], bool] | None = None

    @property
    def on(self) -> bool:
        """Whether it finds rows by `id` whatever the table's key is: an upsert."""
        return self.again is not None

    def tripped(self, rows: Rows, columns: Sequence[str]) -> bool:
        """Whether it would go past its brake on these rows."""
        if self.most is None:
            return False
        if self.unsure is not None:
            return sum(map(self.unsure, rows.values())) > self.most
        return self.effect(rows, columns).size > self.most


def updating(new: Callable[[Row], Row], where: Callable[[Row], bool] = lambda _: True) -> Any:
    """The effect of an update: rows whose values really change."""

    def effect(rows: Rows, columns: Sequence[str]) -> Change:
        updated = {}
        for number, row in rows.items():
            if where(row):
                values = {name: value for name, value in new(row).items() if row[name] != value}
                if values:
                    updated[number] = values
        return Change(updated)

    return effect


def deleting(where: Callable[[Row], bool]) -> Any:
    """The effect of a delete."""
    return lambda rows, _: Change(deleted=frozenset(number for number, row in rows.items() if where(row)))


def upserting(source: list[Row], when: str) -> Any:
    """The effect of an upsert on `id`; columns that the source does not give are null."""

    def effect(rows: Rows, columns: Sequence[str]) -> Change:
        there = {row["id"]: number for number, row in rows.items()}
        whole = [{name: given.get(name) for name in columns} for given in source]
        updated = {}
        for row in whole:
            if row["id"] in there and when == "overwrite":
                old = rows[there[row["id"]]]
                if old != row:
                    updated[there[row["id"]]] = row
        return Change(updated, tuple(row for row in whole if row["id"] not in there))

    return effect


def differing(source: list[Row]) -> Callable[[Rows], bool]:
    """Whether a row of the source is there with other values."""

    def refuses(rows: Rows) -> bool:
        there = {row["id"]: row for row in rows.values()}
        return any(
            row["id"] in there and {**dict.fromkeys(there[row["id"]]), **row} != there[row["id"]]
            for row in source
        )

    return refuses


def plus(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else a + b


def even(x: int | None) -> bool:
    return x is not None and x % 2 == 0


def above(x: int | None, limit: int) -> bool:
    return x is not None and x > limit


def values_of(table: str, number: int) -> Iterator[Operation]:
    """Value changes of a table; `number` makes the ones of each operation distinct."""

    def value(name: str, text: str, effect: Any, **more: Any) -> Operation:
        return Operation(name, table, text.format(t=f'table="{table}"'), "value", effect, **more)

    yield value(
        "add one", 'UpdateRows({t}, set={{"x": "x + 1"}})', updating(lambda r: {"x": plus(r["x"], 1)})
    )
    yield value(
        "double the big",
        'UpdateRows({t}, set={{"x": "x * 2"}}, where="x > 15")',
        updating(lambda r: {"x": r["x"] * 2}, lambda r: above(r["x"], 15)),
    )
    yield value(
        "swap",
        'UpdateRows({t}, set={{"x": "y", "y": "x"}}, where="id < 4")',
        updating(lambda r: {"x": r["y"], "y": r["x"]}, lambda r: r["id"] < 4),
    )
    yield value(
        "fill from x",
        'BackfillColumns({t}, columns=("y",), reads=("x",), using=filled)',
        updating(lambda r: {"y": r["x"] + 100}, lambda r: even(r["x"])),
    )
    for when in ("error", "overwrite", "keep"):
        source: list[Row] = [{"id": 50 + number, "x": 7, "y": 7}]
        if when != "error":
            source = [{"id": 2, "x": -2, "y": number}, {"id": 6, "x": 6}, *source]
        yield value(
            f"upsert, {when}",
            f'UpsertRows({{t}}, on=("id",), when_exists="{when}", rows={source!r})'.replace(
                f"{source!r}", f"{source!r}".replace("{", "{{").replace("}", "}}")
            ),
            upserting(source, when),
            refuses=differing(source) if when == "error" else (lambda _: False),
            again=partial(upserting, when=when),
        )
    yield value("delete the big", 'DeleteRows({t}, where="x > 25")', deleting(lambda r: above(r["x"], 25)))
    yield value("delete one", 'DeleteRows({t}, where="id = 3")', deleting(lambda r: r["id"] == 3))
    yield value(
        "add ten to few",
        'UpdateRows({t}, set={{"x": "x + 10"}}, where="x > 25", max_rows=3)',
        updating(lambda r: {"x": r["x"] + 10}, lambda r: above(r["x"], 25)),
        most=3,
    )
    yield value(
        "delete few",
        'DeleteRows({t}, where="y > 3", max_rows=3)',
        deleting(lambda r: above(r["y"], 3)),
        most=3,
    )
    yield value(
        "fill from x, mostly",
        'BackfillColumns({t}, columns=("y",), reads=("x",), using=filled, max_indeterminate=2)',
        updating(lambda r: {"y": r["x"] + 100}, lambda r: even(r["x"])),
        most=2,
        unsure=lambda r: not even(r["x"]),
    )


def schema_of(table: str, number: int) -> Iterator[Operation]:
    """Additive operations; the columns, indices and tables they make are called by `number`."""
    column, index, made = f"c{number}", f"i{number}", f"w{number}"

    def adding(name: str, how: str, fill: Any) -> Operation:
        text = f'AddColumn(table="{table}", column="{column}: int64"{how})'
        return Operation(name, table, text, "column", column=column, fill=fill)

    yield adding("add an empty column", "", None)
    yield adding("add a column by sql", ', sql="x + id"', lambda r: plus(r["x"], r["id"]))
    yield adding(
        "add a column by a function",
        ', using=squared, reads=("x",)',
        lambda r: None if r["x"] is None else 1000 - r["x"],
    )
    yield Operation(
        "index x",
        table,
        f'CreateIndex(table="{table}", column="x", type="BTREE", name="{index}")',
        "index",
        column=index,
    )
    yield Operation(
        "set metadata",
        table,
        f'SetMetadata(table="{table}", metadata={{"unit": "{number}"}})',
        "metadata",
    )
    rows = tuple({"id": n, "x": n * number, "y": None} for n in range(2))
    yield Operation(
        "create a table",
        made,
        f'CreateTable(table="{made}", key=("id",), schema=["id: int64", "x: int64", "y: int64"], '
        f"rows={list(rows)!r})",
        "table",
        rows=rows,
    )


def pool(number: int) -> list[Operation]:
    """All operations that may come as number `number`."""
    return [
        operation
        for table in ("t", "u")
        for operation in (*values_of(table, number), *schema_of(table, number))
        if table == "t" or operation.kind != "table"
    ]


def dropping(table: str, index: str) -> Operation:
    """Drop an index that an earlier operation made."""
    return Operation(
        "drop an index", table, f'DropIndex(table="{table}", name="{index}")', "no index", column=index
    )


def correcting(table: str, column: str) -> Operation:
    """Change a column that an earlier operation added."""
    return Operation(
        "correct an added column",
        table,
        f'UpdateRows(table="{table}", set={{"{column}": "{column} + 5"}})',
        "value",
        updating(lambda r: {column: plus(r[column], 5)}),
    )
