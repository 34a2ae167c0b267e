"""Staging an effect, then committing it with properties: what lands, and what is read back."""

import threading
from collections.abc import Callable
from pathlib import Path

import lance
import lancedb
import pyarrow as pa
import pytest
from lance import LanceDataset, LanceOperation, Transaction
from lance.fragment import write_fragments

PROPERTIES = {"lancemig.run": "r1", "lancemig.step": "2"}
SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64()),
        pa.field("x", pa.float64()),
        pa.field("s", pa.string()),
        pa.field("st", pa.struct([("a", pa.int32()), ("b", pa.string())])),
        pa.field("ls", pa.list_(pa.int32())),
        pa.field("vec", pa.list_(pa.float32(), 4)),
        pa.field("at", pa.timestamp("us", "UTC")),
        pa.field("d", pa.dictionary(pa.int32(), pa.string())),
    ],
    metadata={"lancemig.key": "id"},
)


def row(i: int) -> dict[str, object]:
    return {
        "id": i,
        "x": i / 2,
        "s": f"s{i}",
        "st": {"a": i, "b": str(i)},
        "ls": [i, i],
        "vec": [i, i, i, i],
        "at": i * 1000,
        "d": "even" if i % 2 == 0 else "odd",
    }


def rows(count: int, start: int = 0) -> pa.Table:
    found = [row(i) for i in range(start, start + count)]
    return pa.table(
        [
            pa.array([r[f.name] for r in found], f.type.value_type).dictionary_encode()
            if pa.types.is_dictionary(f.type)
            else pa.array([r[f.name] for r in found], f.type)
            for f in SCHEMA
        ],
        schema=SCHEMA,
    )


def table(folder: Path, *, stable: bool = False) -> LanceDataset:
    written = lance.write_dataset(
        rows(20), folder / "t.lance", max_rows_per_file=10, enable_stable_row_ids=stable
    )
    return lance.dataset(written.uri)


def stage_create(uri: Path, count: int = 3, *, stable: bool = False) -> Transaction:
    made = write_fragments(
        rows(count).to_reader(),
        uri,
        schema=SCHEMA,
        mode="create",
        return_transaction=True,
        enable_stable_row_ids=stable,
    )
    made.transaction_properties = PROPERTIES
    return made


def commit(ds: LanceDataset, operation: LanceOperation.BaseOperation) -> LanceDataset:
    made = Transaction(ds.version, operation, transaction_properties=PROPERTIES)
    LanceDataset.commit(ds.uri, made)
    return lance.dataset(ds.uri)


def put(ds: LanceDataset, values: pa.Table) -> LanceDataset:
    found, modified, offsets = [], set(), {}
    for fragment in ds.get_fragments():
        ids = ds.scanner(columns=["id"], fragments=[fragment], with_row_id=True).to_table()
        touched = values.filter(pa.compute.is_in(values["id"], value_set=ids["id"]))
        if not touched.num_rows:
            continue
        at = pa.compute.index_in(touched["id"], value_set=ids["id"])
        update = touched.drop(["id"]).append_column("_rowid", ids["_rowid"].take(at))
        new, fields, offset = fragment.update_columns(
            update, left_on="_rowid", right_on="_rowid", with_offsets=True
        )
        found.append(new)
        modified |= set(fields)
        offsets[fragment.fragment_id] = offset
    return commit(
        ds,
        LanceOperation.Update(
            updated_fragments=found,
            fields_modified=sorted(modified),
            update_mode="rewrite_columns",
            updated_fragment_offsets=offsets,
        ),
    )


@pytest.mark.parametrize("stable", [False, True])
@pytest.mark.parametrize("count", [0, 3])
def test_a_staged_create_keeps_metadata_and_properties(tmp_path: Path, count: int, stable: bool) -> None:
    uri = tmp_path / "t.lance"
    LanceDataset.commit(
        uri, stage_create(uri, count, stable=stable), enable_stable_row_ids=stable, max_retries=0
    )
    made = lance.dataset(uri)
    assert made.schema.equals(SCHEMA, check_metadata=True)
    assert (made.version, made.count_rows(), made.has_stable_row_ids) == (1, count, stable)
    assert made.read_transaction(1).transaction_properties == PROPERTIES


