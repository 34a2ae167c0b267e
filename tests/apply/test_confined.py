"""What a build cannot do: write anywhere but below its own prefix, tried through every door that it has."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from lab import ROOT, Lab
from servers import Place

from lancemig.apply import rebuild
from lancemig.apply.store import Store
from lancemig.catalog.lineage import LineageEntry, Pointer
from lancemig.errors import StoreError
from lancemig.store.lance import Layout, Stamp, staging, writing
from lancemig.store.lance.patches import patch, with_column

STAGED = "staged-1/"
STAMP = Stamp("run", "", "0")


def begun(folder: Path, place: Place) -> Lab:
    lab = Lab(folder, place)
    lab.revision("""CreateTable(table="t", key=("id",), schema={"id": "int64", "x": "float64"},
                                rows=[{"id": 1, "x": 1.0}])""")
    lab.upgrade()
    return lab


@pytest.fixture
def lab(tmp_path: Path, place: Place) -> Lab:
    return begun(tmp_path, place)


def everything(lab: Lab) -> dict[str, int]:
    return {item.key: item.size for item in lab.catalog().store.objects.list("")}


def refused(lab: Lab, attempt: Callable[[], object]) -> None:
    before = everything(lab)
    with pytest.raises(StoreError, match="outside the area that this stage of the run may write to"):
        attempt()
    assert everything(lab) == before


def last_entry(store: Store) -> LineageEntry:
    return next(store.pointers.chain(store.pointers.read().pointer)).model_copy(update={"seq": 9})


def ways_to_write(store: Store) -> dict[str, Callable[[], object]]:
    objects, tables = store.objects, store.tables
    live = tables.open(ROOT, "t")
    schema, copy = live.schema(), f"{ROOT}copy"
    return {
        "an object": lambda: objects.write_if(f"{ROOT}x", b"x", None),
        "the pointer": lambda: objects.write_if(store.pointer_key, b"{}", None),
        "another run's root": lambda: objects.write_if("staged-12/x", b"x", None),
        "a way around": lambda: objects.write_if(f"{STAGED}../{ROOT}x", b"x", None),
        "a deletion": lambda: objects.delete([store.pointer_key]),
        "a copy": lambda: objects.copy([(store.pointer_key, f"{STAGED}x"), (store.pointer_key, copy)]),
        "a publication": lambda: store.pointers.publish(
            store.pointers.read(), last_entry(store), Pointer(active_prefix="")
        ),
        "a carried table": lambda: tables.carry(live, ROOT, "u"),
        "a clone": lambda: tables.clone(live, "elsewhere/", "u"),
        "a table": lambda: tables.written(ROOT, "u", schema, [], Layout()),
        "a table's content": lambda: tables.written(ROOT, "t", schema, [], Layout(), live.version),
        "a column": lambda: staging.null_column(live, pa.field("new", pa.int8()), {}),
        "rows": lambda: writing.appended_rows(live, live.batches(), tables.options()),
        "no rows": lambda: staging.deleted_rows(live, "id = 1"),
        "values": lambda: patch(live, live.fragments[0], live.read(["x"], row_ids=True)),
        "a file": lambda: with_column(live, pa.field("new", pa.int8()), []),
    }


@pytest.fixture
def local(tmp_path: Path, local_place: Place) -> Lab:
    return begun(tmp_path, local_place)


def test_a_build_cannot_write_elsewhere(local: Lab, subtests: pytest.Subtests) -> None:
    for name, attempt in ways_to_write(local.catalog().store.staging(STAGED, "run")).items():
        with subtests.test(name):
            refused(local, attempt)


def test_what_was_staged_before_cannot_be_committed(lab: Lab) -> None:
    store = lab.catalog().store
    live = store.tables.open(ROOT, "t")
    staged = staging.metadata_entries(live, {"a": "b"}, None)
    confined = store.staging(STAGED, "run").tables
    refused(lab, lambda: confined.commit(live, staged, STAMP))
    created = store.tables.written(ROOT, "u", live.schema(), [], Layout())
    refused(lab, lambda: confined.create(ROOT, "u", created, Layout(), STAMP))


def test_below_its_prefix_and_in_its_scratch_a_build_writes_and_live_tables_are_guarded(lab: Lab) -> None:
    store = lab.catalog().store.staging(STAGED, "run")
    live = store.tables.open(ROOT, "t")
    store.tables.carry(live, STAGED, "t")
    store.tables.clone(live, STAGED, "u")
    for name in ("t", "u"):
        own = store.tables.open(STAGED, name)
        staged = staging.null_column(own, pa.field("new", pa.int8()), {})
        store.tables.commit(own, staged, STAMP)
    store.objects.write_if(f"{store.scratch('run')}answers/x", b"x", None)
    store.tables.guard(live, "lancemig/run/v1")
    assert "lancemig/run/v1" in store.tables.guards(ROOT, "t")
    assert store.tables.open(STAGED, "u").columns.names == ["id", "x", "new"]


def test_all_that_builds_has_only_that_door(local: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    local.revision('RenameColumn(table="t", column="x", to="y")')
    tried: list[str] = []

    def trying(phase: Any) -> Any:
        def tries(context: Any, *rest: Any) -> Any:
            for attempt in (
                lambda: staging.deleted_rows(context.store.tables.open(ROOT, "t"), "true"),
                lambda: context.store.objects.delete(["ACTIVE.json"]),
            ):
                with pytest.raises(StoreError, match="outside"):
                    attempt()
            tried.append(phase.__name__)
            return phase(context, *rest)

        return tries

    for name in ("_carry_files", "_perform", "catch_up"):
        monkeypatch.setattr(rebuild, name, trying(getattr(rebuild, name)))
    local.upgrade()
    assert tried == ["_carry_files", "_perform", "catch_up"]
    assert local.rows("t") == [{"id": 1, "y": 1.0}]
