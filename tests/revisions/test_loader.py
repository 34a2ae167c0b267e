"""A file is run as it was read, and what it declares becomes a migration or a message with a line."""

import pickle
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from lancemig import AddColumn, Check, CreateTable, DropColumn, RenameColumn, UpdateRows
from lancemig.catalog.operations import Kind
from lancemig.catalog.schema import CatalogSchema
from lancemig.errors import PlanError, ScriptError
from lancemig.revisions.header import read_header
from lancemig.revisions.loader import Migration, load_migration, replay

RENAME = 'RenameColumn(table="recordings", column="fs", to="rate")'
ADD = 'AddColumn(table="recordings", column="x: int8")'
UPDATE = 'UpdateRows(table="recordings", set={"fs": "1"})'
IMPORT = "from lancemig import AddColumn, DropColumn, RenameColumn, UpdateRows\n"


@pytest.fixture
def loaded(write):
    """Load a file with this body."""

    def of(body: str, **header: str) -> Migration:
        return load_migration(read_header(write(IMPORT + body + "\n", **header)))

    return of


@pytest.fixture
def refusal(write):
    """What is said about a file with this body, whose first line is the file's sixth."""

    def of(body: str) -> str:
        path = write(IMPORT + body + "\n")
        with pytest.raises(ScriptError) as caught:
            load_migration(read_header(path))
        assert caught.value.next_step
        assert caught.value.message.startswith(str(path))
        return caught.value.message.removeprefix(str(path))

    return of


def test_a_migration_holds_the_operations_in_their_order(loaded):
    migration = loaded(f"operations = [{RENAME}, {ADD}]")
    assert migration.operations == (
        RenameColumn(table="recordings", column="fs", to="rate"),
        AddColumn(table="recordings", column="x: int8"),
    )
    assert migration.header.revision == "0001"
    assert migration.downgrade is None


def test_downgrade_may_be_declared(loaded):
    migration = loaded(f"operations = [{ADD}]\ndowngrade = (DropColumn(table='recordings', column='x'),)")
    assert migration.downgrade == (DropColumn(table="recordings", column="x"),)


def test_an_empty_downgrade_is_not_a_missing_one(loaded):
    assert loaded(f"operations = [{ADD}]\ndowngrade = []").downgrade == ()


@pytest.mark.parametrize(
    ("operations", "kind"),
    [
        ("", "data-only"),
        (UPDATE, "data-only"),
        (f"{UPDATE}, {ADD}", "additive"),
        (f"{RENAME}, {ADD}", "rebuild"),
    ],
)
def test_the_kind_is_what_the_operations_need(loaded, operations, kind):
    assert loaded(f"operations = [{operations}]").kind is Kind(kind)


def test_a_weaker_promise_than_needed_is_kept(loaded):
    assert loaded(f"kind = 'rebuild'\noperations = [{ADD}]").kind is Kind.REBUILD


def test_a_promise_the_operations_break_names_the_first_that_does(refusal):
    said = refusal(f"kind = 'data-only'\noperations = [{UPDATE}, {ADD}, {RENAME}]")
    assert said == (
        ":6: kind is 'data-only', but operation 2 (recordings: add column x: int8) is 'additive': "
        "adds a nullable column; existing programs don't read it"
    )


def test_the_file_knows_where_it_is(loaded, versions):
    migration = loaded(f"import pathlib\nname = pathlib.Path(__file__).parent.name\noperations = [{ADD}]")
    assert sys.modules["lancemig_versions.0001_first"].name == "versions"
    assert migration.header.path.parent == versions


def test_functions_of_a_file_can_be_pickled(loaded):
    migration = loaded(
        "def half(batch):\n    return batch.column(0)\n"
        "operations = [AddColumn(table='t', column='x: int8', using=half, reads=('fs',))]"
    )
    half = migration.operations[0].using
    assert half.__module__ == "lancemig_versions.0001_first"
    assert pickle.loads(pickle.dumps(half)) is half  # noqa: S301


def test_a_dot_in_a_file_s_name_makes_no_package(write):
    path = write("def f(batch): return batch\noperations = []\n", name="2026.05_first.py")
    load_migration(read_header(path))
    f = sys.modules["lancemig_versions.2026_05_first"].f
    assert pickle.loads(pickle.dumps(f)) is f  # noqa: S301


def test_loading_leaves_no_byte_code_and_sys_path_alone(loaded, versions):
    path = list(sys.path)
    loaded(f"operations = [{ADD}]")
    assert [entry.name for entry in versions.iterdir()] == ["0001_first.py"]
    assert sys.path == path


def test_each_loading_runs_the_file_anew(loaded):
    body = f"operations = [{ADD}]"
    assert loaded(body) == loaded(body)
    assert loaded(body).operations[0] is not loaded(body).operations[0]


