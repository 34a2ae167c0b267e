"""Each rule of `lint`, where it holds its tongue and where it does not; docs/lint.md has the plain cases."""

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from lancemig.catalog.findings import Finding
from lancemig.commands.lint import lint
from lancemig.config import read_settings

FIRST = """
CreateTable(
    table="recordings",
    schema=pa.schema([
        pa.field("id", pa.int64()), pa.field("gain", pa.float64()), pa.field("unit", pa.string()),
        pa.field("vector", pa.list_(pa.float32(), 4)),
    ]),
    key=("id",),
),
CreateIndex(table="recordings", column="vector", type="IVF_FLAT", name="near"),
"""
BACKFILL = 'BackfillColumns(table="recordings", columns=("gain",), reads=("gain",), using=f)'

Found = Callable[..., list[str]]


@pytest.fixture
def findings(tmp_path: Path) -> Callable[..., list[Finding]]:
    """What lint finds in a second revision, made of `operations` and what goes `above` them."""
    (tmp_path / "versions").mkdir()
    (tmp_path / "lancemig.ini").write_text("[lancemig]\nstore = store\n")

    def found(operations: str, *, above: str = "", below: str = "", first: str = FIRST) -> list[Finding]:
        for number, body, more in ((1, first, ""), (2, operations, above)):
            parent = '"0001"' if number == 2 else "None"
            (tmp_path / "versions" / f"000{number}.py").write_text(
                f'"""What it does."""\nimport pyarrow as pa\nfrom lancemig import *\n'
                f'revision = "000{number}"\ndown_revision = {parent}\n{dedent(more)}\n'
                f"operations = [{body}\n]\n{below if number == 2 else ''}\n"
            )
        return lint(read_settings(tmp_path / "lancemig.ini", environ={}), ignored=["LM210"])

    return found


@pytest.fixture
def codes(findings: Callable[..., list[Finding]]) -> Found:
    def found(*given: str, **more: str) -> list[str]:
        return [finding.code for finding in findings(*given, **more)]

    return found


def function(body: str, above: str = "") -> str:
    return f"{above}\n\ndef f(batch: pa.RecordBatch) -> pa.Array:\n    {body}\n    return batch.column(0)\n"


class TestOperations:
    def test_a_table_written_anew_without_a_column_drops_it(self, codes: Found):
        op = 'BuildTable(table="recordings", schema={"id": "int64"}, key=("id",), rows=[])'
        assert codes(op, below="downgrade = []") == ["LM001", "LM008"]

    def test_a_table_that_goes_is_dropped(self, codes: Found):
        assert codes('DropTable(table="recordings")') == ["LM001"]

    def test_a_column_of_the_same_file_is_filled_without_a_condition(self, codes: Found):
        fill = 'UpdateRows(table="recordings", set={"rate": "id"})'
        assert codes(f'AddColumn(table="recordings", column="rate: int64"), {fill}') == []

    def test_one_old_column_among_those_that_are_set_is_found(self, codes: Found):
        fill = 'UpdateRows(table="recordings", set={"rate": "id", "unit": "\'s\'"}, where="true")'
        assert codes(f'AddColumn(table="recordings", column="rate: int64"), {fill}') == ["LM004"]

    def test_what_a_file_takes_back_itself_is_reversible(self, codes: Found):
        op = 'RetypeColumn(table="recordings", column="gain", to="float64", using="gain * 2")'
        assert codes(op) == ["LM005"]
        assert codes(op, below="downgrade = []") == []

    def test_a_table_that_is_built_for_the_first_time_is_reversible(self, codes: Found):
        assert codes('BuildTable(table="new", schema={"id": "int64"}, key=("id",), rows=[])') == []

    def test_a_table_of_which_the_files_do_not_tell_is_left_alone(self, codes: Found):
        assert codes('RetypeColumn(table="adopted", column="gain", to="int8")') == []
        assert codes('DropColumn(table="adopted", column="gain")') == ["LM001"]

    def test_an_index_on_a_vector_of_another_length_lives_on(self, codes: Found):
        op = 'RetypeColumn(table="recordings", column="vector", to="fixed_size_list<float16>[4]")'
        assert "LM008" not in codes(op)

    def test_an_index_is_lost_where_no_vector_is_left(self, codes: Found):
        op = 'RetypeColumn(table="recordings", column="vector", to="string", using="\'x\'")'
        assert codes(op, below="downgrade = []") == ["LM008"]

    def test_an_index_that_is_made_again_is_not_lost(self, codes: Found):
        op = """DropColumn(table="recordings", column="vector"),
        AddColumn(table="recordings", column=pa.field("vector", pa.list_(pa.float32(), 8))),
        CreateIndex(table="recordings", column="vector", type="IVF_PQ")"""
        assert codes(op) == ["LM001"]

    def test_a_key_named_in_the_same_file_is_one(self, codes: Found):
        first = 'CreateTable(table="t", schema={"id": "int64", "a": "int64"})'
        rename = 'RenameColumn(table="t", column="a", to="b")'
        assert codes(rename, first=first) == ["LM009"]
        assert codes(f'SetKey(table="t", key=("id",)), {rename}', first=first) == []
        later = 'RenameTable(table="t", to="u"), SetKey(table="u", key=("id",))'
        assert codes(f"{rename}, {later}", first=first) == []
        assert codes(f'{rename}, SetKey(table="t", key=())', first=first) == ["LM009"]

    def test_a_table_without_a_key_is_told_once(self, codes: Found):
        first = 'CreateTable(table="t", schema={"id": "int64", "a": "int64"})'
        twice = 'RenameColumn(table="t", column="a", to="b"), RenameColumn(table="t", column="b", to="c")'
        assert codes(twice, first=first) == ["LM009"]

    def test_a_column_that_waits_for_a_rebuild_of_its_own_table_does_not_read_better_apart(
        self, codes: Found
    ):
        rename = 'RenameColumn(table="recordings", column="gain", to="volume")'
        assert codes(f'{rename}, AddColumn(table="recordings", column="rate: int64")') == []

    def test_what_goes_on_in_a_renamed_table_does_not_either(self, codes: Found):
        rename = 'RenameTable(table="recordings", to="sessions")'
        assert codes(f'{rename}, AddColumn(table="sessions", column="rate: int64")') == []

    def test_sql_that_changes_by_the_hour_is_found(self, codes: Found):
        op = 'UpdateRows(table="recordings", set={"unit": "cast(now() as string)"}, where="id > 1")'
        assert codes(op) == ["LM010"]
        assert codes(op.replace("now()", "'now()'")) == []


