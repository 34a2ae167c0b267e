"""Changing a schema by metadata alone: on a scratch table, then staged on the real one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import lance
import lancedb
import pyarrow as pa
import pytest
from lance import LanceDataset, LanceOperation, Transaction
from lance.fragment import FragmentMetadata
from lance.schema import LanceSchema

from lancemig.catalog.schema import field_within
from lancemig.store.lance import schema_edit

SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64()),
        pa.field("x", pa.float64()),
        pa.field("s", pa.string(), metadata={"unit": "ms"}),
        pa.field("st", pa.struct([("a", pa.int32()), ("b", pa.string())])),
        pa.field("vec", pa.list_(pa.float32(), 4)),
    ],
    metadata={"lancemig.key": "id"},
)


def rows(count: int, start: int = 0) -> pa.Table:
    ids = range(start, start + count)
    return pa.Table.from_pylist(
        [{"id": i, "x": i / 2, "s": f"s{i}", "st": {"a": i, "b": str(i)}, "vec": [i, i, i, i]} for i in ids],
        schema=SCHEMA,
    )


def table(folder: Path, *, stable: bool = False, storage: str = "2.2") -> LanceDataset:
    return lance.write_dataset(
        rows(20),
        folder / "t.lance",
        max_rows_per_file=10,
        enable_stable_row_ids=stable,
        data_storage_version=storage,
    )


def fragments(ds: LanceDataset) -> list[FragmentMetadata]:
    return [fragment.metadata for fragment in ds.get_fragments()]


def scratch(
    folder: Path,
    schema: LanceSchema,
    of: list[FragmentMetadata],
    change: Callable[[LanceDataset], None],
) -> LanceSchema:
    ds = LanceDataset.commit(
        folder / "scratch.lance", LanceOperation.Overwrite(new_schema=schema, fragments=of)
    )
    change(ds)
    return ds.lance_schema


def commit(ds: LanceDataset, operation: LanceOperation.BaseOperation) -> LanceDataset:
    LanceDataset.commit(ds.uri, Transaction(ds.version, operation))
    return lance.dataset(ds.uri)


def merge(ds: LanceDataset, schema: LanceSchema) -> LanceDataset:
    return commit(ds, LanceOperation.Merge(fragments(ds), schema, preserves_nullability=True))


def project(ds: LanceDataset, schema: LanceSchema) -> LanceDataset:
    return commit(ds, LanceOperation.Project(schema, preserves_nullability=True))


def in_order(schema: LanceSchema, names: list[str]) -> LanceSchema:
    build, (metadata, *protos) = schema.__reduce__()

    def ids(field: object) -> list[int]:
        return [field.id(), *(i for child in field.children() for i in ids(child))]

    tops = {field.name(): field for field in schema.fields()}
    proto = dict(zip([i for f in schema.fields() for i in ids(f)], protos, strict=True))
    return build(metadata, *[proto[i] for name in names for i in ids(tops[name])])


def field_ids(schema: LanceSchema) -> dict[str, int]:
    return {field.name(): field.id() for field in schema.fields()}


def test_a_scratch_table_of_foreign_fragments_keeps_field_ids(tmp_path: Path) -> None:
    ds = table(tmp_path)
    ds.drop_columns(["x"])
    kept = scratch(tmp_path, ds.lance_schema, fragments(ds), lambda _: None)
    assert field_ids(kept) == field_ids(ds.lance_schema)
    assert field_ids(kept)["s"] == 2


def test_a_scratch_table_keeps_schema_and_field_metadata(tmp_path: Path) -> None:
    ds = table(tmp_path)
    kept = scratch(tmp_path, ds.lance_schema, fragments(ds), lambda _: None)
    assert kept.to_pyarrow().equals(SCHEMA, check_metadata=True)


def test_a_dropped_columns_id_is_not_given_to_an_added_one(tmp_path: Path) -> None:
    ds = table(tmp_path)
    ds.drop_columns(["vec"])
    added = scratch(
        tmp_path,
        ds.lance_schema,
        fragments(ds),
        lambda s: s.add_columns(pa.field("vec", pa.int8())),
    )
    after = merge(ds, added)
    assert field_ids(after.lance_schema)["vec"] > 5
    assert after.to_table(columns=["vec"])["vec"].null_count == 20


def test_a_hand_made_schema_renumbers_fields_and_is_refused_by_merge(tmp_path: Path) -> None:
    ds = table(tmp_path)
    ds.drop_columns(["x"])
    by_hand = LanceSchema.from_pyarrow(ds.schema.append(pa.field("n", pa.int8())))
    with pytest.raises(OSError, match="Merge operation"):
        merge(ds, by_hand)


@pytest.mark.parametrize("stable", [False, True])
def test_a_column_added_on_a_scratch_lands_by_merge(tmp_path: Path, stable: bool) -> None:
    ds = table(tmp_path, stable=stable)
    added = scratch(
        tmp_path,
        ds.lance_schema,
        fragments(ds),
        lambda s: s.add_columns(pa.field("n", pa.struct([("q", pa.int8())]), metadata={"k": "v"})),
    )
    after = merge(ds, added)
    assert after.schema.field("n").metadata == {b"k": b"v"}
    assert after.to_table(columns=["n"])["n"].null_count == 20
    after.validate()


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda s: s.drop_columns(["x"]), ["id", "s", "st", "vec"]),
        (
            lambda s: s.alter_columns({"path": "s", "name": "t"}),
            ["id", "x", "t", "st", "vec"],
        ),
        (lambda s: s.drop_columns(["st.a"]), ["id", "x", "s", "st", "vec"]),
    ],
    ids=["drop", "rename", "drop nested"],
)
def test_drops_and_renames_made_on_a_scratch_land_by_project(
    tmp_path: Path, change: Callable[[LanceDataset], None], names: list[str]
) -> None:
    ds = table(tmp_path)
    after = project(ds, scratch(tmp_path, ds.lance_schema, fragments(ds), change))
    assert after.schema.names == names
    assert after.schema.metadata == {b"lancemig.key": b"id"}
    assert after.to_table()["id"].to_pylist() == list(range(20))


def test_a_rename_is_refused_in_a_merge(tmp_path: Path) -> None:
    ds = table(tmp_path)
    renamed = scratch(
        tmp_path,
        ds.lance_schema,
        fragments(ds),
        lambda s: s.alter_columns({"path": "s", "name": "t"}),
    )
    with pytest.raises(OSError, match='remaps field id 2 from "s" to "t"'):
        merge(ds, renamed)


def test_a_scratch_with_fragments_cannot_check_for_nulls(tmp_path: Path) -> None:
    ds = table(tmp_path)
    with pytest.raises(OSError, match="Not found"):
        scratch(
            tmp_path,
            ds.lance_schema,
            fragments(ds),
            lambda s: s.alter_columns({"path": "id", "nullable": False}),
        )


def test_a_scratch_without_fragments_requires_a_column_and_nulls_are_then_refused(
    tmp_path: Path,
) -> None:
    ds = table(tmp_path)
    required = scratch(
        tmp_path,
        ds.lance_schema,
        [],
        lambda s: s.alter_columns({"path": "id", "nullable": False}),
    )
    after = commit(ds, LanceOperation.Project(required))
    assert not after.schema.field("id").nullable
    assert field_ids(after.lance_schema) == field_ids(ds.lance_schema)
    missing = rows(1).set_column(0, "id", pa.array([None], pa.int64()))
    with pytest.raises(OSError, match="marked non-null"):
        lance.write_dataset(missing, ds.uri, mode="append")


def test_a_nested_column_needs_storage_2_2_and_an_empty_scratch_does_not_know(
    tmp_path: Path,
) -> None:
    ds = table(tmp_path, storage="2.1")
    nested = pa.field("st", pa.struct([("c", pa.int32())]))
    with pytest.raises(OSError, match="add sub column is not supported"):
        scratch(tmp_path / "full", ds.lance_schema, fragments(ds), lambda s: s.add_columns(nested))
    scratch(tmp_path / "empty", ds.lance_schema, [], lambda s: s.add_columns(nested))


TEXT = pa.struct({"a": pa.string()})
DEEP = pa.struct({"a": pa.int32(), "b": TEXT})


def with_struct(folder: Path, value: dict[str, object], of: pa.DataType) -> LanceDataset:
    rows = pa.table({"id": [1, 2], "st": pa.array([value, None], of)})
    return lance.write_dataset(rows, folder / "t.lance", data_storage_version="2.2")


def test_a_field_of_a_struct_that_no_file_holds_breaks_reads_with_a_filter(tmp_path: Path) -> None:
    ds = with_struct(tmp_path / "text", {"a": "x"}, TEXT)
    ds.add_columns(pa.field("st", pa.struct({"n": pa.int32()})))
    assert ds.to_table().num_rows == 2
    with pytest.raises(pa.ArrowInvalid, match="fewer column indices"):
        ds.to_table(filter="id = 1")
    deep = with_struct(tmp_path / "deep", {"a": 1, "b": {"a": "x"}}, DEEP)
    deep.add_columns(pa.field("st", pa.struct({"b": pa.struct({"n": pa.int32()})})))
    with pytest.raises(pa.ArrowInvalid, match="fewer column indices"):
        deep.to_table(filter="id = 1")


def test_with_some_types_only_reads_of_the_new_field_break(tmp_path: Path) -> None:
    ds = with_struct(tmp_path, {"a": 1}, pa.struct({"a": pa.int32()}))
    ds.add_columns(pa.field("st", pa.struct({"n": pa.int32()})))
    assert ds.to_table(filter="id = 1").num_rows == 1
    with pytest.raises((pa.ArrowInvalid, OSError)):
        ds.to_table(columns=["st.n"])


def test_rows_that_are_appended_without_a_field_of_a_struct_break_reads_with_a_filter(tmp_path: Path) -> None:
    of = pa.struct({"a": pa.string(), "n": pa.int32()})
    ds = with_struct(tmp_path, {"a": "x", "n": None}, of)
    assert ds.to_table(filter="id = 1").num_rows == 1
    lance.write_dataset(pa.table({"id": [3], "st": pa.array([{"a": "y"}], TEXT)}), ds.uri, mode="append")
    with pytest.raises(pa.ArrowInvalid, match="fewer column indices"):
        lance.dataset(ds.uri).to_table(filter="id = 1")


def test_storage_version_0_1_takes_no_null_column(tmp_path: Path) -> None:
    ds = lance.write_dataset(pa.table({"id": [1]}), tmp_path / "t.lance", data_storage_version="legacy")
    with pytest.raises(OSError, match="Cannot add all-null columns to legacy"):
        ds.add_columns(pa.field("n", pa.int8()))


def test_a_manifest_in_memory_reads_the_files_of_a_table(tmp_path: Path) -> None:
    ds = table(tmp_path)
    base = lance.DatasetBasePath(str(ds.uri), id=1, is_dataset_root=True)
    file = ds.get_fragments()[0].metadata.files[0]
    moved = lance.fragment.DataFile(
        file.path, file.fields, file.column_indices, file.file_major_version, file.file_minor_version,
        file.file_size_bytes, 1,
    )  # fmt: skip
    one = replace(ds.get_fragments()[0].metadata, files=[moved])
    overwrite = LanceOperation.Overwrite(ds.lance_schema, [one], initial_bases=[base])
    found = LanceDataset.commit("memory://readable", overwrite)
    assert found.to_table().equals(ds.get_fragments()[0].to_table())


@pytest.mark.parametrize("stable", [False, True])
def test_columns_can_be_put_in_any_order(tmp_path: Path, stable: bool) -> None:
    ds = table(tmp_path, stable=stable)
    ds.create_scalar_index("id", "BTREE")
    ds.delete("id = 3")
    names = ["vec", "st", "s", "id", "x"]
    before = ds.to_table(columns=names)
    after = project(ds, in_order(ds.lance_schema, names))
    assert after.schema.names == names
    assert after.to_table().equals(before)
    after.validate()


def test_writers_go_on_after_columns_changed_places(tmp_path: Path) -> None:
    ds = table(tmp_path)
    ds.create_scalar_index("id", "BTREE")
    project(ds, in_order(ds.lance_schema, ["vec", "st", "s", "id", "x"]))
    lance.write_dataset(rows(5, 100), ds.uri, mode="append")
    opened = lancedb.connect(tmp_path).open_table("t")
    opened.add(rows(5, 200))
    opened.update(where="id = 201", values={"s": "new"})
    opened.optimize()
    assert opened.search().where("id = 201").to_list()[0]["s"] == "new"
    after = lance.dataset(ds.uri)
    assert after.schema.names == ["vec", "st", "s", "id", "x"]
    assert after.to_table(filter="id = 102", columns=["st"]).to_pylist() == [{"st": {"a": 102, "b": "102"}}]


def staged_cast(ds: LanceDataset, folder: Path) -> LanceOperation.Merge:
    merged = [f.merge_columns({"__new": "cast(x as float)"}) for f in ds.get_fragments()]
    new_fragments = [fragment for fragment, _ in merged]

    def take_over(s: LanceDataset) -> None:
        s.drop_columns(["x"])
        s.alter_columns({"path": "__new", "name": "x"})

    schema = scratch(folder, merged[0][1], new_fragments, take_over)
    return LanceOperation.Merge(new_fragments, in_order(schema, ds.schema.names))


@pytest.mark.parametrize("stable", [False, True])
def test_a_staged_cast_keeps_the_columns_place_and_values(tmp_path: Path, stable: bool) -> None:
    ds = table(tmp_path, stable=stable)
    after = commit(ds, staged_cast(ds, tmp_path))
    assert after.schema.names == SCHEMA.names
    assert after.schema.field("x").type == pa.float32()
    assert after.to_table()["x"].to_pylist() == [i / 2 for i in range(20)]


def test_a_staged_cast_drops_the_columns_index_and_filters_stay_right(tmp_path: Path) -> None:
    ds = table(tmp_path)
    ds.create_scalar_index("x", "BTREE")
    ds = lance.dataset(ds.uri)
    after = commit(ds, staged_cast(ds, tmp_path))
    assert after.describe_indices() == []
    assert after.count_rows("x < 1.5") == 3


def test_lancedb_writers_keep_schema_and_field_metadata(tmp_path: Path) -> None:
    ds = table(tmp_path)
    opened = lancedb.connect(tmp_path).open_table("t")
    opened.add(rows(2, 50).replace_schema_metadata({"other": "x"}))
    opened.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(rows(2, 51))
    opened.optimize()
    assert lance.dataset(ds.uri).schema.equals(SCHEMA, check_metadata=True)


def test_a_lancedb_overwrite_drops_schema_and_field_metadata(tmp_path: Path) -> None:
    ds = table(tmp_path)
    lancedb.connect(tmp_path).open_table("t").add(rows(2).cast(SCHEMA.remove_metadata()), mode="overwrite")
    assert lance.dataset(ds.uri).schema.metadata is None


def test_projected_schema_types_expressions_and_reads_nothing(tmp_path: Path) -> None:
    ds = lance.write_dataset(rows(0), tmp_path / "t.lance")
    typed = ds.scanner(
        columns={"a": "x * 2", "b": "cast(id as smallint)", "c": "named_struct('q', id)"}
    ).projected_schema
    assert typed.types == [pa.float64(), pa.int16(), pa.struct([("q", pa.int64())])]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("nope * 2", "No field named nope. Valid fields are"),
        ("x *", "Expression is not valid"),
        ("foo(x)", "Invalid function 'foo'"),
        ("case when x > 1 then 1 else 2 end", "is not supported SQL in lance"),
        ("x + s", "Cannot coerce"),
    ],
)
def test_a_bad_expression_is_a_value_error_before_any_read(
    tmp_path: Path, expression: str, message: str
) -> None:
    ds = table(tmp_path)
    with pytest.raises(ValueError, match=message):
        _ = ds.scanner(columns={"a": expression}).projected_schema


@pytest.mark.parametrize(
    ("predicate", "message"),
    [
        ("nope > 2", "No field named nope"),
        ("x >", "Error parsing statement"),
        ("x + 1", "does not return a boolean"),
        ("s > 5", "could not convert to literal"),
    ],
)
def test_a_bad_filter_is_a_value_error_from_a_scanner_and_an_os_error_from_count_rows(
    tmp_path: Path, predicate: str, message: str
) -> None:
    ds = table(tmp_path)
    with pytest.raises(ValueError, match=message):
        _ = ds.scanner(filter=predicate).projected_schema
    with pytest.raises(OSError, match=message):
        ds.count_rows(predicate)


def test_a_safe_arrow_cast_lets_infinities_and_lost_times_and_struct_fields_pass() -> None:
    assert pa.array([1e300]).cast(pa.float32()).to_pylist() == [float("inf")]
    assert pa.array([90_000_001], pa.timestamp("ms")).cast(pa.date32())[0].as_py().day == 2
    assert pa.array([{"a": 1, "b": 2}]).cast(pa.struct([("a", pa.int64())])).to_pylist() == [{"a": 1}]


@pytest.mark.parametrize(
    ("values", "to"),
    [
        (pa.array([1.5]), pa.int32()),
        (pa.array([2**53 + 1]), pa.float64()),
        (pa.array([300]), pa.int8()),
        (pa.array(["x"]), pa.int32()),
        (pa.array([1001], pa.timestamp("us")), pa.timestamp("ms")),
        (pa.array([b"\xff"]), pa.string()),
    ],
)
def test_a_safe_arrow_cast_refuses_other_losses(values: pa.Array, to: pa.DataType) -> None:
    with pytest.raises(pa.ArrowInvalid):
        values.cast(to)


def only_ids(folder: Path) -> LanceDataset:
    """Three fragments: rows without the columns that came later, with them, and without again."""
    ds = lance.write_dataset(pa.table({"id": [1, 2]}), folder / "t.lance")
    ds.add_columns(pa.field("n", pa.int64()))
    ds.add_columns(pa.field("st", pa.struct([("a", pa.int8())])))
    return ds


@pytest.mark.parametrize(
    "change", [{}, {"n": "id"}, {"st": "named_struct('a', cast(id as tinyint))"}], ids=str
)
def test_a_fragment_of_which_no_written_column_is_left_cannot_be_read(
    tmp_path: Path, change: dict[str, str]
) -> None:
    ds = only_ids(tmp_path)
    if change:
        ds.update(change)
    ds.drop_columns(["id"])
    after = lance.dataset(ds.uri)
    if change:
        assert after.to_table().num_rows == after.count_rows() == 2
        return
    for read in (after.count_rows, after.to_table):
        with pytest.raises((OSError, pa.ArrowInvalid), match="does not contain any data"):
            read()


def test_one_such_fragment_is_enough(tmp_path: Path) -> None:
    ds = only_ids(tmp_path)
    lance.write_dataset(pa.table({"id": [3], "n": [3]}), ds.uri, mode="append")
    ds = lance.dataset(ds.uri)
    ds.drop_columns(["id"])
    with pytest.raises((OSError, pa.ArrowInvalid), match="does not contain any data"):
        lance.dataset(ds.uri).to_table()


def test_a_table_without_fragments_loses_nothing(tmp_path: Path) -> None:
    ds = only_ids(tmp_path)
    ds.delete("true")
    ds.drop_columns(["id"])
    assert lance.dataset(ds.uri).to_table().num_rows == 0


def test_a_merge_keeps_files_that_hold_no_column_any_more(tmp_path: Path) -> None:
    ds = only_ids(tmp_path)
    ds.add_columns({"m": "id * 2"})
    left = schema_edit.without(ds.lance_schema, "m")
    commit(ds, LanceOperation.Merge(fragments(ds), left))
    with pytest.raises(OSError, match="did not have any fields in common"):
        lance.dataset(ds.uri).validate()


def test_fields_inside_a_column_have_metadata_that_is_set_by_their_ids(tmp_path: Path) -> None:
    told = {"a": "b"}
    inner = pa.struct([pa.field("x", pa.int8(), metadata=told)])
    key = pa.field("k", pa.string(), False, told)
    columns = pa.schema(
        [
            pa.field("l", pa.list_(pa.field("element", inner, metadata=told))),
            pa.field("m", pa.map_(key, pa.field("v", inner, metadata=told))),
        ]
    )
    rows = pa.table([[[{"x": 1}]], [[("k", {"x": 1})]]], schema=columns)
    ds = lance.write_dataset(rows, tmp_path / "t.lance")
    paths = ["l.element", "l.element.x", "m.key", "m.value", "m.value.x"]
    ids = [schema_edit.field_id(ds.lance_schema, path) for path in paths]
    assert len(set(ids)) == len(ids)
    updates = {
        id_: LanceOperation.UpdateMap({"a": None, "at": path}) for id_, path in zip(ids, paths, strict=True)
    }
    after = commit(ds, LanceOperation.UpdateConfig(field_metadata_updates=updates))
    for path in paths:
        assert field_within("t", after.schema, path).metadata == {b"at": path.encode()}
    assert after.to_table().to_pylist() == rows.to_pylist()
    after.validate()
