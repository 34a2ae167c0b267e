"""Which files make up a version, and that linking just these makes a table."""

from pathlib import Path

import lance
import pyarrow as pa
import pytest
from lance import LanceDataset
from servers import Place

from lancemig.store.objects import open_objects

SCHEMA = pa.schema(
    [("id", pa.int64()), ("x", pa.float64()), ("s", pa.string())],
    metadata={"lancemig.key": "id"},
)


def rows(count: int, start: int = 0) -> pa.Table:
    return pa.Table.from_pylist(
        [{"id": i, "x": i / 2, "s": f"s{i}"} for i in range(start, start + count)], schema=SCHEMA
    )


def lived_in(folder: Path, *, stable: bool) -> LanceDataset:
    """A table with an index, deletions, an update, configuration, a branch and a tag."""
    ds = lance.write_dataset(rows(20), folder / "t.lance", max_rows_per_file=10, enable_stable_row_ids=stable)
    ds.create_scalar_index("id", "BTREE")
    ds.delete("id = 3")
    ds.update({"s": "'u'"}, where="id = 15")
    ds.update_config({"lancemig.c": "1"})
    ds.update_metadata({"t": "m"})
    ds.create_branch("lancemig/r/t", 2)
    ds.tags.create("v1", 1)
    return lance.dataset(ds.uri)


def files_of(ds: LanceDataset, version: int) -> list[str]:
    tracked = ds.tracked_files().read_all().to_pylist()
    return [row["path"] for row in tracked if row["version"] == version]


def linked(ds: LanceDataset, version: int, to: Path) -> LanceDataset:
    for path in files_of(ds, version):
        target = to / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.hardlink_to(Path(ds.uri, path))
    return lance.dataset(to)


@pytest.mark.parametrize("stable", [False, True])
@pytest.mark.parametrize("version", [2, 6])
def test_the_tracked_files_of_a_version_linked_elsewhere_are_that_version(
    tmp_path: Path, version: int, stable: bool
) -> None:
    ds = lived_in(tmp_path, stable=stable)
    source = lance.dataset(ds.uri, version=version)
    copy = linked(ds, version, tmp_path / "copy.lance")
    assert copy.version == version
    assert copy.scanner(with_row_id=True).to_table().equals(source.scanner(with_row_id=True).to_table())
    assert copy.schema.equals(source.schema, check_metadata=True)
    assert (copy.config(), copy.metadata) == (source.config(), source.metadata)
    assert copy.has_stable_row_ids == stable
    assert [(i.name, i.num_rows_indexed) for i in copy.describe_indices()] == [
        (i.name, i.num_rows_indexed) for i in source.describe_indices()
    ]
    assert copy.count_rows("id < 5") == source.count_rows("id < 5")


def test_a_linked_version_has_no_history_branches_or_tags(tmp_path: Path) -> None:
    ds = lived_in(tmp_path, stable=False)
    copy = linked(ds, ds.version, tmp_path / "copy.lance")
    assert [v["version"] for v in copy.versions()] == [ds.version]
    assert copy.branches.list() == {}
    assert copy.tags.list() == {}


@pytest.mark.parametrize("stable", [False, True])
def test_writing_to_a_linked_version_leaves_its_source_whole(tmp_path: Path, stable: bool) -> None:
    ds = lived_in(tmp_path, stable=stable)
    before = ds.to_table()
    copy = linked(ds, ds.version, tmp_path / "copy.lance")
    lance.write_dataset(rows(3, 900), copy.uri, mode="append")
    copy = lance.dataset(copy.uri)
    copy.delete("id = 7")
    copy.optimize.compact_files()
    copy.optimize.optimize_indices()
    lance.dataset(copy.uri).cleanup_old_versions(retain_versions=1, delete_unverified=True)
    source = lance.dataset(ds.uri)
    source.validate()
    assert source.version == ds.version
    assert source.to_table().equals(before)
    assert lance.dataset(copy.uri).count_rows("id >= 900") == 3


def test_tracked_files_name_their_kind(tmp_path: Path) -> None:
    ds = lived_in(tmp_path, stable=False)
    tracked = ds.tracked_files().read_all()
    assert tracked.schema.names == ["version", "base_uri", "path", "type"]
    assert set(tracked["type"].to_pylist()) == {
        "manifest",
        "transaction file",
        "data file",
        "deletion file",
        "index file",
    }


