"""Which columns an SQL expression names, by Lance's rules for names."""

import lance
import pyarrow as pa
import pytest

from lancemig.catalog.sql_tokens import names_column


@pytest.mark.parametrize(
    ("sql", "name", "names"),
    [
        ("price * 2", "price", True),
        ("PRICE * 2", "price", True),
        ("price_eur * 2", "price", False),
        ("my.price", "price", True),
        ("price.eur", "price", True),
        ("`price` > 1", "price", True),
        ("'price' = text", "price", False),
        ('"price" = text', "price", False),
        ("concat(text, 'x') -- price", "price", False),
        ("`a b` + 1", "a b", True),
        ("c + 1", "a b", False),
        ("größe + 1", "größe", True),
        ("x + 1", 'say "x"', True),
        ("", "x", False),
        ("e1 + 1", "e1", True),
        ("1e1 + x", "e1", False),
    ],
)
def test_a_name_is_found_as_lance_finds_it(sql: str, name: str, names: bool) -> None:
    assert names_column(sql, name) is names


@pytest.mark.parametrize(
    "sql", ["a * 2", "A * 2", "`a` + `b c`", "concat('a', b)", "s.a + 1", "coalesce(a, 1)"]
)
def test_without_a_column_that_it_does_not_name_lance_evaluates_it(sql: str) -> None:
    """Lance is the judge: the expression works over the columns that are said to be named."""
    whole = pa.table({"a": [1], "b": ["x"], "b c": [2], "s": [{"a": 1}], "d": [0]})
    named = [name for name in whole.column_names if names_column(sql, name)]
    found = lance.write_dataset(whole.select(named or ["d"]), "memory://t")
    assert found.to_table(columns={"x": sql}).num_rows == 1
