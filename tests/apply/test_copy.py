"""A root is copied whole, once, and proven; whatever is at work at either end meanwhile."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from dying import Died, DyingObjects, Fate
from lab import ROOT, Lab
from scenes import deaths
from servers import NewPlace

from lancemig.apply.environment import Progress
from lancemig.apply.retention import copy
from lancemig.apply.retention.archive import side_of
from lancemig.apply.retention.copy import (
    RECORD,
    CopyRequest,
    CopySide,
    bring_back,
    copy_root,
    read_record,
    snapshot,
)
from lancemig.errors import PlanError, Refused, StoreError, VerifyFailed
from lancemig.store.objects import Objects, open_objects

TABLES = """
    CreateTable(table="t", schema=pa.schema([("id", pa.int64()), ("x", pa.float64())]), key=("id",),
                rows=[{"id": n, "x": n / 2} for n in range(5)]),
    CreateIndex(table="t", column="id", type="BTREE"),
    CreateTable(table="u", schema=pa.schema([("id", pa.int64())]), rows=[{"id": 1}]),
"""
WAYS = [
    ("local", "local"),
    *(
        pytest.param(way, marks=pytest.mark.s3)
        for way in [("local", "moto"), ("moto", "local"), ("moto", "moto")]
    ),
]


def catalog_in(folder: Path, new_place: NewPlace, kind: str) -> Lab:
    lab = Lab(folder / "lab", new_place(kind))
    lab.revision(TABLES)
    lab.upgrade()
    lab.append("t", [{"id": 9, "x": 9.0}])
    return lab


def source_of(lab: Lab) -> CopySide:
    return side_of(lab.catalog().store, ROOT)


def empty(new_place: NewPlace, kind: str) -> CopySide:
    place = new_place(kind)
    return CopySide(open_objects(f"{place.store}/backup", place.options), "", "catalog/", place.options)


def rows(side: CopySide, name: str = "t") -> list[dict[str, Any]]:
    return side.tables.open(side.root, name).read().sort_by("id").to_pylist()


@dataclass
class Counted(DyingObjects):
    """Objects that remember which keys they were sent."""

    received: list[str] = field(default_factory=list)

    def copy_from(
        self, source: Objects, pairs: Sequence[tuple[str, str]], on_copied: Any = lambda _: None
    ) -> None:
        self.received += [key for _, key in pairs]
        super().copy_from(source, pairs, on_copied)


@pytest.mark.slow
@pytest.mark.parametrize("kinds", WAYS)
def test_a_copy_that_dies_anywhere_goes_on_and_sends_nothing_twice(
    kinds: tuple[str, str],
    new_place: NewPlace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    subtests: pytest.Subtests,
) -> None:
    monkeypatch.setattr(copy, "AT_ONCE", 4)
    lab = catalog_in(tmp_path, new_place, kinds[0])
    source, environment = source_of(lab), lab.catalog().environment

    def copied(fate: Fate, target: CopySide, counted: Counted) -> None:
        dying = CopySide(DyingObjects(counted, fate), target.root, target.catalog_dir)
        copy_root(CopyRequest(source, dying), environment)

    usual, first = Fate(), empty(new_place, kinds[1])
    copied(usual, first, Counted(first.objects, Fate()))
    assert rows(first) == rows(source)
    whole = read_record(first)[0]
    assert len(usual.effects) > 5
    moments = deaths(usual.effects, all_of_them=kinds == ("local", "local"))
    for at, how in moments:
        with subtests.test(f"{how} effect {at}: {usual.effects[at - 1]}"):
            target = empty(new_place, kinds[1])
            counted = Counted(target.objects, Fate())
            with pytest.raises(Died):
                copied(Fate(at, how), target, counted)
            there = target.tables.find("", "t")
            assert there is None or there.count() == 6, "what can be opened is whole"
            copied(Fate(), target, counted)
            assert len(set(counted.received)) == len(counted.received), "sent twice"
            assert rows(target) == rows(source)
            found = read_record(target)[0]
            assert found is not None
            assert whole is not None
            assert found.digest == whole.digest


def test_a_root_that_is_written_to_is_copied_as_it_was_listed(new_place: NewPlace, tmp_path: Path) -> None:
    lab = catalog_in(tmp_path, new_place, "local")
    target = empty(new_place, "local")

    def written(progress: Progress) -> None:
        if "comparing" in progress.text:
            lab.append("t", [{"id": 100, "x": 0.0}])

    made = copy_root(CopyRequest(source_of(lab), target, on_progress=written), lab.catalog().environment)
    assert [row["id"] for row in rows(target)] == [0, 1, 2, 3, 4, 9]
    assert len(lab.rows("t")) > 6
    again = copy_root(CopyRequest(source_of(lab), target), lab.catalog().environment)
    assert 0 < again.sent < made.sent
    assert rows(target) == lab.rows("t")


def test_a_root_that_is_cleaned_up_meanwhile_is_copied_as_it_is_then(
    new_place: NewPlace, tmp_path: Path
) -> None:
    lab = catalog_in(tmp_path, new_place, "local")
    target, told = empty(new_place, "local"), []

    def cleaned(progress: object) -> None:
        if not told:
            told.append(progress)
            dataset = lab.dataset("t")
            dataset.optimize.compact_files()
            dataset.cleanup_old_versions(older_than=timedelta(0), delete_unverified=True)

    copy_root(CopyRequest(source_of(lab), target, on_progress=cleaned), lab.catalog().environment)
    assert rows(target) == lab.rows("t")
    assert target.tables.open("", "t").version == lab.dataset("t").version


def test_another_history_of_the_same_name_is_not_mixed_in(new_place: NewPlace, tmp_path: Path) -> None:
    lab = catalog_in(tmp_path, new_place, "local")
    source, target = source_of(lab), empty(new_place, "local")
    copy_root(CopyRequest(source, target), lab.catalog().environment)
    for item in list(source.objects.list(f"{ROOT}catalog/t.lance/_versions")):
        newest = min(one.key for one in source.objects.list(f"{ROOT}catalog/t.lance/_versions"))
        if item.key == newest:
            source.objects.delete([item.key])
    with pytest.raises(Refused, match="has version 3 of table t, but"):
        copy_root(CopyRequest(source, target), lab.catalog().environment)


def test_files_that_are_borrowed_are_not_copied_without_their_lender(
    new_place: NewPlace, tmp_path: Path
) -> None:
    lab = catalog_in(tmp_path, new_place, "local")
    tables = lab.catalog().store.tables
    tables.clone(tables.open(ROOT, "t"), "clone/", "t")
    with pytest.raises(PlanError, match=r"table t in .* borrows files") as refused:
        copy_root(
            CopyRequest(side_of(lab.catalog().store, "clone/"), empty(new_place, "local")),
            lab.catalog().environment,
        )
    assert "lancemig detach" in str(refused.value)


@pytest.mark.parametrize("kind", ["local", pytest.param("moto", marks=pytest.mark.s3)])
def test_a_root_that_is_gone_is_brought_back_as_it_was(
    kind: str, new_place: NewPlace, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    lab = catalog_in(tmp_path, new_place, kind)
    source, target = source_of(lab), empty(new_place, "local")
    before, listed = rows(source), snapshot(source)
    made = copy_root(CopyRequest(source, target), lab.catalog().environment)
    for left in (0, 3, len(listed)):
        with subtests.test(f"{left} objects are left"):
            source.objects.delete([item.key for item in list(listed.values())[left:]])
            back = bring_back(CopyRequest(target, source), made.copied)
            assert back.sent == len(listed) - left
            assert rows(source) == before
            assert snapshot(source) == listed
            assert source.tables.guards(ROOT, "t")


def test_a_copy_that_was_tampered_with_is_not_brought_back(new_place: NewPlace, tmp_path: Path) -> None:
    lab = catalog_in(tmp_path, new_place, "local")
    source, target = source_of(lab), empty(new_place, "local")
    made = copy_root(CopyRequest(source, target), lab.catalog().environment)
    source.objects.delete([item.key for item in source.listing().values()])
    file = next(Path(target.objects.uri).rglob("*.lance/data/*.lance"))
    body = file.read_bytes()
    file.write_bytes(os.urandom(len(body)))
    with pytest.raises(VerifyFailed, match=file.name):
        bring_back(CopyRequest(target, source), made.copied)
    assert source.listing() == {}
    file.write_bytes(body)
    (Path(target.objects.uri) / RECORD).write_text('{"format": 1, "source": "elsewhere", "complete": true}')
    with pytest.raises(VerifyFailed, match="does not have the copy"):
        bring_back(CopyRequest(target, source), made.copied)
    (Path(target.objects.uri) / RECORD).write_text("{}")
    with pytest.raises(StoreError, match="is not a valid copy record"):
        bring_back(CopyRequest(target, source), made.copied)
