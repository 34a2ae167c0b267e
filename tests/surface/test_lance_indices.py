"""Indices: staged, replaced, dropped, read back, and shared with lancedb's own core."""

from collections.abc import Iterable
from pathlib import Path

import lance
import lancedb
import pyarrow as pa
import pytest
from lance import LanceDataset, LanceOperation, Transaction
from lance.dataset import Index

ROWS = 600
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("cat", pa.int32()),
        ("txt", pa.string()),
        ("tags", pa.list_(pa.string())),
        ("vec", pa.list_(pa.float32(), 8)),
    ]
)


def rows(count: int = ROWS) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "id": i,
                "cat": i % 5,
                "txt": f"word{i % 7} hello",
                "tags": [f"t{i % 3}", "z"],
                "vec": [(i * i * k + 7 * i) % 1009 / 1009 for k in range(1, 9)],
            }
            for i in range(count)
        ],
        schema=SCHEMA,
    )


def table(folder: Path, count: int = ROWS, *, stable: bool = False) -> LanceDataset:
    written = lance.write_dataset(
        rows(count), folder / "t.lance", max_rows_per_file=300, enable_stable_row_ids=stable
    )
    return lance.dataset(written.uri)


def staged(ds: LanceDataset, column: str, kind: str, **params: object) -> Index:
    segment = ds.create_index_uncommitted(
        column, kind, fragment_ids=[f.fragment_id for f in ds.get_fragments()], **params
    )
    if kind in ("INVERTED", "FTS"):
        ds.merge_index_metadata(str(segment.uuid), "INVERTED")
    return segment


def commit(ds: LanceDataset, new: Iterable[Index], removed: Iterable[Index] = ()) -> LanceDataset:
    operation = LanceOperation.CreateIndex(list(new), list(removed))
    LanceDataset.commit(
        ds.uri, Transaction(ds.version, operation, transaction_properties={"lancemig.run": "r"})
    )
    return lance.dataset(ds.uri)


def segments(ds: LanceDataset, name: str) -> list[Index]:
    return [
        Index(
            uuid=segment.uuid,
            name=index.name,
            fields=list(index.fields),
            dataset_version=segment.dataset_version_at_last_update,
            fragment_ids=set(segment.fragment_ids),
            index_version=segment.index_version,
            created_at=segment.created_at,
            base_id=segment.base_id,
        )
        for index in ds.describe_indices()
        if index.name == name
        for segment in index.segments
    ]


SCALAR = [
    ("id", "BTREE", "BTree", "id in (5, 211)"),
    ("cat", "BITMAP", "Bitmap", "cat = 2"),
    ("tags", "LABEL_LIST", "LabelList", "array_has_any(tags, ['t1'])"),
    ("id", "ZONEMAP", "ZoneMap", "id between 5 and 9"),
    ("id", "BLOOMFILTER", "BloomFilter", "id = 7"),
    ("txt", "NGRAM", "NGram", "contains(txt, 'word3')"),
]


@pytest.mark.parametrize(("column", "kind", "printed", "where"), SCALAR, ids=[s[1] for s in SCALAR])
def test_a_staged_scalar_index_is_used_and_answers_right(
    tmp_path: Path, column: str, kind: str, printed: str, where: str
) -> None:
    ds = table(tmp_path)
    after = commit(ds, [staged(ds, column, kind, name="ix")])
    assert [(i.index_type, i.num_rows_indexed) for i in after.describe_indices()] == [(printed, ROWS)]
    assert "ScalarIndex" in after.scanner(filter=where).explain_plan()
    full = after.to_table(filter=where, use_scalar_index=False)
    assert sorted(after.to_table(filter=where)["id"].to_pylist()) == full["id"].to_pylist()


@pytest.mark.parametrize("kind", ["INVERTED", "FTS"])
def test_a_staged_text_index_answers_only_when_its_metadata_was_merged(tmp_path: Path, kind: str) -> None:
    ds = table(tmp_path)
    after = commit(ds, [staged(ds, "txt", kind, name="ix")])
    assert after.to_table(full_text_query="word3", columns=["id"]).num_rows == 86
    raw = after.create_index_uncommitted("txt", kind, name="raw", replace=True, fragment_ids=[0, 1])
    broken = commit(after, [raw], segments(after, "ix"))
    with pytest.raises(ValueError, match=r"Not found: .*tokens\.lance"):
        broken.to_table(full_text_query="word3", columns=["id"])


