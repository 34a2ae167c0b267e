"""Two commits from one version: ours staged first, theirs landed first."""

from collections.abc import Callable
from pathlib import Path

import lance
import pyarrow as pa
import pytest
from lance import LanceDataset, LanceOperation, Transaction
from lance.commit import CommitConflictError
from lance.fragment import write_fragments
from lance.schema import LanceSchema

SCHEMA = pa.schema([("id", pa.int64()), ("x", pa.float64()), ("s", pa.string()), ("t", pa.string())])


def rows(count: int, start: int = 0) -> pa.Table:
    return pa.Table.from_pylist(
        [{"id": i, "x": i / 2, "s": str(i), "t": str(i)} for i in range(start, start + count)],
        schema=SCHEMA,
    )


@pytest.fixture
def ds(tmp_path: Path) -> LanceDataset:
    return lance.write_dataset(rows(20), tmp_path / "t.lance", max_rows_per_file=10)


def staged(ds: LanceDataset, operation: LanceOperation.BaseOperation) -> Transaction:
    return Transaction(ds.version, operation)


def reshaped(ds: LanceDataset, change: Callable[[LanceDataset], None], *, empty: bool = False) -> LanceSchema:
    fragments = [] if empty else [f.metadata for f in ds.get_fragments()]
    scratch = LanceDataset.commit(
        Path(ds.uri).with_name("scratch.lance"),
        LanceOperation.Overwrite(new_schema=ds.lance_schema, fragments=fragments),
    )
    change(scratch)
    return scratch.lance_schema


def append(ds: LanceDataset) -> Transaction:
    return write_fragments(rows(3, 500), ds, mode="append", return_transaction=True)


def add_null(ds: LanceDataset) -> Transaction:
    schema = reshaped(ds, lambda s: s.add_columns(pa.field("n", pa.int32())))
    fragments = [f.metadata for f in ds.get_fragments()]
    return staged(ds, LanceOperation.Merge(fragments, schema, preserves_nullability=True))


def add_computed(ds: LanceDataset) -> Transaction:
    merged = [f.merge_columns({"q": "id * 2"}) for f in ds.get_fragments()]
    return staged(ds, LanceOperation.Merge([f for f, _ in merged], merged[0][1], preserves_nullability=True))


def cast(ds: LanceDataset) -> Transaction:
    merged = [f.merge_columns({"__new": "cast(x as float)"}) for f in ds.get_fragments()]
    fragments = [f for f, _ in merged]
    scratch = LanceDataset.commit(
        Path(ds.uri).with_name("cast.lance"),
        LanceOperation.Overwrite(new_schema=merged[0][1], fragments=fragments),
    )
    scratch.drop_columns(["x"])
    scratch.alter_columns({"path": "__new", "name": "x"})
    return staged(ds, LanceOperation.Merge(fragments, scratch.lance_schema))


def drop(ds: LanceDataset) -> Transaction:
    schema = reshaped(ds, lambda s: s.drop_columns(["s"]))
    return staged(ds, LanceOperation.Project(schema, preserves_nullability=True))


def rename(ds: LanceDataset) -> Transaction:
    schema = reshaped(ds, lambda s: s.alter_columns({"path": "s", "name": "s2"}))
    return staged(ds, LanceOperation.Project(schema, preserves_nullability=True))


def require(ds: LanceDataset) -> Transaction:
    schema = reshaped(ds, lambda s: s.alter_columns({"path": "id", "nullable": False}), empty=True)
    return staged(ds, LanceOperation.Project(schema))


def update(ds: LanceDataset) -> Transaction:
    fragment = ds.get_fragments()[0]
    values = ds.scanner(columns={"x": "x + 100"}, fragments=[fragment], with_row_id=True).to_table()
    new, fields, offsets = fragment.update_columns(
        values, left_on="_rowid", right_on="_rowid", with_offsets=True
    )
    return staged(
        ds,
        LanceOperation.Update(
            updated_fragments=[new],
            fields_modified=fields,
            update_mode="rewrite_columns",
            updated_fragment_offsets={fragment.fragment_id: offsets},
        ),
    )


def delete(ds: LanceDataset) -> Transaction:
    left = ds.get_fragments()[0].delete("id = 2")
    return staged(ds, LanceOperation.Delete([left], [], "id = 2"))


def index(ds: LanceDataset) -> Transaction:
    segment = ds.create_index_uncommitted(
        "x", "BTREE", name="x_idx", fragment_ids=[f.fragment_id for f in ds.get_fragments()]
    )
    return staged(ds, LanceOperation.CreateIndex([segment], []))