def test_all_files_also_lists_branches_refs_hints_and_sizes(tmp_path: Path) -> None:
    ds = lived_in(tmp_path, stable=False)
    found = ds.all_files().read_all()
    assert found.schema.names == ["base_uri", "path", "size_bytes", "last_modified"]
    on_disk = {p.relative_to(ds.uri).as_posix() for p in Path(ds.uri).rglob("*") if p.is_file()}
    assert set(found["path"].to_pylist()) == on_disk


def test_a_shallow_clones_files_name_another_base(tmp_path: Path) -> None:
    ds = lived_in(tmp_path, stable=False)
    clone = ds.shallow_clone(tmp_path / "clone.lance", ds.version)
    bases = set(clone.tracked_files().read_all()["base_uri"].to_pylist())
    assert len(bases) == 2


def test_blob_sidecars_are_not_tracked_and_lie_beside_their_data_file(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("id", pa.int64()), lance.blob_field("b")])
    blobs = lance.blob_array([b"x", b"y" * 200_000])
    ds = lance.write_dataset(
        pa.table([pa.array([1, 2]), blobs], schema=schema),
        tmp_path / "t.lance",
        data_storage_version="2.2",
    )
    stems = [path.removesuffix(".lance") for path in files_of(ds, 1) if path.startswith("data/")]
    on_disk = [p.relative_to(ds.uri).as_posix() for p in Path(ds.uri, "data").rglob("*") if p.is_file()]
    sidecars = [path for path in on_disk if path not in files_of(ds, 1)]
    assert len(sidecars) == 1
    assert sidecars[0].startswith(stems[0] + "/")
    assert sidecars[0].endswith(".blob")


@pytest.mark.parametrize("hint", [None, '{"version":1}', '{"version":99}', "not json"])
def test_a_wrong_or_missing_version_hint_misleads_nobody(tmp_path: Path, hint: str | None) -> None:
    ds = lived_in(tmp_path, stable=False)
    file = Path(ds.uri, "_versions", "latest_version_hint.json")
    file.unlink()
    if hint is not None:
        file.write_text(hint)
    assert lance.dataset(ds.uri).version == ds.version


def test_every_data_file_knows_its_size_without_a_request(tmp_path: Path) -> None:
    ds = lived_in(tmp_path, stable=False)
    lance.write_dataset(rows(3, 900), ds.uri, mode="append")
    ds = lance.dataset(ds.uri)
    sizes = {
        file.path: file.file_size_bytes for fragment in ds.get_fragments() for file in fragment.metadata.files
    }
    assert sizes == {path: Path(ds.uri, "data", path).stat().st_size for path in sizes}


def test_statistics_give_the_bytes_of_each_leaf_field(tmp_path: Path) -> None:
    ds = lived_in(tmp_path, stable=False)
    found = {field.id: field.bytes_on_disk for field in ds.stats.data_stats().fields}
    assert set(found) == {0, 1, 2}
    assert all(size > 0 for size in found.values())


@pytest.mark.s3
def test_a_deep_clone_of_a_shallow_clone_fails_on_an_object_store(s3_place: Place) -> None:
    objects = open_objects(s3_place.store, s3_place.options)
    options = objects.lance_options()
    source = lance.write_dataset(pa.table({"id": [1]}), f"{s3_place.store}/a.lance", storage_options=options)
    clone = source.shallow_clone(f"{s3_place.store}/b.lance", 1, storage_options=options)
    with pytest.raises(OSError, match="empty path segment"):
        clone.deep_clone(f"{s3_place.store}/c.lance", 1, storage_options=options)


def test_a_manifest_of_zeros_is_read_as_version_zero_without_columns(tmp_path: Path) -> None:
    """What a disk may leave that lost its power."""
    uri = lance.write_dataset(pa.table({"id": [1]}), tmp_path / "t").uri
    for path in (Path(uri) / "_versions").glob("*.manifest"):
        path.write_bytes(bytes(path.stat().st_size))
    found = lance.dataset(uri)
    assert (found.version, found.schema.names) == (0, [])