VECTOR = [
    ("IVF_FLAT", {"num_partitions": 2}),
    ("IVF_PQ", {"num_partitions": 2, "num_sub_vectors": 2}),
    ("IVF_HNSW_SQ", {"num_partitions": 2, "m": 11, "ef_construction": 77}),
]


@pytest.mark.parametrize(("kind", "params"), VECTOR, ids=[v[0] for v in VECTOR])
def test_a_staged_vector_index_tells_what_it_was_made_with(
    tmp_path: Path, kind: str, params: dict[str, int]
) -> None:
    ds = table(tmp_path)
    after = commit(ds, [staged(ds, "vec", kind, name="ix", metric="cosine", **params)])
    (index,) = after.describe_indices()
    assert (index.index_type, index.details["metric_type"]) == (kind, "COSINE")
    assert after.stats.index_stats("ix")["indices"][0]["num_partitions"] == 2
    if kind == "IVF_PQ":
        assert index.details["compression"] == {"type": "pq", "num_bits": 8, "num_sub_vectors": 2}
    if kind == "IVF_HNSW_SQ":
        assert index.details["hnsw"]["max_connections"] == 11
        assert index.details["hnsw"]["construction_ef"] == 77
    near = after.to_table(
        nearest={"column": "vec", "q": pa.array([0.5] * 8, pa.float32()), "k": 5}, columns=["id"]
    )
    assert near.num_rows == 5


def test_a_text_index_tells_its_tokenizer(tmp_path: Path) -> None:
    ds = table(tmp_path)
    params = {"base_tokenizer": "whitespace", "with_position": True, "stem": False}
    after = commit(ds, [staged(ds, "txt", "INVERTED", name="ix", **params)])
    (index,) = after.describe_indices()
    assert {key: index.details[key] for key in params} == params


def test_a_zonemap_and_a_bloomfilter_tell_their_parameters_in_statistics(tmp_path: Path) -> None:
    ds = table(tmp_path)
    after = commit(ds, [staged(ds, "id", "ZONEMAP", name="z"), staged(ds, "id", "BLOOMFILTER", name="b")])
    assert "rows_per_zone" in after.stats.index_stats("z")["indices"][0]
    assert {"number_of_items", "probability"} <= set(after.stats.index_stats("b")["indices"][0])


@pytest.mark.parametrize(
    ("column", "kind"),
    [("id", "BTREE"), ("id", "BITMAP"), ("tags", "LABEL_LIST"), ("txt", "NGRAM"), ("id", "ZONEMAP"),
     ("id", "BLOOMFILTER"), ("vec", "IVF_FLAT")],
)  # fmt: skip
def test_lance_ignores_parameters_that_it_does_not_know(tmp_path: Path, column: str, kind: str) -> None:
    ds = table(tmp_path)
    more = {"num_partitions": 2, "distance_type": "cosine"} if kind.startswith("IVF") else {}
    after = commit(ds, [staged(ds, column, kind, name="ix", nonsense=1, **more)])
    if kind.startswith("IVF"):
        assert after.stats.index_stats("ix")["indices"][0]["metric_type"] == "l2"


def test_a_full_text_index_refuses_parameters_that_it_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nonsense"):
        staged(table(tmp_path), "txt", "INVERTED", name="ix", nonsense=1)


EMPTY_KINDS = [
    ("id", "BTREE"),
    ("tags", "LABEL_LIST"),
    ("txt", "INVERTED"),
    ("txt", "NGRAM"),
    ("id", "ZONEMAP"),
]


@pytest.mark.parametrize(("column", "kind"), EMPTY_KINDS, ids=[k[1] for k in EMPTY_KINDS])
def test_an_index_staged_on_an_empty_table_takes_rows_up_when_optimized(
    tmp_path: Path, column: str, kind: str
) -> None:
    ds = table(tmp_path, 0)
    after = commit(ds, [staged(ds, column, kind, name="ix")])
    lance.write_dataset(rows(), after.uri, mode="append")
    lance.dataset(ds.uri).optimize.optimize_indices()
    (index,) = lance.dataset(ds.uri).describe_indices()
    assert index.num_rows_indexed == ROWS