class TestPlaces:
    def test_a_finding_is_at_the_line_of_its_operation(self, findings: Callable[..., list[Finding]]):
        drop = 'DropColumn(table="recordings", column="{}")'
        [one, two] = findings("\n".join(["", drop.format("gain") + ",", "", drop.format("unit")]))
        assert (one.line, two.line) == (8, 10)
        assert one.path is not None
        assert one.path.name == "0002.py"

    def test_operations_that_are_computed_are_at_the_list(self, findings: Callable[..., list[Finding]]):
        [one, two] = findings('DropColumn(table="recordings", column=name) for name in ("gain", "unit")')
        assert one.line == two.line == 7

    def test_what_a_function_does_is_at_its_own_line(self, findings: Callable[..., list[Finding]]):
        [one] = findings(BACKFILL, above=function("print(1)"))
        assert one.line == 9


class TestFunctions:
    @pytest.mark.parametrize(
        ("body", "above", "code"),
        [
            ("dt.datetime.now()", "import datetime as dt", "LM010"),
            ("today()", "from datetime import date\ntoday = date.today", "LM010"),
            ("date.today()", "from datetime import date", "LM010"),
            ("clock()", "from time import time as clock", "LM010"),
            ("np.random.rand(3)", "import numpy as np", "LM010"),
            ("np.random.default_rng(7).random()", "import numpy as np", None),
            ("np.random.default_rng()", "import numpy as np", "LM010"),
            ("random.Random(7).random()", "import random", None),
            ("random.random()", "import random", "LM010"),
            ("uuid4()", "from uuid import uuid4", "LM010"),
            ("uuid5(NAMESPACE_DNS, 'a')", "from uuid import NAMESPACE_DNS, uuid5", None),
            ("hash('a')", "", "LM010"),
            ("import time; time.time()", "", "LM010"),
            ("HTTPConnection('x')", "from http.client import HTTPConnection", "LM011"),
            ("socket.create_connection(('x', 1))", "import socket", "LM011"),
            ("urlopen('http://x')", "from urllib.request import urlopen", "LM011"),
            ("quote('a')", "from urllib.parse import quote", None),
            ("os.environ['A']", "import os", "LM011"),
            ("os.getenv('A')", "import os", "LM011"),
            ("os.path.join('a', 'b')", "import os", None),
            ("open('x')", "", "LM011"),
            ("RAW.read_text()", "from pathlib import Path\nRAW = Path('x')", "LM011"),
            ("print(batch)", "", "LM011"),
            ("logging.info('x')", "import logging", "LM011"),
            ("global SEEN; SEEN = 1", "SEEN = 0", "LM012"),
            ("SEEN['a'] = 1", "SEEN = {}", "LM012"),
            ("SEEN.append(1)", "SEEN = []", "LM012"),
            ("seen = []; seen.append(1)", "", None),
            ("SEEN.get('a')", "SEEN = {}", None),
            ("[x.append(1) for x in ([],)]", "", None),
            ("open = str; open('x')", "", None),
            ("open('x')", "def open(name):\n    return name", None),
            ("print('x')", "print = str", None),
        ],
    )
    def test_what_is_pure_and_what_is_not(self, codes: Found, body: str, above: str, code: str | None):
        assert codes(BACKFILL, above=function(body, above)) == ([code] if code else [])

    def test_what_every_command_computes_anew_is_found(self, findings: Callable[..., list[Finding]]):
        above = "from datetime import datetime\nNOW = datetime.now()\nDAY = datetime(2026, 5, 20)"
        [one] = findings("", above=above)
        assert (one.code, one.line) == ("LM010", 7)
        assert one.message == "the file reads the clock: datetime.datetime.now()"

    def test_an_operation_that_is_made_of_it_too(self, codes: Found):
        op = 'UpdateRows(table="recordings", set={"unit": str(uuid4())}, where="id > 1")'
        assert codes(op, above="from uuid import uuid4") == ["LM010"]

    def test_a_function_that_it_calls_is_looked_at(self, codes: Found):
        above = "import random\n\ndef g():\n    return random.random()\n\n" + function("g()")
        assert codes(BACKFILL, above=above) == ["LM010"]

    def test_a_function_that_no_operation_uses_is_not(self, codes: Found):
        assert codes("", above=function("print(1)")) == []

    def test_a_source_of_rows_may_read_files(self, codes: Found):
        above = "def rows():\n    open('x')\n    return []\n"
        assert codes('UpsertRows(table="recordings", rows=rows, on=("id",))', above=above) == []

    def test_a_default_that_is_kept_is_found(self, codes: Found):
        above = "def f(batch, seen=[]):\n    return batch.column(0)\n"
        assert codes(BACKFILL, above=above) == ["LM012"]

    def test_a_function_of_two_operations_is_told_once(self, codes: Found):
        assert codes(f"{BACKFILL}, {BACKFILL}", above=function("print(1)")) == ["LM011"]


