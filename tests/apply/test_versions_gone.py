"""A writer removes the version that a step is staged from: the step is staged again, and lands once."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from lab import Lab
from servers import Place

from lancemig.apply.commit import committer as committers
from lancemig.errors import LancemigError
from lancemig.store.lance import Missing, Tables
from lancemig.store.lance.errors import Conflict, translated

ROWS = 'rows=[{"id": n, "x": float(n)} for n in range(6)]'


@pytest.fixture
def lab(tmp_path: Path, local_place: Place) -> Lab:
    lab = Lab(tmp_path, local_place)
    lab.revision(f'CreateTable(table="t", key=("id",), schema={{"id": "int64", "x": "float64"}}, {ROWS})')
    lab.upgrade()
    return lab


def cleaned(lab: Lab) -> None:
    """What another writer does: it rewrites everything, and removes all older versions at once."""
    table = lab.dataset("t")
    table.update({"x": "x + 0.0"}, where="id >= 0")
    table.optimize.compact_files()
    lab.dataset("t").cleanup_old_versions(older_than=timedelta(0), delete_unverified=True)


OPERATIONS = {
    "UpdateRows": 'UpdateRows(table="t", set={"x": "x * 2"})',
    "BackfillColumns": 'BackfillColumns(table="t", columns=("x",), reads=("x",), using=doubled)',
    "AddColumn": 'AddColumn(table="t", column=pa.field("y", pa.float64()), sql="x * 2")',
    "UpsertRows": 'UpsertRows(table="t", rows=[{"id": 1, "x": 9.0}], on=("id",), when_exists="overwrite")',
    "DeleteRows": 'DeleteRows(table="t", where="id = 3")',
    "CreateIndex": 'CreateIndex(table="t", column="x", type="BTREE")',
}
DOUBLED = "def doubled(batch):\n    return pc.multiply(batch.column('x'), 2.0)"


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=list(OPERATIONS))
@pytest.mark.parametrize("moment", ["staging", "commit"])
def test_a_step_is_staged_again_and_lands_once(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, operation: str, moment: str
) -> None:
    lab.revision(operation, above=DOUBLED)
    commit, attempt = Tables.commit, committers._StagedAgain.attempt
    done: list[str] = []

    def before(make: Callable[..., Any]) -> Callable[..., Any]:
        def made(*arguments: Any) -> Any:
            if not done:
                done.append(moment)
                cleaned(lab)
            return make(*arguments)

        return made

    if moment == "commit":
        monkeypatch.setattr(Tables, "commit", before(commit))
    else:
        monkeypatch.setattr(committers._StagedAgain, "attempt", before(attempt))
    lab.upgrade()
    assert done
    rows = {row["id"]: row for row in lab.rows("t")}
    expected = {
        "UpdateRows": lambda: rows[5]["x"] == 10.0 and rows[0]["x"] == 0.0,
        "BackfillColumns": lambda: rows[5]["x"] == 10.0,
        "AddColumn": lambda: rows[5]["y"] == 10.0,
        "UpsertRows": lambda: rows[1]["x"] == 9.0 and len(rows) == 6,
        "DeleteRows": lambda: set(rows) == {0, 1, 2, 4, 5},
        "CreateIndex": lambda: len(lab.dataset("t").describe_indices()) == 1,
    }
    name = next(name for name, text in OPERATIONS.items() if text == operation)
    assert expected[name]()


def test_a_damaged_newest_version_is_reported_and_not_tried_for_ever(lab: Lab) -> None:
    lab.revision(OPERATIONS["UpdateRows"])
    for path in (Path(lab.place.store) / "v1/catalog/t.lance/data").iterdir():
        path.unlink()
    with pytest.raises(Missing) as raised:
        lab.upgrade()
    assert "lancemig recover --undo" in (raised.value.next_step or "")


def test_no_internal_error_leaves_the_store_untranslated() -> None:
    """Every exception class of store/lance is one that the command line reports with a next command."""
    from lancemig.store.lance import errors

    classes = [
        each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)
    ]
    own = [each for each in classes if each.__module__ == errors.__name__]
    assert {Conflict, Missing} <= set(own)
    assert all(issubclass(each, LancemigError) for each in own)
    assert Missing("gone").next_step
    assert Conflict("lost").next_step


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError("Not found: data/t.lance/_versions/3.manifest"), Missing),
        (ValueError("Dataset at path data/t.lance was not found"), Missing),
        (OSError("Not found: x/t.lance/data/1.lance"), Missing),
        (OSError("Retryable commit conflict for version 3"), Conflict),
        (RuntimeError("Too many concurrent writers"), Conflict),
        (MemoryError("no memory"), LancemigError),
        (KeyError("x"), LancemigError),
        (TypeError("x"), LancemigError),
    ],
)
def test_what_lance_raises_is_translated(error: Exception, kind: type[LancemigError]) -> None:
    with pytest.raises(kind) as raised, translated("doing"):
        raise error
    assert raised.value.next_step