def test_a_bitmap_cannot_be_staged_on_an_empty_table_but_is_made_inline(tmp_path: Path) -> None:
    ds = table(tmp_path, 0)
    with pytest.raises(ValueError, match="requires train=true"):
        staged(ds, "cat", "BITMAP", name="ix")
    ds.create_scalar_index("cat", "BITMAP", name="ix")
    assert [i.name for i in lance.dataset(ds.uri).describe_indices()] == ["ix"]


@pytest.mark.parametrize("kind", ["IVF_FLAT", "IVF_SQ", "IVF_HNSW_FLAT", "IVF_HNSW_SQ"])
def test_a_vector_index_is_not_made_of_nulls(tmp_path: Path, kind: str) -> None:
    ds = lance.write_dataset(pa.Table.from_pylist([{"id": 1}], schema=SCHEMA), tmp_path / "t.lance")
    with pytest.raises(RuntimeError, match="with 0 vectors"):
        staged(ds, "vec", kind, name="ix")


@pytest.mark.parametrize("kind", ["IVF_FLAT", "IVF_PQ", "IVF_HNSW_SQ"])
def test_a_vector_index_of_an_empty_table_has_no_files_and_is_made_by_optimize(
    tmp_path: Path, kind: str
) -> None:
    ds = table(tmp_path, 0)
    params = {"num_partitions": 4, **({"num_sub_vectors": 2} if kind == "IVF_PQ" else {})}
    made = staged(ds, "vec", kind, name="ix", **params)
    assert not list((tmp_path / "t.lance").glob(f"_indices/{made.uuid}/*"))
    commit(ds, [made])
    lance.write_dataset(rows(), ds.uri, mode="append")
    lance.dataset(ds.uri).optimize.optimize_indices()
    statistics = lance.dataset(ds.uri).stats.index_stats("ix")
    assert statistics["num_indexed_rows"] == ROWS
    assert statistics["indices"][0]["num_partitions"] == 1


def test_the_transaction_of_an_index_tells_all_of_it(tmp_path: Path) -> None:
    ds = table(tmp_path, 0)
    ds.create_scalar_index("cat", "BITMAP", name="ix")
    (made,) = ds.read_transaction(ds.version).operation.new_indices
    other = table(tmp_path / "other", 0)
    for file in (tmp_path / "t.lance" / "_indices" / made.uuid).glob("*"):
        other.new_file_session().upload_file(file, f"_indices/{made.uuid}/{file.name}")
    after = commit(other, [made])
    lance.write_dataset(rows(), after.uri, mode="append")
    lance.dataset(after.uri).optimize.optimize_indices()
    (index,) = lance.dataset(after.uri).describe_indices()
    assert (index.index_type, index.num_rows_indexed) == ("Bitmap", ROWS)


def test_an_index_is_dropped_by_what_describe_indices_says(tmp_path: Path) -> None:
    ds = table(tmp_path)
    ds.create_scalar_index("id", "BTREE", name="ix")
    ds.create_scalar_index("cat", "BITMAP", name="kept")
    lance.write_dataset(rows(5), ds.uri, mode="append")
    lance.dataset(ds.uri).optimize.optimize_indices(num_indices_to_merge=0)
    ds = lance.dataset(ds.uri)
    assert len(segments(ds, "ix")) == 2
    after = commit(ds, [], segments(ds, "ix"))
    assert [i.name for i in after.describe_indices()] == ["kept"]
    assert after.count_rows("id < 3") == 6
    assert after.read_transaction(after.version).transaction_properties == {"lancemig.run": "r"}


def test_an_index_is_replaced_in_one_commit(tmp_path: Path) -> None:
    ds = table(tmp_path)
    ds.create_scalar_index("cat", "BITMAP", name="ix")
    ds = lance.dataset(ds.uri)
    new = staged(ds, "cat", "BTREE", name="ix", replace=True)
    after = commit(ds, [new], segments(ds, "ix"))
    assert [(i.index_type, len(i.segments)) for i in after.describe_indices()] == [("BTree", 1)]