class TestIgnores:
    DROP = 'DropColumn(table="recordings", column="unit")'

    @pytest.mark.parametrize(
        "operations",
        [
            "\n{drop},  # lancemig: ignore[LM001] unused",
            "\n# lancemig: ignore[LM001] unused\n{drop},",
            "\n# lancemig: ignore[LM001] unused\n# since 2.3\n\n{drop},",
            '\nDropColumn(\n    # lancemig: ignore[LM001] unused\n    table="recordings", column="unit",\n),',
            "\n# lancemig: ignore[LM014, LM001]: unused\n{drop},",
        ],
    )
    def test_a_reason_silences(self, codes: Found, operations: str):
        assert codes(operations.format(drop=self.DROP)) == []

    @pytest.mark.parametrize(
        ("comment", "said"),
        [
            ("# lancemig: ignore[LM001]", "without a reason"),
            ("# lancemig: ignore[LM001] -", "without a reason"),
            ("# lancemig: ignore it", "does not name a finding code"),
            ("# lancemig: ignore[] it", "does not name a finding code"),
            ("# lancemig: ignore[LM0O1] it", "finding code LM0O1 does not exist"),
        ],
    )
    def test_what_does_not_is_found_itself(
        self, findings: Callable[..., list[Finding]], comment: str, said: str
    ):
        found = findings(f"\n{self.DROP},  {comment}\n")
        assert [finding.code for finding in found] == ["LM001", "LM018"]
        assert said in found[1].message

    def test_a_comment_on_one_operation_does_not_silence_the_next(self, codes: Found):
        first = f"{self.DROP},  # lancemig: ignore[LM001] unused\n"
        assert codes(f"\n{first}{self.DROP.replace('unit', 'gain')},") == ["LM001"]

    def test_text_that_only_looks_like_a_comment_is_none(self, codes: Found):
        assert codes("", above='TEXT = "# lancemig: ignore[LM001]"') == []

    def test_a_line_of_a_function_is_silenced(self, codes: Found):
        above = function("print(1)  # lancemig: ignore[LM011] progress of a slow model")
        assert codes(BACKFILL, above=above) == []


@pytest.mark.parametrize(
    "operation",
    [
        'CreateTable(table="p", schema={"id": "int64", "email": "string"}, key=("id",))',
        'AddColumn(table="recordings", column=pa.field("who", pa.struct([("email", pa.string())])))',
        'RenameColumn(table="recordings", column="unit", to="email")',
    ],
)
def test_a_column_that_gets_a_personal_name_is_found_wherever_it_comes_from(codes: Found, operation: str):
    assert codes(operation) == ["LM014"]


def test_what_is_said_in_the_fields_metadata_counts(codes: Found):
    field = 'pa.field("email", pa.string(), metadata={"sensitivity": "none"})'
    assert codes(f'AddColumn(table="recordings", column={field})') == []
