"""DeduplicateRows: of the rows with the same key one stays, and the others come back."""

import pytest
from lab import Lab
from there_and_back import Case, Refusal

from lancemig.errors import PlanError

SCHEMA = 'schema=["id: int64", "at: int64", "x: float64"]'


def start(*rows: tuple[object, ...], more: str = "") -> str:
    listed = ", ".join(f'{{"id": {i!r}, "at": {at!r}, "x": {x!r}}}' for i, at, x in rows)
    return f'CreateTable(table="t", {more}{SCHEMA}, rows=[{listed}])'


def row(id_: object, at: object, x: object) -> dict[str, object]:
    return {"id": id_, "at": at, "x": x}


def do(more: str = "", key: str = '("id",)') -> str:
    return f'DeduplicateRows(table="t", key={key}{more})'


THREE = start((1, 5, 1.0), (2, 5, 2.0), (1, 7, 3.0), (1, 6, 4.0))


def second_fragment(lab: Lab) -> None:
    lab.append("t", [row(2, 9, 5.0), row(3, 1, 6.0)])


def the_same_again(lab: Lab) -> None:
    lab.append("t", lab.rows("t"))


def with_nan(lab: Lab) -> None:
    lab.append("t", [{"id": 3, "at": 1, "x": float("nan")}, {"id": 4, "at": 1, "x": float("nan")}])


CASES = [
    Case(
        "the first stays",
        start=THREE,
        do=do(),
        then={"t": [row(1, 5, 1.0), row(2, 5, 2.0)]},
        changed=2,
        everywhere=True,
    ),
    Case(
        "the newest stays",
        start=THREE,
        do=do(', order_by="at desc"'),
        then={"t": [row(2, 5, 2.0), row(1, 7, 3.0)]},
    ),
    Case(
        "by two columns, nulls and NaN last",
        start=start((1, None, 1.0), (1, 2, 0.5), (2, None, 1.0), (2, 1, None)),
        before=lambda lab: lab.append("t", [row(1, 2, float("nan"))]),
        do=do(', order_by="at desc, x desc"'),
        then={"t": [row(1, 2, 0.5), row(2, 1, None)]},
    ),
    Case(
        "across fragments",
        start=THREE,
        before=second_fragment,
        do=do(', order_by="at desc"'),
        then={"t": [row(1, 7, 3.0), row(2, 9, 5.0), row(3, 1, 6.0)]},
        changed=3,
    ),
    Case(
        "a whole fragment that was appended twice",
        start=start((1, 1, 1.0), (2, 2, 2.0)),
        before=the_same_again,
        do=do(),
        then={"t": [row(1, 1, 1.0), row(2, 2, 2.0)]},
        changed=2,
    ),
    Case(
        "a composite key",
        start=start((1, 5, 1.0), (1, 6, 2.0), (1, 5, 3.0)),
        do=do(key='("id", "at")'),
        then={"t": [row(1, 5, 1.0), row(1, 6, 2.0)]},
    ),
    Case(
        "a null in the key equals nothing",
        start=start((None, 1, 1.0), (None, 1, 1.0), (1, None, 2.0), (1, 1, 3.0)),
        do=do(),
        then={"t": [row(None, 1, 1.0), row(None, 1, 1.0), row(1, None, 2.0)]},
        changed=1,
    ),
    Case(
        "NaN equals NaN, and zero its negative",
        start=start((1, 1, 0.0), (2, 1, -0.0)),
        before=with_nan,
        do=do(key='("x",)'),
        then={"t": [row(1, 1, 0.0), row(3, 1, float("nan"))]},
        changed=2,
    ),
    Case("nothing is repeated", start=start((1, 1, 1.0)), do=do(), then={"t": [row(1, 1, 1.0)]}, changed=0),
    Case("an empty table", start=start(), do=do(), then={"t": []}, changed=0),
    Case(
        "in a table that declares the key",
        start=start((1, 1, 1.0), (2, 2, 2.0), more='key=("id",), '),
        before=lambda lab: lab.append("t", [row(1, 9, 9.0)]),
        do=do(),
        then={"t": [row(1, 1, 1.0), row(2, 2, 2.0)]},
        changed=1,
    ),
    Case(
        "then a key",
        start=THREE,
        do=do() + ', SetKey(table="t", key=("id",))',
        then={"t": [row(1, 5, 1.0), row(2, 5, 2.0)]},
        everywhere=True,
    ),
    Case(
        "after a change of values",
        start=THREE,
        do='UpdateRows(table="t", set={"id": "id % 2"}), ' + do(),
        then={"t": [row(1, 5, 1.0), row(0, 5, 2.0)]},
    ),
    Case(
        "with stable row ids",
        start=(THREE, 'RewriteTable(table="t", stable_row_ids=True)'),
        do=do(),
        then={"t": [row(1, 5, 1.0), row(2, 5, 2.0)]},
    ),
    Case(
        "in a staged root, with a key",
        start=THREE,
        do='RenameColumn(table="t", column="x", to="y"), ' + do() + ', SetKey(table="t", key=("id",))',
        then={"t": [{"id": 1, "at": 5, "y": 1.0}, {"id": 2, "at": 5, "y": 2.0}]},
        everywhere=True,
    ),
    Case(
        "in a staged root, without a key, by a renamed column",
        start=THREE,
        do='RenameColumn(table="t", column="id", to="no"), '
        + do(', order_by="at desc"', key='("no",)')
        + ', AddColumn(table="t", column="y: float64", sql="x * 2")',
        then={"t": [{"no": 2, "at": 5, "x": 2.0, "y": 4.0}, {"no": 1, "at": 7, "x": 3.0, "y": 6.0}]},
    ),
    Case(
        "in a staged root, by a computed column",
        start=THREE,
        do='RetypeColumn(table="t", column="id", to="string", using="\'a\'"), ' + do(),
        then={"t": [{"id": "a", "at": 5, "x": 1.0}]},
        irreversible="was computed by",
    ),
    Case(
        "in a staged root, with a column that the rows that go would give other values",
        start=THREE,
        do='RenameColumn(table="t", column="at", to="seen"), UpdateRows(table="t", set={"x": "x + seen"}), '
        + do(', order_by="seen"')
        + ', SetKey(table="t", key=("id",))',
        then={"t": [{"id": 2, "seen": 5, "x": 7.0}, {"id": 1, "seen": 5, "x": 6.0}]},
    ),
]

REFUSALS = [
    Refusal("an unknown column", start=THREE, do=do(key='("z",)'), error=PlanError, says=["'z'"]),
    Refusal("an unknown order", start=THREE, do=do(', order_by="z desc"'), error=PlanError, says=["z"]),
    Refusal(
        "a list as the key",
        start='CreateTable(table="t", schema=["id: list<int64>"])',
        do=do(),
        error=PlanError,
        says=["t.id is list<", "cannot be a key"],
    ),
    Refusal(
        "a struct as the order",
        start='CreateTable(table="t", schema=["id: int64", "s: struct<a: int64>"])',
        do=do(', order_by="s"'),
        error=PlanError,
        says=["t.s is struct<", "no order"],
    ),
]


@pytest.mark.parametrize("case", [*CASES, *REFUSALS], ids=str)
def test_deduplicate_rows(run, case):
    run(case)