def test_a_taken_index_name_is_refused_unless_replacing(tmp_path: Path) -> None:
    ds = table(tmp_path)
    ds.create_scalar_index("cat", "BITMAP", name="ix")
    with pytest.raises(RuntimeError, match="already exists"):
        staged(lance.dataset(ds.uri), "cat", "BTREE", name="ix")


def test_an_index_staged_while_its_column_was_dropped_breaks_every_filter(tmp_path: Path) -> None:
    ds = table(tmp_path)
    made = staged(ds, "cat", "BTREE", name="ix")
    lance.dataset(ds.uri).drop_columns(["cat"])
    after = commit(ds, [made])
    with pytest.raises(OSError, match="did not exist in the schema"):
        after.count_rows("id < 3")
    assert commit(after, [], segments(after, "ix")).count_rows("id < 3") == 3


@pytest.mark.parametrize(("named", "found"), [(True, ROWS), (False, 0)])
def test_an_update_that_does_not_name_its_fields_leaves_the_index_stale(
    tmp_path: Path, named: bool, found: int
) -> None:
    ds = table(tmp_path)
    ds.create_scalar_index("cat", "BTREE", name="ix")
    ds = lance.dataset(ds.uri)
    fragments, fields = [], set()
    for fragment in ds.get_fragments():
        values = ds.scanner(
            columns={"cat": "cast(99 as int)"}, fragments=[fragment], with_row_id=True
        ).to_table()
        new, modified = fragment.update_columns(values, left_on="_rowid", right_on="_rowid")
        fragments.append(new)
        fields |= set(modified)
    operation = LanceOperation.Update(
        updated_fragments=fragments,
        fields_modified=sorted(fields) if named else [],
        update_mode="rewrite_columns",
    )
    LanceDataset.commit(ds.uri, Transaction(ds.version, operation))
    assert lance.dataset(ds.uri).count_rows("cat = 99") == found


@pytest.mark.parametrize("stable", [False, True])
def test_a_btree_staged_here_survives_lancedbs_update_and_optimize(tmp_path: Path, stable: bool) -> None:
    ds = table(tmp_path, stable=stable)
    commit(ds, [staged(ds, "id", "BTREE", name="ix")])
    opened = lancedb.connect(tmp_path).open_table("t")
    opened.update(where="id < 100", values={"txt": "changed"})
    opened.optimize()
    assert lance.dataset(ds.uri).count_rows("id < 100") == 100
    assert opened.count_rows("id < 100") == 100
    opened.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(rows(3))
    assert lance.dataset(ds.uri).count_rows() == ROWS


@pytest.mark.parametrize("stable", [False, True])
def test_a_btree_is_written_in_the_version_lancedbs_core_maintains(tmp_path: Path, stable: bool) -> None:
    ds = table(tmp_path, stable=stable)
    assert staged(ds, "id", "BTREE", name="ix").index_version == 0


def test_a_table_too_small_for_its_partitions_gets_fewer(tmp_path: Path) -> None:
    ds = table(tmp_path, 300)
    made = staged(ds, "vec", "IVF_PQ", name="ix", num_partitions=2, num_sub_vectors=2)
    after = commit(ds, [made])
    assert after.stats.index_stats("ix")["indices"][0]["num_partitions"] == 1


def test_rows_whose_vectors_are_all_null_cannot_be_added_to_an_index(tmp_path: Path) -> None:
    """Read by store/lance/errors.py `is_of_null_vectors`; store/lance/indices.py `covering_nulls` helps."""
    of = pa.list_(pa.float32(), 2)
    ds = lance.write_dataset(
        pa.table({"v": pa.array([[float(n), 1.0] for n in range(300)], of)}), tmp_path / "t"
    )
    ds.create_index("v", "IVF_FLAT", num_partitions=2)
    ds = lance.write_dataset(pa.table({"v": pa.nulls(3, of)}), ds.uri, mode="append")
    with pytest.raises(OSError, match=r"Not found: .*/ivf_\d+\.lance"):
        ds.optimize.optimize_indices()
