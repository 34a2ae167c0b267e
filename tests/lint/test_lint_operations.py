"""Operations as people write them, each with the codes that `lint` gives it; up and down."""

from pathlib import Path

import pytest
from reviewed import BACKFILL, linted

OPERATIONS = {
    # Rows that go, values that go.
    "deletes where 1=1": ('DeleteRows(table="rec", where="1=1")', "LM003"),
    "deletes where true": ('DeleteRows(table="rec", where=" TRUE ")', "LM003"),
    "deletes where nothing is said": ('DeleteRows(table="rec", where="")', "LM003"),
    "deletes where the key is": ('DeleteRows(table="rec", where="id IS NOT NULL")', "LM003"),
    "deletes where a required column is itself": ('DeleteRows(table="rec", where="id = id")', "LM003"),
    "deletes or true": ('DeleteRows(table="rec", where="gain < 0 OR 1 = 1 -- try")', "LM003"),
    "deletes true and true": ('DeleteRows(table="rec", where="(true) AND (2 > 1)")', "LM003"),
    "deletes not false": ('DeleteRows(table="rec", where="NOT (1 = 0)")', "LM003"),
    "deletes where a column is": ('DeleteRows(table="rec", where="gain IS NOT NULL")', None),
    "deletes where the key is not": ('DeleteRows(table="rec", where="id IS NULL")', None),
    "deletes between": ('DeleteRows(table="rec", where="gain BETWEEN 1 AND 1")', None),
    "deletes a case": ('DeleteRows(table="rec", where="CASE WHEN gain > 1 OR true THEN false END")', None),
    "deletes by a text": ('DeleteRows(table="rec", where="unit = \'1 = 1\'")', None),
    "deletes true and something": ('DeleteRows(table="rec", where="true AND gain < 0")', None),
    "fills nulls": ('UpdateRows(table="rec", set={"unit": "coalesce(unit, \'s\')"})', None),
    "sets all": ('UpdateRows(table="rec", set={"unit": "\'s\'"})', "LM004"),
    "sets all where the key is": (
        'UpdateRows(table="rec", set={"unit": "\'s\'"}, where="id is not null")', "LM004",
    ),
    "sets all of a new table": (
        'CreateTable(table="t", schema={"id": "int64", "n": "int64"}, key=("id",), rows=[{"id": 1}]), '
        'UpdateRows(table="t", set={"n": "id"})', None,
    ),
    "sets a field of a new struct": (
        'AddColumn(table="rec", column=pa.field("s", pa.struct([("a", pa.int64())]))), '
        'UpdateRows(table="rec", set={"s.a": "id"})', None,
    ),
    "drops what it has added": (
        'AddColumn(table="rec", column=pa.field("tmp", pa.int64())), '
        'DropColumn(table="rec", column="tmp")', None,
    ),
    "drops what it has renamed": (
        'RenameColumn(table="rec", column="unit", to="old"), '
        'DropColumn(table="rec", column="old")', "LM001",
    ),
    # Types.
    "narrows a number": ('RetypeColumn(table="rec", column="samples", to="int32")', "LM002"),
    "narrows a time": ('RetypeColumn(table="rec", column="at", to="timestamp[s]")', "LM002"),
    "narrows a field": ('RetypeColumn(table="rec", column="device.channels", to="int16")', "LM002"),
    "widens a field": ('RetypeColumn(table="rec", column="device.channels", to="int64")', None),
    "a time as a number": (
        'RetypeColumn(table="rec", column="at", to="int64", using="cast(at as bigint)")', "LM005",
    ),
    # Twice is not once.
    "doubles": ('UpdateRows(table="rec", set={"gain": "gain * 2"}, where="id > 1")', "LM007"),
    "turns a sign": ('UpdateRows(table="rec", set={"gain": "-gain"}, where="gain < 0")', None),
    "turns all signs": ('UpdateRows(table="rec", set={"gain": "-gain"}, where="id < 9")', "LM007"),
    "puts in front, once": (
        """UpdateRows(table="rec", set={"host": "concat('a/', host)"}, where="host NOT LIKE 'a/%'")""", None,
    ),
    "puts in front, or not": (
        """UpdateRows(table="rec", set={"host": "concat('a/', host)"},
        where="host NOT LIKE 'a/%' OR id > 1")""",
        "LM007",
    ),
    "puts in front": (
        """UpdateRows(table="rec", set={"host": "'a/' || host"}, where="id > 1")""", "LM007",
    ),
    "of one value": (
        """UpdateRows(table="rec", set={"unit": "concat(unit, 's')"}, where="unit = 'm'")""", None,
    ),
    "replaces": (
        """UpdateRows(table="rec", set={"host": "replace(host, 'http:', 'https:')"}, where="id > 1")""", None,
    ),
    "replaces what comes again": (
        """UpdateRows(table="rec", set={"host": "replace(host, 'a/', 'a/b/')"}, where="id > 1")""", "LM007",
    ),
    "cleans by a pattern": (
        """UpdateRows(table="rec", set={"host": "regexp_replace(host, ' +$', '')"}, where="id > 1")""", None,
    ),
    "maps values": (
        """UpdateRows(table="rec",
        set={"unit": "CASE unit WHEN 'msec' THEN 'ms' WHEN 'sec' THEN 's' ELSE unit END"}, where="id > 1")""",
        None,
    ),
    "swaps values": (
        """UpdateRows(table="rec",
        set={"unit": "CASE WHEN unit = 'a' THEN 'b' WHEN unit = 'b' THEN 'a' ELSE unit END"},
        where="id > 1")""",
        "LM007",
    ),
    "swaps columns": (
        'UpdateRows(table="rec", set={"host": "unit", "unit": "host"}, where="id > 1")', "LM007 LM007",
    ),
    "moves a value": (
        'UpdateRows(table="rec", set={"host": "unit", "unit": "NULL"}, where="unit IS NOT NULL")', None,
    ),
    "loses a value it has moved": (
        'UpdateRows(table="rec", set={"host": "unit", "unit": "NULL"}, where="id > 1")', "LM007",
    ),
    "rounds": ('UpdateRows(table="rec", set={"gain": "round(gain, 2)"}, where="id > 1")', None),
    "clamps": ('UpdateRows(table="rec", set={"gain": "greatest(gain, -1.0)"}, where="id > 1")', None),
    "a column whose name has another's in it": (
        'UpdateRows(table="rec", set={"gain": "samples * 2"}, where="id > 1")', None,
    ),
    # Clocks in SQL.
    "now()": ('UpdateRows(table="rec", set={"at": "now()"}, where="id > 1")', "LM010"),
    "current_timestamp": (
        'AddColumn(table="rec", column="c: timestamp[us]", sql="current_timestamp")', "LM010",
    ),
    "random()": ('UpdateRows(table="rec", set={"gain": "random()"}, where="id > 1")', "LM010"),
    "uuid() in a condition": ('DeleteRows(table="rec", where="host = uuid()")', "LM010"),
    "now() in a comment": ('DeleteRows(table="rec", where="gain < 0 /* now() */")', None),
    "now() in a text": ("""DeleteRows(table="rec", where='host = "now()"')""", None),
    "a column called now": ('DeleteRows(table="rec", where="now < 0")', None),
    "a column called current_date": ('DeleteRows(table="rec", where="`current_date` < 0")', None),
    # Names.
    "a struct of a person": (
        'AddColumn(table="rec", column=pa.field("who", pa.struct([("firstName", pa.string())])))', "LM014",
    ),
    "a list of persons": (
        'AddColumn(table="rec", column=pa.field("who", pa.list_(pa.struct([("eMail", pa.string())]))))',
        "LM014",
    ),
    "a struct that is said to be": (
        'AddColumn(table="rec", column=pa.field("who", pa.struct([("email", pa.string())]), '
        'metadata={"sensitivity": "high"}))', None,
    ),
    "a flag": ('AddColumn(table="rec", column="email_verified: bool")', None),
    "a number of them": ('AddColumn(table="rec", column="patient_count: int64")', None),
    "an address of a machine": ('AddColumn(table="rec", column="mac_address: string")', None),
    "one name for another": (
        'CreateTable(table="p", schema={"id": "int64", "email": "string"}, key=("id",)), '
        'SetMetadata(table="p", column="email", metadata={"sensitivity": "high"})', None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation(tmp_path: Path, name: str):
    operations, code = OPERATIONS[name]
    found = linted(tmp_path, f"operations = [{operations}]\n")
    assert [each.code for each in found] == (code or "").split(), [(e.line, e.message) for e in found]


COLUMNS = """[
    pa.field("id", pa.int64(), nullable=False), ("host", pa.string()), ("gain", pa.float64()),
    ("samples", pa.int64()),
    ("at", pa.timestamp("us")), ("audio", pa.binary()), ("unit", pa.string()),
    ("device", pa.struct([("serial", pa.string()), ("channels", pa.int32())])),
]"""
TRANSFORM = 'TransformTable(table="rec", using=f, schema=pa.schema({}), reads=("id", "gain"))'
SAME = "def f(batch: pa.RecordBatch) -> pa.RecordBatch:\n    return batch\n"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('pa.field("id"', 'pa.field("id"', None),
        ('"samples", pa.int64()', '"samples", pa.int32()', "rec.samples becomes int32"),
        ('pa.timestamp("us")', 'pa.timestamp("s")', "rec.at becomes timestamp[s]"),
        ('"gain", pa.float64()', '"gain", pa.float32()', "rec.gain becomes float32"),
        ('"channels", pa.int32()', '"channels", pa.int8()', "rec.device.channels becomes int8"),
        ('"host", pa.string()', '"host", pa.large_string()', None),
        ('"samples", pa.int64()', '"samples", pa.string()', None),
    ],
)
@pytest.mark.parametrize("operation", [TRANSFORM, 'BuildTable(table="rec", rows=[], schema=pa.schema({}))'])
def test_a_table_that_is_written_anew_with_a_narrower_type_is_told(
    tmp_path: Path, operation: str, old: str, new: str, said: str | None
):
    schema = COLUMNS.replace(old, new)
    body = f"{SAME}operations = [{operation.format(schema)}]\ndowngrade = []\n"
    found = [each for each in linted(tmp_path, body) if each.code == "LM002"]
    assert [each.message.partition(",")[0] for each in found] == ([said] if said else [])