def test_lancedb_opens_and_appends_to_a_table_created_empty(tmp_path: Path) -> None:
    uri = tmp_path / "t.lance"
    LanceDataset.commit(uri, stage_create(uri, 0), max_retries=0)
    opened = lancedb.connect(tmp_path).open_table("t")
    opened.add(rows(2))
    assert opened.count_rows() == 2


def test_of_many_creators_without_retries_exactly_one_wins(tmp_path: Path) -> None:
    uri = tmp_path / "t.lance"
    made = [stage_create(uri, n) for n in range(1, 7)]
    start = threading.Barrier(len(made))
    won: list[int] = []
    errors: list[str] = []

    def create(n: int) -> None:
        start.wait()
        try:
            LanceDataset.commit(uri, made[n], max_retries=0)
        except OSError as error:
            errors.append(str(error))
        else:
            won.append(n + 1)

    threads = [threading.Thread(target=create, args=(n,)) for n in range(len(made))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert lance.dataset(uri).count_rows() == won[0]
    assert all("already exists" in e or "/0.manifest was not found" in e for e in errors)


def test_a_second_create_with_retries_silently_overwrites(tmp_path: Path) -> None:
    uri = tmp_path / "t.lance"
    first, second = stage_create(uri, 3), stage_create(uri, 4)
    LanceDataset.commit(uri, first)
    LanceDataset.commit(uri, second)
    assert lance.dataset(uri).count_rows() == 4


def test_a_create_staged_where_a_table_is_raises(tmp_path: Path) -> None:
    ds = table(tmp_path)
    with pytest.raises(OSError, match="Dataset already exists"):
        stage_create(Path(ds.uri))


def test_an_empty_staged_create_forgets_its_storage_version(tmp_path: Path) -> None:
    uri = tmp_path / "t.lance"
    made = write_fragments(rows(0), uri, mode="create", return_transaction=True, data_storage_version="2.1")
    LanceDataset.commit(uri, made)
    assert lance.dataset(uri).data_storage_version == "2.2"


def test_an_empty_write_dataset_keeps_its_storage_version_and_properties(tmp_path: Path) -> None:
    ds = lance.write_dataset(
        rows(0),
        tmp_path / "t.lance",
        data_storage_version="2.1",
        transaction_properties=PROPERTIES,
    )
    assert ds.data_storage_version == "2.1"
    assert ds.read_transaction(1).transaction_properties == PROPERTIES


def test_a_table_staged_but_not_committed_is_not_found(tmp_path: Path) -> None:
    stage_create(tmp_path / "t.lance")
    with pytest.raises(ValueError, match="was not found"):
        lance.dataset(tmp_path / "t.lance")


def test_an_append_committed_twice_lands_twice(tmp_path: Path) -> None:
    ds = table(tmp_path)
    made = write_fragments(rows(3, 50), ds, mode="append", return_transaction=True)
    LanceDataset.commit(ds.uri, made)
    LanceDataset.commit(ds.uri, made)
    assert lance.dataset(ds.uri).count_rows() == 26


def test_an_upsert_of_new_keys_committed_twice_lands_twice(tmp_path: Path) -> None:
    ds = table(tmp_path)
    made, _ = (
        ds.merge_insert("id")
        .when_matched_update_all()
        .when_not_matched_insert_all()
        .execute_uncommitted(rows(3, 50))
    )
    LanceDataset.commit(ds.uri, made)
    LanceDataset.commit(ds.uri, made)
    assert lance.dataset(ds.uri).count_rows() == 26


NEW_VALUES = pa.table({"id": pa.array([1, 2, 12], pa.int64())})


@pytest.mark.parametrize("stable", [False, True])
@pytest.mark.parametrize("name", SCHEMA.names[1:])
def test_update_columns_writes_any_type_and_nulls_and_leaves_the_rest(
    tmp_path: Path, name: str, stable: bool
) -> None:
    ds = table(tmp_path, stable=stable)
    ds.delete("id in (3, 13)")
    ds = lance.dataset(ds.uri)
    column = rows(20)[name].combine_chunks().take(pa.array([17, None, 18]))
    after = put(ds, NEW_VALUES.append_column(name, column))
    want = ds.to_table().to_pylist()
    for found in want:
        if found["id"] in (1, 2, 12):
            found[name] = column[[1, 2, 12].index(found["id"])].as_py()
    assert after.to_table().to_pylist() == want
    after.validate()


def test_update_columns_fills_a_column_that_has_no_file(tmp_path: Path) -> None:
    ds = table(tmp_path)
    ds.add_columns(pa.field("n", pa.list_(pa.int32())))
    values = NEW_VALUES.append_column("n", pa.array([[1], None, [2, 3]], pa.list_(pa.int32())))
    after = put(lance.dataset(ds.uri), values)
    assert after.to_table(columns=["n"], filter="id in (1, 2, 12)")["n"].to_pylist() == [
        [1],
        None,
        [2, 3],
    ]
    assert after.to_table(columns=["n"])["n"].null_count == 18


def test_update_columns_wants_the_exact_type(tmp_path: Path) -> None:
    ds = table(tmp_path)
    with pytest.raises(RuntimeError, match="different types"):
        put(ds, NEW_VALUES.append_column("x", pa.array([1, 2, 3], pa.float32())))
    with pytest.raises(ValueError, match="HashJoiner"):
        partial = pa.array([{"a": 1}] * 3, pa.struct([("a", pa.int32())]))
        put(ds, NEW_VALUES.append_column("st", partial))


def test_update_columns_refuses_no_rows(tmp_path: Path) -> None:
    fragment = table(tmp_path).get_fragments()[0]
    none = pa.table({"_rowid": pa.array([], pa.uint64()), "x": pa.array([], pa.float64())})
    with pytest.raises(ValueError, match="No data"):
        fragment.update_columns(none, left_on="_rowid", right_on="_rowid")


def add(
    ds: LanceDataset, read: list[str], function: Callable[[pa.RecordBatch], pa.RecordBatch]
) -> LanceDataset:
    udf = lance.batch_udf(output_schema=pa.schema([pa.field("y", pa.int64())]))(function)
    merged = [f.merge_columns(udf, columns=read) for f in ds.get_fragments()]
    return commit(
        ds,
        LanceOperation.Merge([f for f, _ in merged], merged[0][1], preserves_nullability=True),
    )


def test_a_batch_udf_sees_live_rows_only_and_no_trial_batch(tmp_path: Path) -> None:
    ds = table(tmp_path)
    ds.delete("id % 5 = 0")
    seen: list[int] = []

    def double(batch: pa.RecordBatch) -> pa.RecordBatch:
        seen.extend(batch["id"].to_pylist())
        return pa.record_batch([pa.compute.multiply(batch["id"], 2)], names=["y"])

    after = add(lance.dataset(ds.uri), ["id"], double)
    assert seen == [i for i in range(20) if i % 5]
    assert after.to_table(columns=["y"])["y"].to_pylist() == [2 * i for i in seen]


def test_a_bare_function_is_tried_on_one_row_first(tmp_path: Path) -> None:
    seen: list[int] = []

    def double(batch: pa.RecordBatch) -> pa.RecordBatch:
        seen.append(batch.num_rows)
        return pa.record_batch([batch["id"]], names=["y"])

    table(tmp_path).get_fragments()[0].merge_columns(double, columns=["id"])
    assert seen == [1, 10]


def test_a_batch_udf_that_reads_a_struct_field_gets_the_struct(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def field_a(batch: pa.RecordBatch) -> pa.RecordBatch:
        seen.append(batch.schema.names)
        return pa.record_batch([batch["st"].field("a").cast(pa.int64())], names=["y"])

    add(table(tmp_path), ["st.a"], field_a)
    assert seen == [["st"], ["st"]]


def test_a_merge_staged_from_the_writers_own_handle_is_refused_for_its_dictionaries(
    tmp_path: Path,
) -> None:
    written = lance.write_dataset(rows(20), tmp_path / "t.lance")
    merged, schema = written.get_fragments()[0].merge_columns({"y": "id"})
    with pytest.raises(OSError, match="without rewriting it in every existing fragment"):
        commit(written, LanceOperation.Merge([merged], schema, preserves_nullability=True))


class Died(BaseException):
    pass


def test_whatever_a_batch_udf_raises_becomes_a_value_error(tmp_path: Path) -> None:
    def die(batch: pa.RecordBatch) -> pa.RecordBatch:
        raise Died("now")

    with pytest.raises(ValueError, match="Died: now"):
        add(table(tmp_path), ["id"], die)


def test_all_kinds_of_metadata_change_in_one_staged_commit(tmp_path: Path) -> None:
    ds = table(tmp_path)
    nested = ds.lance_schema.field("st.a").id()
    change = LanceOperation.UpdateMap
    after = commit(
        ds,
        LanceOperation.UpdateConfig(
            config_updates=change({"lancemig.c": "1"}),
            table_metadata_updates=change({"t": "1"}),
            schema_metadata_updates=change({"lancemig.key": None, "k": "v"}),
            field_metadata_updates={nested: change({"unit": "ms"})},
        ),
    )
    assert after.config() == {"lancemig.c": "1"}
    assert after.metadata == {"t": "1"}
    assert after.schema.metadata == {b"k": b"v"}
    assert after.schema.field("st").type.field("a").metadata == {b"unit": b"ms"}
    assert after.read_transaction(after.version).transaction_properties == PROPERTIES


def test_metadata_of_an_unknown_field_is_refused(tmp_path: Path) -> None:
    ds = table(tmp_path)
    unknown = {99: LanceOperation.UpdateMap({"k": "v"})}
    with pytest.raises(OSError, match="Field with id 99 does not exist"):
        commit(ds, LanceOperation.UpdateConfig(field_metadata_updates=unknown))


@pytest.mark.parametrize(("stable", "changed"), [(False, 0), (True, 2)])
def test_delta_finds_nothing_without_stable_row_ids_and_does_not_say_so(
    tmp_path: Path, stable: bool, changed: int
) -> None:
    ds = table(tmp_path, stable=stable)
    inserted = lance.write_dataset(rows(2, 50), ds.uri, mode="append")
    assert inserted.delta(compared_against=1).get_inserted_rows().read_all().num_rows == changed
    values = pa.table({"id": pa.array([1, 12], pa.int64()), "x": [0.5, 0.5]})
    updated = put(lance.dataset(ds.uri), values)
    assert updated.delta(compared_against=2).get_updated_rows().read_all().num_rows == changed


@pytest.mark.parametrize("stable", [False, True])
def test_what_rows_are_numbered_by_is_not_given_to_other_rows(tmp_path: Path, stable: bool) -> None:
    """Neither an address nor a stable row id comes again, also once its row or its version is gone."""
    uri, rows = str(tmp_path / "t.lance"), pa.table({"x": [1, 2]})
    lance.write_dataset(rows, uri, enable_stable_row_ids=stable)
    given: list[int] = []

    def wrote() -> None:
        found = lance.dataset(uri).scanner(with_row_id=True).to_table()["_rowid"].to_pylist()
        given.extend(found[-2:])
        assert len(set(given)) == len(given)

    wrote()
    lance.dataset(uri).delete("true")
    lance.write_dataset(rows, uri, mode="append")
    wrote()
    lance.dataset(uri, version=1).restore()
    lance.write_dataset(rows, uri, mode="append")
    wrote()
    lance.write_dataset(rows, uri, mode="overwrite")
    wrote()
