"""What `lint` takes SQL, types and names of columns for."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lancemig.lint.operations import narrows
from lancemig.lint.personal_data import personal_data_category
from lancemig.lint.sql import always_true, excludes_updated_rows, is_idempotent, refers_to, volatile_functions

WORDS = [
    "a",
    "=",
    "1",
    "'x'",
    "(",
    ")",
    "and",
    "or",
    "not",
    "case",
    "end",
    "when",
    "then",
    "is",
    "null",
    "true",
    "-",
]


@pytest.mark.parametrize(
    "where",
    [
        "true",
        " TRUE ",
        "(true)",
        "1=1",
        "'a' = 'a'",
        "",
        "a is null or a is not null",
        "start > end or true",
        "not (1 = 0 or 2 = 0)",
        "(a is not null) or (a is null)",
        "not (false and a > 1)",
        "a in (1, 2) or 'x' <> 'y'",
    ],
)
def test_a_condition_that_always_holds(where: str):
    assert always_true(where)


@pytest.mark.parametrize("where", ["a = 1", "1 = 2", "a is null", "a is null or b is not null", "(a) or (b)"])
def test_a_condition_that_may_not(where: str):
    assert not always_true(where)


@pytest.mark.parametrize(
    ("sql", "refers"),
    [
        ("gain * 2", True),
        ("`gain`", True),
        ("GAIN", True),
        ("'gain'", False),
        ("gains", False),
        ("gain.left", True),
    ],
)
def test_an_expression_that_uses_a_column(sql: str, refers: bool):
    assert refers_to(sql, "gain") is refers


@pytest.mark.parametrize(
    ("sql", "same"),
    [
        ("lower(trim(a))", True),
        ("coalesce(a, -1)", True),
        ("coalesce(a + 1, 0)", False),
        ("reverse(a)", False),
        ("case a when 'x' then 'y' when 'y' then 'x' else a end", False),
        ("case when a = 'x' then 'y' when a = 'y' then 'z' else a end", False),
        ("case a when 'x' then 'y' when 'z' then 'y' else a end", True),
        ("case b when 'x' then 'y' when 'y' then 'x' else a end", True),
        ("greatest(a, -1.5)", True),
        ("a || 'x'", False),
    ],
)
def test_an_expression_that_changes_nothing_the_second_time(sql: str, same: bool):
    assert is_idempotent(sql, "a") is same


@pytest.mark.parametrize(
    ("sql", "calls"),
    [
        ("now()", ["now"]),
        ("Random ( )", ["random"]),
        ("current_date", ["current_date"]),
        ("'now()'", []),
        ("now", []),
    ],
)
def test_functions_that_give_something_else_each_time(sql: str, calls: list[str]):
    assert volatile_functions(sql) == calls


@pytest.mark.parametrize(
    ("old", "new", "narrower"),
    [
        (pa.int64(), pa.int32(), True),
        (pa.int32(), pa.int64(), False),
        (pa.int32(), pa.uint64(), True),
        (pa.uint32(), pa.int32(), True),
        (pa.uint32(), pa.int64(), False),
        (pa.int32(), pa.float64(), False),
        (pa.int64(), pa.float64(), True),
        (pa.int64(), pa.bool_(), True),
        (pa.int8(), pa.decimal128(5, 2), False),
        (pa.int32(), pa.decimal128(5, 2), True),
        (pa.float64(), pa.float32(), True),
        (pa.float32(), pa.float64(), False),
        (pa.float32(), pa.int64(), True),
        (pa.float64(), pa.string(), False),
        (pa.string(), pa.large_string(), False),
        (pa.string(), pa.binary(), False),
        (pa.string(), pa.int64(), True),
        (pa.dictionary(pa.int32(), pa.string()), pa.string(), False),
        (pa.timestamp("us"), pa.timestamp("ms"), True),
        (pa.timestamp("ms"), pa.timestamp("us"), False),
        (pa.timestamp("us"), pa.date32(), True),
        (pa.decimal128(10, 2), pa.decimal128(12, 2), False),
        (pa.decimal128(10, 2), pa.decimal128(10, 3), True),
        (pa.list_(pa.float32(), 4), pa.list_(pa.float16(), 4), True),
        (pa.list_(pa.float32(), 4), pa.list_(pa.float32(), 8), True),
        (pa.list_(pa.float32(), 4), pa.list_(pa.float32()), False),
        (pa.list_(pa.int32()), pa.large_list(pa.int64()), False),
        (pa.bool_(), pa.int8(), False),
        (pa.timestamp("us"), pa.int64(), False),
        (pa.timestamp("us"), pa.int32(), True),
        (pa.binary(), pa.string(), True),
        (pa.binary(), pa.large_binary(), False),
        (pa.binary(16), pa.binary(8), True),
        (pa.binary(16), pa.binary(), False),
        (pa.string(), pa.binary(16), True),
        (pa.struct([("a", pa.int64())]), pa.struct([("a", pa.int32())]), True),
        (pa.struct([("a", pa.int32())]), pa.struct([("a", pa.int64()), ("b", pa.string())]), False),
        (pa.struct([("a", pa.int32()), ("b", pa.string())]), pa.struct([("a", pa.int32())]), True),
        (pa.list_(pa.struct([("a", pa.int64())])), pa.list_(pa.struct([("a", pa.int8())])), True),
        (pa.map_(pa.string(), pa.int64()), pa.map_(pa.string(), pa.int32()), True),
    ],
)
def test_types_that_cannot_hold_all_of_another(old: pa.DataType, new: pa.DataType, narrower: bool):
    assert narrows(old, new) is narrower


@pytest.mark.parametrize(
    "name",
    ["firstname", "dateofbirth", "eMail", "addressLine1", "mobile", "icd10_code", "homePhone", "is_pregnant",
     "email", "userEmail", "E_MAIL_ADDRESS", "phone2", "home-address", "SSN", "patient_ssn", "birth_date",
     "dateOfBirth", "dob", "base_salary", "ICD10", "diagnosis", "firstName", "creditCard"],
)  # fmt: skip
def test_a_name_that_sounds_personal(name: str):
    assert personal_data_category(name)


@pytest.mark.parametrize(
    "name",
    [
        "mac_address",
        "patient_count",
        "font_family_name",
        "phone_model",
        "mobile_app",
        "airborne",
        "rec_id",
        "emailed_at",
        "microphone",
        "addressed",
        "patience",
        "name",
        "first_rec_id",
        "dobson",
        "gain",
    ],
)
def test_a_name_that_does_not(name: str):
    assert personal_data_category(name) is None


@given(st.lists(st.sampled_from(WORDS)))
def test_no_condition_is_too_odd_to_be_looked_at(parts: list[str]):
    sql = " ".join(parts)
    assert always_true(sql) in (True, False)
    assert is_idempotent(sql, "a") in (True, False)
    assert excludes_updated_rows(sql, "a", sql) in (True, False)