def test_a_field_of_a_struct_that_is_left_out_is_dropped(tmp_path: Path):
    schema = COLUMNS.replace('("serial", pa.string()), ', "")
    found = linted(tmp_path, f"{SAME}operations = [{TRANSFORM.format(schema)}]\ndowngrade = []\n")
    assert [(each.code, each.message.partition(":")[0]) for each in found] == [
        ("LM001", "rec is rewritten without device.serial")
    ]


@pytest.mark.parametrize(("of", "codes"), [("float32", []), ("float16", ["LM002"])])
def test_vectors_of_another_length_are_made_anew_and_not_cut_off(tmp_path: Path, of: str, codes: list[str]):
    make = 'CreateTable(table="t", schema={"id": "int64", "v": "fixed_size_list<float32>[8]"}, key=("id",))'
    schema = f'{{"id": "int64", "v": "fixed_size_list<{of}>[4]"}}'
    anew = f'TransformTable(table="t", using=f, schema={schema}, reads=("v",))'
    found = linted(tmp_path, f"{SAME}operations = [{make}, {anew}]\ndowngrade = []\n")
    assert [each.code for each in found] == codes


DOWNGRADES = {
    "drops what was added": (
        'AddColumn(table="rec", column="n: int64")', 'DropColumn(table="rec", column="n")', "",
    ),
    "drops a table that was made": (
        'CreateTable(table="t", schema={"id": "int64"}, key=("id",))', 'DropTable(table="t")', "",
    ),
    "drops what was there before": (
        'AddColumn(table="rec", column="n: int64")', 'DropColumn(table="rec", column="unit")', "LM001",
    ),
    "goes back to the type it was": (
        'RetypeColumn(table="rec", column="device.channels", to="int64")',
        'RetypeColumn(table="rec", column="device.channels", to="int32")', "",
    ),
    "goes back to less than it was": (
        'RetypeColumn(table="rec", column="device.channels", to="int64")',
        'RetypeColumn(table="rec", column="device.channels", to="int16")', "LM002",
    ),
    "deletes all": (
        """UpsertRows(table="rec", rows=[{"id": 1}], on=("id",))""",
        'DeleteRows(table="rec", where="true")', "LM003",
    ),
    "sets all": (
        """UpdateRows(table="rec", set={"unit": "'s'"}, where="unit is null")""",
        'UpdateRows(table="rec", set={"unit": "NULL"})', "LM004",
    ),
    "is not idempotent": (
        """UpdateRows(table="rec", set={"gain": "gain * 2", "unit": "'s'"}, where="unit = 'm'")""",
        'UpdateRows(table="rec", set={"gain": "gain / 2"}, where="id > 1")', "LM007",
    ),
    "fills a column that it adds": (
        'RenameColumn(table="rec", column="unit", to="units")',
        'AddColumn(table="rec", column="unit: string"), '
        'UpdateRows(table="rec", set={"unit": "units"}), DropColumn(table="rec", column="units")', "",
    ),
    "asks the clock": (
        """UpdateRows(table="rec", set={"unit": "'s'"}, where="unit is null")""",
        'UpdateRows(table="rec", set={"at": "now()"}, where="id > 1")', "LM010",
    ),
    "computes by what is not pure": (
        """UpdateRows(table="rec", set={"unit": "'s'"}, where="unit is null")""", BACKFILL, "LM011",
    ),
    "takes back a personal name": (
        'AddColumn(table="rec", column="n: int64")',
        'DropColumn(table="rec", column="n"), RenameColumn(table="rec", column="unit", to="email")', "",
    ),
    "loses an index that was made": (
        'CreateIndex(table="rec", column="unit", type="NGRAM")',
        'RetypeColumn(table="rec", column="unit", to="binary")', "",
    ),
    "loses an index that was there": (
        'AddColumn(table="rec", column="n: int64")',
        'RetypeColumn(table="rec", column="host", to="list<string>", using="[host]")', "LM002 LM008",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DOWNGRADES)
def test_a_downgrade(tmp_path: Path, name: str):
    up, down, code = DOWNGRADES[name]
    above = "def f(batch: pa.RecordBatch) -> pa.Array:\n    print(batch)\n    return batch.column(0)\n"
    found = linted(tmp_path, f"{above}operations = [{up}]\ndowngrade = [\n    {down}\n]\n")
    assert [each.code for each in found] == code.split(), [(e.line, e.message) for e in found]


def test_a_finding_in_a_downgrade_is_at_its_line_and_can_be_ignored(tmp_path: Path):
    down = 'DeleteRows(table="rec", where="true"),'
    body = 'operations = [AddColumn(table="rec", column="n: int64")]\ndowngrade = [\n{}    {}\n]\n'
    [found] = linted(tmp_path, body.format("", down))
    assert found.line == 8
    assert (
        linted(tmp_path, body.format("    # lancemig: ignore[LM003] all came with this revision\n", down))
        == []
    )