def config(ds: LanceDataset) -> Transaction:
    change = LanceOperation.UpdateMap({"k": "ours"})
    return staged(ds, LanceOperation.UpdateConfig(table_metadata_updates=change))


def overwrite(ds: LanceDataset) -> Transaction:
    fragments = [f.metadata for f in ds.get_fragments()]
    return staged(ds, LanceOperation.Overwrite(new_schema=ds.lance_schema, fragments=fragments))


def restore(ds: LanceDataset) -> Transaction:
    return staged(ds, LanceOperation.Restore(1))


OURS = (
    append,
    add_null,
    add_computed,
    cast,
    drop,
    rename,
    require,
    update,
    delete,
    index,
    config,
    restore,
    overwrite,
)

THEIRS: dict[str, Callable[[str], object]] = {
    "append": lambda uri: lance.write_dataset(rows(2, 900), uri, mode="append"),
    "update same": lambda uri: lance.dataset(uri).update({"t": "'z'"}, where="id = 1"),
    "update other": lambda uri: lance.dataset(uri).update({"t": "'z'"}, where="id = 11"),
    "delete same": lambda uri: lance.dataset(uri).delete("id = 1"),
    "compact": lambda uri: lance.dataset(uri).optimize.compact_files(),
    "add": lambda uri: lance.dataset(uri).add_columns(pa.field("o", pa.int32())),
    "cast": lambda uri: LanceDataset.commit(uri, cast(lance.dataset(uri))),
    "drop": lambda uri: lance.dataset(uri).drop_columns(["t"]),
    "rename": lambda uri: lance.dataset(uri).alter_columns({"path": "t", "name": "t2"}),
    "require": lambda uri: lance.dataset(uri).alter_columns({"path": "id", "nullable": False}),
    "index": lambda uri: lance.dataset(uri).create_scalar_index("id", "BTREE"),
    "config": lambda uri: lance.dataset(uri).update_metadata({"k": "theirs"}),
    "restore": lambda uri: lance.dataset(uri).restore(),
    "overwrite": lambda uri: lance.write_dataset(rows(20), uri, mode="overwrite"),
}

# lands · retry: CommitConflictError, retryable · never: CommitConflictError, not retryable ·
# stale: a plain OSError of a Merge that does not fit the newer manifest, for which a retry is right.
OUTCOMES = """
theirs:       append add_null add_computed cast  drop  rename require update delete index config restore overwrite
append        lands  stale    stale        stale lands lands  retry   lands  lands  lands lands  lands   lands
update_same   lands  stale    stale        stale lands lands  retry   retry  retry  lands lands  lands   lands
update_other  lands  stale    stale        stale lands lands  retry   lands  lands  lands lands  lands   lands
delete_same   lands  retry    retry        retry lands lands  lands   retry  retry  lands lands  lands   lands
compact       lands  stale    stale        stale lands lands  lands   retry  retry  retry lands  lands   lands
add           lands  stale    stale        stale retry retry  retry   retry  retry  lands lands  lands   lands
cast          retry  stale    stale        retry retry retry  retry   retry  retry  lands lands  lands   lands
drop          lands  stale    stale        stale retry retry  retry   lands  lands  lands lands  lands   lands
rename        lands  stale    stale        stale retry retry  retry   lands  lands  lands lands  lands   lands
require       retry  stale    stale        stale retry retry  retry   retry  lands  lands lands  lands   lands
index         lands  lands    lands        lands lands lands  lands   lands  lands  lands lands  lands   lands
config        lands  lands    lands        lands lands lands  lands   lands  lands  lands never  lands   lands
restore       never  never    never        never never never  never   never  never  never lands  lands   lands
overwrite     never  stale    stale        stale never never  never   never  never  never lands  lands   retry
"""  # noqa: E501


def outcomes() -> list[tuple[Callable[[LanceDataset], Transaction], str, str]]:
    (_, *ours), *lines = [line.split() for line in OUTCOMES.strip().splitlines()]
    makers = {maker.__name__: maker for maker in OURS}
    return [
        (makers[name], theirs.replace("_", " "), outcome)
        for theirs, *found in lines
        for name, outcome in zip(ours, found, strict=True)
    ]


def outcome_of(uri: str, ours: Transaction) -> str:
    try:
        LanceDataset.commit(uri, ours)
    except CommitConflictError as conflict:
        return "retry" if conflict.retryable else "never"
    except OSError as error:
        assert str(error).startswith("Invalid user input: Merge operation")
        return "stale"
    return "lands"