def test_a_failed_file_leaves_the_module_before_it(loaded, refusal):
    loaded(f"mark = 1\noperations = [{ADD}]")
    refusal("mark = 2\noperations = 1 / 0")
    assert sys.modules["lancemig_versions.0001_first"].mark == 1


def test_a_file_that_changed_since_its_header_was_read_is_not_run(write):
    header = read_header(write())
    write("operations = [1]\n")
    with pytest.raises(ScriptError, match="was changed while lancemig read it"):
        load_migration(header)


def test_a_relative_path_is_said_as_it_was_given(write, monkeypatch, versions):
    write("operations = 1 / 0\n")
    monkeypatch.chdir(versions.parent)
    with pytest.raises(ScriptError, match=r"^versions/0001_first\.py:5: ZeroDivisionError: division by zero"):
        load_migration(read_header(Path("versions/0001_first.py")))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("", ": `operations` is missing: add `operations = [...]`"),
        ("def upgrade(): pass", "a function `upgrade` is never called"),
        (
            f"operation = [{ADD}]",
            ": `operation` has operations but is not used; did you mean `operations`?",
        ),
        (f"operations = []\ndowngrades = [{ADD}]", "did you mean `downgrade`?"),
        (f"operations = {ADD}", ": `operations` must be a list of operations, not AddColumn"),
        ("operations = [AddColumn]", ": operation 1 is not an operation but the class AddColumn itself"),
        (f"operations = [{ADD}, 'x']", ": operation 2 is not an operation but a str"),
        (f"operations = [[{ADD}]]", ": operation 1 is not an operation but a list"),
        (
            f"operations = []\ndowngrade = {{'a': {ADD}}}",
            ": `downgrade` must be a list of operations, not dict",
        ),
        (
            "from lancemig.catalog.operations import UndoRows\noperations = [UndoRows(table='t')]",
            ": operation 1: UndoRows is internal to lancemig",
        ),
    ],
)
def test_what_are_no_operations_is_refused(refusal, body, said):
    assert said in refusal(body)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            "operations = [\n    RenameColumn(\n        table='t', colum='fs', to='rate'\n    ),\n]",
            ":7: RenameColumn.colum: unknown field; did you mean column?",
        ),
        ("operations = [RenameColumn(table='t', column='fs')]", ":6: RenameColumn.to: missing"),
        (
            "from lancemig import CreateTable\noperations = [CreateTable(table='t', schemas={'a': 'int8'})]",
            ":7: CreateTable.schemas: unknown field; did you mean schema?",
        ),
        (
            "operations = [AddColumn(table='t', column='x: int7')]",
            ":6: AddColumn.column: unknown type 'int7'",
        ),
        (
            "operations = [AddColumn(table='t', column='x: int8', sql='1', using=print)]",
            ":6: AddColumn.using: expected a function",
        ),
        (
            "def f(b): return b\noperations = [AddColumn(table='t', column='x: int8', sql='1', using=f)]",
            ":7: AddColumn: sql and using cannot be combined",
        ),
    ],
)
def test_a_wrong_field_is_said_with_its_line_and_the_right_one(refusal, body, said):
    assert refusal(body) == said or refusal(body).startswith(said + ", not")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("operations = 1 / 0", ":6: ZeroDivisionError: division by zero"),
        ("def f():\n    return {}['a']\noperations = f()", ":7: KeyError: 'a'"),
        (
            "import no_such_module\noperations = []",
            ":6: ModuleNotFoundError: No module named 'no_such_module'",
        ),
        ("import json\noperations = json.loads('[')", ":7: JSONDecodeError: "),
        ("import sys\noperations = sys.exit(3)", ":7: SystemExit: 3"),
        ("operations = [DropTable(table='t')]", "; add: from lancemig import DropTable"),
        ("from lancemig import DropTabel\noperations = []", "; did you mean DropTable"),
        ("operations = [DropColumn('t', 'fs')]", "pass every field by name"),
    ],
)
def test_what_a_file_raises_is_said_with_its_own_line(refusal, body, said):
    assert said in refusal(body)


@pytest.mark.parametrize(
    ("operation", "why"),
    [
        ('DeleteRows(table=7, where="a = 1")', "DeleteRows.table: must be text, not 7"),
        ('DeleteRows(table="t", where="a = 1", max_rows=-1)', "max_rows: must be at least 0, not -1"),
        ('DeleteRows(table="t", where="a = 1", max_rows="few")', "must be a whole number, not 'few'"),
        ('BackfillColumns(table="t", columns="a", reads=("b",))', "columns: must be a list, not 'a'"),
        ('UpdateRows(table="t", set={})', "UpdateRows.set: must have at least 1 item, not {}"),
        (
            'UpsertRows(table="t", rows=[], on=("id",), when_exists="skip")',
            "when_exists: must be 'error', 'overwrite', 'keep' or 'extend', not 'skip'",
        ),
        ('RenameColumn(table="t", column="a", to="b.c")', "to: must match the pattern"),
        ('AddColumn(table="t", column="a int")', "AddColumn.column: cannot parse the type 'a int'"),
    ],
)
def test_a_value_that_does_not_fit_a_field_is_refused_in_plain_words(refusal, operation, why):
    message = refusal(f"from lancemig import *\noperations = [{operation}]")
    assert why in message
    assert "Input should be" not in message
    assert "Value error" not in message


