"""What lancemig relies on in DuckDB."""

from pathlib import Path
from typing import Any

import duckdb
import lance
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

ROWS = pa.table({"id": [1, 2, 3], "st": [{"a": 1}, {"a": 2}, None]})


class Asked(ds.Dataset):
    """A dataset that keeps what it is asked for, and filters nothing."""

    def __init__(self, rows: pa.Table) -> None:
        self.rows = rows
        self.asked: list[dict[str, Any]] = []

    @property
    def schema(self) -> pa.Schema:
        return self.rows.schema

    def scanner(self, **asked: Any) -> ds.Scanner:
        self.asked.append(asked)
        return ds.dataset(self.rows).scanner(columns=asked["columns"])


def rows_of(sql: str, **sources: Any) -> list[tuple[Any, ...]]:
    with duckdb.connect(":memory:") as session:
        for name, source in sources.items():
            session.register(name, source)
        return session.sql(sql).fetchall()


def test_a_dataset_is_asked_for_the_columns_and_the_rows_that_a_query_needs():
    asked = Asked(ROWS)
    rows_of("select st from t where id > 1", t=asked)
    [found] = asked.asked
    assert found["columns"] == ["st"]
    assert found["filter"].equals(ds.field("id") > pa.scalar(1))


def test_a_filter_that_was_handed_down_is_not_applied_again():
    assert len(rows_of("select st from t where id > 1", t=Asked(ROWS))) == 3


def test_half_floats_are_not_read():
    with pytest.raises(duckdb.NotImplementedException, match="Unsupported Internal Arrow Type"):
        rows_of("select 1 from t", t=pa.table({"h": pa.array([1], pa.float16())}))


def test_names_have_no_case_and_the_second_of_two_is_renamed():
    both = pa.table({"Fs": [1], "fs": [2]})
    assert rows_of('select "fs", fs_1 from t', t=both) == [(1, 2)]


def test_a_second_table_of_a_name_replaces_the_first_whatever_the_case():
    assert rows_of("select id from t", t=pa.table({"id": [1]}), T=pa.table({"id": [2]})) == [(2,)]


def test_lance_refuses_a_filter_by_a_path_and_one_beside_a_duration(tmp_path: Path):
    nested = lance.write_dataset(ROWS, tmp_path / "nested.lance")
    with pytest.raises(duckdb.Error, match="nested references in pushdown filters"):
        rows_of("select id from t where st.a = 1", t=nested)
    beside = pa.table({"id": [1], "for": pa.array([1], pa.duration("s"))})
    with pytest.raises(duckdb.Error, match="substrait"):
        rows_of("select id from t where id = 1", t=lance.write_dataset(beside, tmp_path / "beside.lance"))


@pytest.fixture
def session():
    with duckdb.connect(":memory:") as opened:
        yield opened


def test_what_is_spilled_goes_to_the_working_directory_unless_told(session: Any):
    assert session.sql("select current_setting('temp_directory')").fetchall() == [(".tmp",)]


def test_after_access_is_taken_away_it_cannot_be_given_back(session: Any):
    session.execute("set enable_external_access = false")
    for statement in ("set enable_external_access = true", "set temp_directory = '/tmp/x'"):
        with pytest.raises(duckdb.Error):
            session.execute(statement)