@pytest.mark.parametrize(
    ("ours", "theirs", "outcome"),
    [pytest.param(*case, id=f"{case[0].__name__} after {case[1]}") for case in outcomes()],
)
def test_the_later_of_two_commits(
    ds: LanceDataset, ours: Callable[[LanceDataset], Transaction], theirs: str, outcome: str
) -> None:
    made = ours(ds)
    THEIRS[theirs](ds.uri)
    assert outcome_of(ds.uri, made) == outcome


@pytest.mark.parametrize("ours", [drop, rename, update, delete, index, config])
def test_a_commit_that_lands_after_an_append_keeps_the_appended_rows(
    ds: LanceDataset, ours: Callable[[LanceDataset], Transaction]
) -> None:
    made = ours(ds)
    THEIRS["append"](ds.uri)
    LanceDataset.commit(ds.uri, made)
    assert lance.dataset(ds.uri).to_table(filter="id >= 900").num_rows == 2


@pytest.mark.parametrize("ours", [restore, overwrite])
def test_a_restore_or_overwrite_orphans_an_append(
    ds: LanceDataset, ours: Callable[[LanceDataset], Transaction]
) -> None:
    made = ours(ds)
    THEIRS["append"](ds.uri)
    LanceDataset.commit(ds.uri, made)
    assert lance.dataset(ds.uri).count_rows("id >= 900") == 0


def test_an_append_staged_before_an_inline_cast_reads_null(ds: LanceDataset) -> None:
    made = append(ds)
    ds.alter_columns({"path": "x", "data_type": pa.float32()})
    LanceDataset.commit(ds.uri, made)
    late = lance.dataset(ds.uri).to_table(filter="id >= 500")
    assert late["x"].to_pylist() == [None, None, None]


def test_values_of_a_dropped_never_filled_column_show_up_in_the_next_added_one(
    ds: LanceDataset,
) -> None:
    ds.add_columns(pa.field("z", pa.int32()))
    late = rows(1, 500).append_column("z", pa.array([7], pa.int32()))
    made = write_fragments(late, lance.dataset(ds.uri), mode="append", return_transaction=True)
    ds.drop_columns(["z"])
    ds.add_columns(pa.field("w", pa.int32()))
    LanceDataset.commit(ds.uri, made)
    assert lance.dataset(ds.uri).to_table(filter="id = 500")["w"].to_pylist() == [7]


def test_no_retries_is_no_strict_compare_and_swap(ds: LanceDataset) -> None:
    made = append(ds)
    THEIRS["append"](ds.uri)
    LanceDataset.commit(ds.uri, made, max_retries=0)
    assert lance.dataset(ds.uri).count_rows() == 25


@pytest.mark.parametrize("ours", [add_null, cast, drop, require, update, delete, index])
def test_most_transactions_committed_twice_are_refused(
    ds: LanceDataset, ours: Callable[[LanceDataset], Transaction]
) -> None:
    made = ours(ds)
    LanceDataset.commit(ds.uri, made)
    with pytest.raises(CommitConflictError):
        LanceDataset.commit(ds.uri, made)


def test_two_changes_of_one_metadata_key_conflict_and_of_two_keys_merge(
    ds: LanceDataset,
) -> None:
    made = config(ds)
    ds.update_metadata({"other": "1"})
    LanceDataset.commit(ds.uri, made)
    assert lance.dataset(ds.uri).metadata == {"k": "ours", "other": "1"}
    with pytest.raises(CommitConflictError, match="Incompatible"):
        LanceDataset.commit(ds.uri, made)


def test_a_commit_to_no_table_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="was not found"):
        LanceDataset.commit(tmp_path / "t.lance", Transaction(0, LanceOperation.Append([])))


def test_a_delete_conflicts_with_a_commit_to_a_fragment_that_it_names_unchanged(ds: LanceDataset) -> None:
    """`store/lance/staging.py:deleted_repeats` protects the rows that stay by it."""
    first, second = ds.get_fragments()
    left = second.delete("id = 15")
    ours = LanceOperation.Delete([first.metadata, left], [], "repeated")
    alone = LanceOperation.Delete([left], [], "repeated")
    lance.dataset(ds.uri).delete("id = 3")
    with pytest.raises(CommitConflictError):
        LanceDataset.commit(ds.uri, ours, read_version=ds.version, max_retries=0)
    LanceDataset.commit(ds.uri, alone, read_version=ds.version, max_retries=0)
    assert lance.dataset(ds.uri).count_rows() == 18