def test_an_interrupt_is_not_the_file_s_fault(write):
    path = write("def f():\n    raise KeyboardInterrupt\noperations = f()\n")
    with pytest.raises(KeyboardInterrupt):
        load_migration(read_header(path))


def test_a_header_that_running_the_file_changes_is_refused(refusal):
    assert "`revision` became '0002' when the file was run" in refusal(
        "operations = [revision := '0002'][:0]"
    )


def test_replay_applies_the_operations_of_all_migrations(loaded):
    create = loaded(
        "from lancemig import CreateTable\n"
        "operations = [CreateTable(table='recordings', schema={'fs': 'int32'}, key=('fs',))]"
    )
    rename = loaded(f"operations = [{RENAME}, {ADD}]")
    table = replay([create, rename]).table("recordings")
    assert table.columns == pa.schema({"rate": pa.int32(), "x": pa.int8()})
    assert table.key == ("rate",)
    assert replay([rename], start=replay([create])) == replay([create, rename])
    assert replay([]) == CatalogSchema()


def test_replay_names_the_operation_that_is_impossible(loaded):
    create = CreateTable(table="recordings", schema={"fs": "int32"}).after(CatalogSchema())
    migration = loaded(f"operations = [{UPDATE}, {ADD}, {RENAME.replace('fs', 'f')}]")
    with pytest.raises(PlanError) as caught:
        replay([migration], start=create)
    assert caught.value.message == (
        "revision 0001, operation 3 (recordings: rename column f to rate): "
        "table 'recordings' has no column 'f'; columns: fs, x"
    )
    assert UpdateRows(table="recordings", set={"fs": "1"}) in migration.operations


CHECK = 'Check(sql="select * from recordings where fs <= 0")'


class TestChecks:
    """`checks = [...]`, beside the operations."""

    @pytest.fixture
    def checked(self, loaded):
        return lambda body: loaded(f"from lancemig import Check\noperations = [{ADD}]\n{body}").checks

    @pytest.fixture
    def said(self, refusal):
        return lambda body: refusal(f"from lancemig import Check\noperations = [{ADD}]\n{body}")

    def test_are_read_in_their_order(self, checked):
        body = f'checks = [{CHECK}, Check(sql="select 1", expect=1, name="one", when="after")]'
        assert checked(body) == (
            Check(sql="select * from recordings where fs <= 0"),
            Check(sql="select 1", expect=1, name="one", when="after"),
        )

    def test_are_none_unless_declared(self, checked):
        assert checked("") == checked("checks = []") == checked("checks = None") == ()

    @pytest.mark.parametrize("name", ["check", "cheks", "Checks", "checks_"])
    def test_under_another_name_are_not_passed_over(self, said, name):
        assert said(f"{name} = [{CHECK}]") == (
            f": `{name}` has checks but is not used; did you mean `checks`?"
        )

    @pytest.mark.parametrize(
        ("body", "why"),
        [
            (f"checks = {CHECK}", ": `checks` must be a list of checks, not Check"),
            ('checks = "select 1"', ": `checks` must be a list of checks, not str"),
            ('checks = ["select 1"]', ": check 1 is not a Check but a str"),
            (f"checks = [{CHECK}, {ADD}]", ": check 2 is not a Check but an AddColumn"),
            ("checks = [Check]", ": check 1 is not a Check but the class Check itself"),
            (f"downgrade = [{CHECK}]", ": `downgrade` operation 1 is not an operation but a Check"),
            ('checks = [Check(sgl="select 1")]', ":8: Check.sgl: unknown field; did you mean sql?"),
            (
                'checks = [Check(sql="select 1", expected=1)]',
                ":8: Check.expected: unknown field; did you mean expect?",
            ),
            ("checks = [Check()]", ":8: Check.sql: missing"),
            ('checks = [Check(sql=" ")]', ":8: Check.sql: an SQL query is required"),
            ('checks = [Check(sql="select 1", expect=[1])]', ":8: Check.expect: a list must be empty"),
            (
                'checks = [Check(sql="select 1", expect={})]',
                ":8: Check.expect: expected a number, text, True, False",
            ),
            ('checks = [Check(sql="select 1", when="during")]', ":8: Check.when: "),
            ('checks = [Check("select 1")]', "Check(sql=...)"),
        ],
    )
    def test_that_are_wrong_are_refused(self, said, body, why):
        assert said(body).startswith(why) or why in said(body)

    def test_want_their_import(self, refusal):
        assert "add: from lancemig import Check" in refusal(f"operations = []\nchecks = [{CHECK}]")
