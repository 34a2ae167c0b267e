"""`query`, `audit`, and the catalog as a revision left it."""

import json
import shutil
from datetime import timedelta
from pathlib import Path

import lance
import pytest
from console import CREATE, DOUBLE, RENAME, Console
from lab import Lab
from servers import Place

import lancemig
from lancemig.errors import ConfigError, LancemigError, PlanError, Refused, ScriptError

SUM = "select sum(gain) as gain from recordings"


def checks(lab: Lab, text: str) -> None:
    with (lab.folder / "lancemig.ini").open("a") as file:
        file.write(f"\n[checks]\n{text}\n")


def gains(lab: Lab, at: str) -> list[float]:
    """What a program reads as revision `at` left it."""
    opened = lancemig.connect(lab.folder / "lancemig.ini", at=at).open_table("recordings")
    return sorted(opened.to_arrow().column("gain").to_pylist())


def clean(lab: Lab, table: str = "recordings", root: str | None = None) -> None:
    """What other people do to old versions."""
    dataset = lab.dataset(table, root)
    dataset.cleanup_old_versions(older_than=timedelta(0), delete_unverified=True)


def guard(lab: Lab, version: int, root: str = "v1/") -> None:
    tables = lab.catalog().store.tables
    tables.guard(tables.open(root, "recordings", version), f"lancemig/test/v{version}")


@pytest.fixture
def grown(live: Lab, console: Console) -> Lab:
    """0001 creates the table, 0002 doubles in place, 0003 renames by a rebuild; each applied by itself."""
    for operations in (DOUBLE, RENAME):
        live.revision(operations)
        console.says("upgrade")
    return live


class TestQuery:
    def test_shows_an_aligned_table(self, live: Lab, console: Console):
        assert console.says("query", "select id, gain, 'x' as letter from recordings order by id") == (
            "id  gain  letter\n"
            "--  ----  ------\n"
            " 1   1.0  x\n"
            " 2   2.0  x\n"
            "(2 rows)\n"
        )  # fmt: skip

    def test_shows_columns_where_no_row_comes(self, live: Lab, console: Console):
        assert console.says("query", "select id, gain from recordings where false") == (
            "id  gain\n--  ----\n(0 rows)\n"
        )

    def test_cuts_long_cells_and_long_answers(self, live: Lab, console: Console):
        said = console.says(
            "query", "select range as n, repeat('ab\n', 100) as long, null as nothing from range(250)"
        )
        lines = said.splitlines()
        assert len(lines) == 2 + 100 + 1
        assert lines[-1] == "(250 rows, first 100 shown)"
        assert "ab\\nab" in lines[2]
        assert lines[2].endswith("…  null")
        assert max(map(len, lines)) < 100

    def test_prints_all_of_it_as_json(self, live: Lab, console: Console):
        found = console.json(
            "query", "select range as n, '2026-02-09'::date as d, 1.50::decimal(4, 2) as e from range(250)"
        )
        assert found["columns"] == ["n", "d", "e"]
        assert len(found["rows"]) == 250
        assert found["rows"][0] == [0, "2026-02-09", "1.50"]

    def test_json_is_json_whatever_comes(self, live: Lab, console: Console):
        found = console.json(
            "query", "select 'nan'::float as f, '\\xff'::blob as b, null as n, {'a': [1]} as s, 1 as s"
        )
        assert found["columns"] == ["f", "b", "n", "s", "s"]
        assert json.loads(json.dumps(found, allow_nan=False))["rows"] == [["NaN", "ff", None, {"a": [1]}, 1]]

    def test_joins_tables_and_takes_odd_names(self, live: Lab, console: Console):
        live.revision('CreateTable(table="a-b.c", schema={"id": "int64"}, rows=[{"id": 2}])')
        console.says("upgrade")
        sql = 'select gain from recordings join "a-b.c" using (id)'
        assert console.json("query", sql)["rows"] == [[2.0]]

    @pytest.mark.parametrize(
        ("sql", "said"),
        [
            ("select nope from recordings", "nope"),
            ("select 1 from recording", "did you mean recordings?"),
            ("delete from recordings", "expected one query, not delete"),
            ("", "expected one query, not"),
        ],
    )
    def test_refuses_what_is_no_query_over_the_tables(self, live: Lab, console: Console, sql: str, said: str):
        assert said in console.refuses("query", sql, status=2)

    def test_needs_no_migration_files(self, live: Lab, console: Console):
        shutil.rmtree(live.folder / "versions")
        assert console.json("query", SUM)["rows"] == [[3.0]]

    def test_of_a_catalog_without_tables_says_so(self, lab: Lab, console: Console):
        assert "unknown table recordings" in console.refuses("query", SUM, status=2)
        assert console.json("query", "show tables")["rows"] == []


class TestAudit:
    def test_without_checks_says_so(self, live: Lab, console: Console):
        assert console.says("audit").startswith("no checks: neither [checks] in lancemig.ini")
        assert console.json("audit") == {"format": 1, "ok": True, "checks": []}

    def test_says_of_each_check_whether_it_holds(self, live: Lab, console: Console):
        checks(live, f"all positive = select id from recordings where gain <= 0\nsum = {SUM} => 3")
        assert console.says("audit") == "ok  all positive  no row\nok  sum           3.0\n"

    def test_exits_1_where_one_fails_and_tells_offenders(self, live: Lab, console: Console):
        checks(live, f"small = select id, gain from recordings\n  where gain > 1\nsum = {SUM} => 3")
        done = console("audit")
        assert done.exit_code == 1
        assert done.stdout.splitlines()[0].split() == [
            "FAILED",
            "small",
            "expected",
            "no",
            "row,",
            "got",
            "1",
            "row:",
            "id=2,",
            "gain=2.0",
        ]
        assert done.stdout.splitlines()[1].startswith("ok")
        found = console.json("audit", status=1)
        assert [(check["check"], check["ok"]) for check in found["checks"]] == [
            ("small", False),
            ("sum", True),
        ]
        assert not found["ok"]

    def test_a_check_that_cannot_be_made_fails_and_the_others_are_made(self, live: Lab, console: Console):
        checks(live, f"odd = select nope from recordings\nsum = {SUM} => 3")
        found = console.json("audit", status=1)
        assert [check["ok"] for check in found["checks"]] == [False, True]
        assert "nope" in found["checks"][0]["detail"]

    def test_of_an_earlier_revision(self, grown: Lab, console: Console):
        checks(grown, f"sum = {SUM} => 3")
        assert console("audit", "--at", "0001").exit_code == 0
        assert console("audit", "--at", "0002").exit_code == 1

    def test_writes_nothing(self, live: Lab, console: Console):
        checks(live, f"sum = {SUM} => 3")
        store = Path(live.place.store)
        before = {path: path.stat().st_mtime_ns for path in store.rglob("*")}
        console.says("audit")
        console.says("query", SUM)
        assert {path: path.stat().st_mtime_ns for path in store.rglob("*")} == before


class TestAt:
    """A revision's tables are those that it left, whatever came since."""

    def test_sees_each_revision_as_it_was(self, grown: Lab, console: Console):
        sums = {at: console.json("query", SUM, "--at", at)["rows"] for at in ("0001", "0002")}
        assert sums == {"0001": [[3.0]], "0002": [[6.0]]}
        volume = "select sum(volume) from recordings"
        assert console.json("query", volume, "--at", "0003")["rows"] == [[6.0]]
        assert 'Referenced column "volume" not found' in console.refuses(
            "query", volume, "--at", "0002", status=2
        )
        assert (gains(grown, "0001"), gains(grown, "0002")) == ([1.0, 2.0], [2.0, 4.0])

    def test_does_not_see_what_was_written_since(self, grown: Lab, console: Console):
        grown.append("recordings", [{"id": 3, "volume": 100.0}])
        count = "select count(*) from recordings"
        assert console.json("query", count, "--at", "0003")["rows"] == [[2]]
        assert console.json("query", count)["rows"] == [[3]]
        past = lancemig.connect(grown.folder / "lancemig.ini", at="0003")
        assert past.open_table("recordings").count_rows() == 2

    def test_takes_what_targets_are(self, grown: Lab, console: Console):
        targets = ("head", "current", "0003", "-1", "0002", "head-1")
        found = {at: console.says("query", "describe recordings", "--at", at) for at in targets}
        assert len({found["head"], found["current"], found["0003"]}) == 1
        assert len({found["-1"], found["head-1"], found["0002"]}) == 1
        assert found["head"] != found["-1"]

    def test_takes_a_prefix_by_the_lineage_where_there_are_no_files(self, lab: Lab, console: Console):
        lab.revision(CREATE)
        file = lab.folder / "versions" / "0001.py"
        file.write_text(file.read_text().replace("0001", "abcdef"))
        console.says("upgrade")
        shutil.rmtree(lab.folder / "versions")
        assert gains(lab, "abc") == [1.0, 2.0]
        with pytest.raises(ScriptError, match="no revision is named 'x' in the lineage"):
            gains(lab, "x")

    def test_a_table_that_was_not_there_is_not_there(self, live: Lab, console: Console):
        live.revision('CreateTable(table="later", schema={"id": "int64"})')
        console.says("upgrade")
        past = lancemig.connect(live.folder / "lancemig.ini", at="0001")
        assert (past.revision, past.table_names()) == ("0001", ["recordings"])
        with pytest.raises(PlanError, match="revision 0001 had no table 'later'; tables: recordings"):
            past.open_table("later")
        assert "unknown table later" in console.refuses("query", "from later", "--at", "0001", status=2)
        assert lancemig.connect(live.folder / "lancemig.ini", at="0002").table_names() == [
            "later",
            "recordings",
        ]

    def test_a_table_that_was_dropped_is_there(self, live: Lab, console: Console):
        live.revision('DropTable(table="recordings")')
        console.says("upgrade")
        assert gains(live, "0001") == [1.0, 2.0]
        assert lancemig.connect(live.folder / "lancemig.ini", at="0002").table_names() == []

    def test_what_is_opened_cannot_be_written_to(self, grown: Lab):
        table = lancemig.connect(grown.folder / "lancemig.ini", at="0002").open_table("recordings")
        rows = [{"id": 9, "gain": 9.0}]
        with pytest.raises(ValueError, match="cannot be modified"):
            table.add(rows)
        with pytest.raises(Refused):
            table.merge_insert("id").when_not_matched_insert_all().execute(rows)
        assert lance.dataset(table.uri).count_rows() == 2

    def test_is_the_newest_time_that_a_revision_was_applied(self, grown: Lab, console: Console):
        console.says("downgrade", "0001")
        grown.append("recordings", [{"id": 3, "gain": 10.0}])
        console.says("upgrade", "0002")
        assert gains(grown, "0002") == [2.0, 4.0, 20.0]

    def test_after_a_rollback_is_what_the_rollback_made_live(self, grown: Lab, console: Console):
        grown.append("recordings", [{"id": 3, "gain": 10.0}], root="v1/")
        console.says("rollback")
        assert gains(grown, "0002") == [2.0, 4.0, 10.0]

    def test_a_reconciliation_does_not_change_what_a_revision_left(self, grown: Lab, console: Console):
        grown.append("recordings", [{"id": 3, "gain": 10.0}], root="v1/")
        assert "1 row replicated" in console.says("reconcile")
        assert console.json("query", "select count(*) from recordings", "--at", "0003")["rows"] == [[2]]
        assert console.json("query", "select count(*) from recordings")["rows"] == [[3]]


class TestAtIsRefused:
    def test_for_base(self, grown: Lab, console: Console):
        assert "base is the catalog before the first revision" in console.refuses(
            "query", SUM, "--at", "base", status=2
        )

    @pytest.mark.parametrize("at", ["0009", "", "head-9", "nope"])
    def test_for_what_names_no_revision(self, grown: Lab, console: Console, at: str):
        assert "next: lancemig history" in console.refuses("query", SUM, "--at", at, status=2)

    def test_for_a_revision_that_was_never_applied(self, live: Lab, console: Console):
        live.revision(DOUBLE)
        said = console.refuses("query", SUM, "--at", "0002", status=2)
        assert "revision 0002 was never applied to this catalog" in said
        assert "next: lancemig history --lineage" in said

    def test_for_one_that_was_only_passed_through(self, live: Lab, console: Console):
        live.revision(RENAME)
        live.revision('CreateTable(table="later", schema={"id": "int64"})')
        console.says("upgrade")
        said = console.refuses("query", SUM, "--at", "0002", status=2)
        assert "revision 0002 was never live on its own: it was applied together with 0003" in said
        assert "next: use --at 0003" in said

    def test_for_a_catalog_without_lineage(self, lab: Lab, console: Console):
        lab.revision(CREATE)
        assert "never applied" in console.refuses("query", SUM, "--at", "0001", status=2)

    def test_where_lancemig_ini_bypasses_the_pointer(self, grown: Lab):
        ini = grown.folder / "lancemig.ini"
        ini.write_text(ini.read_text() + "resolution = pinned\n")
        with pytest.raises(ConfigError, match="which has no lineage"):
            gains(grown, "0001")

    def test_for_a_version_that_was_cleaned_away(self, live: Lab, console: Console):
        live.revision(DOUBLE)
        console.says("upgrade")
        for branch in live.dataset("recordings").branches.list():
            live.dataset("recordings").branches.delete(branch)
        clean(live)
        why = "recordings: version 1 of revision 0001 was removed by cleanup; it was not guarded"
        assert why in console.refuses("query", SUM, "--at", "0001", status=2)
        with pytest.raises(LancemigError, match=why):
            gains(live, "0001")
        assert console.json("query", "select 1", "--at", "0001")["rows"] == [[1]]
        assert gains(live, "0002") == [2.0, 4.0]

    def test_but_not_for_one_that_was_guarded(self, live: Lab, console: Console):
        live.revision(DOUBLE)
        console.says("upgrade")
        for branch in live.dataset("recordings").branches.list():
            live.dataset("recordings").branches.delete(branch)
        guard(live, 1)
        clean(live)
        assert console.json("query", SUM, "--at", "0001")["rows"] == [[3.0]]
        assert gains(live, "0001") == [1.0, 2.0]

    def test_for_a_root_that_is_gone(self, grown: Lab, console: Console):
        shutil.rmtree(Path(grown.place.store) / "v1")
        why = "at revision 0002 it was in v1/, where it no longer exists"
        assert why in console.refuses("query", SUM, "--at", "0002", status=2)


@pytest.mark.s3
def test_a_bucket_is_asked_now_and_then(tmp_path: Path, s3_place: Place):
    lab = Lab(tmp_path, s3_place)
    console = Console(lab)
    lab.revision(CREATE)
    console.says("upgrade")
    lab.revision(DOUBLE)
    console.says("upgrade")
    checks(lab, f"sum = {SUM} => 6")
    assert console.json("query", SUM)["rows"] == [[6.0]]
    assert console.json("query", SUM, "--at", "0001")["rows"] == [[3.0]]
    assert console.json("audit")["ok"]
    assert gains(lab, "0001") == [1.0, 2.0]
    said = console.refuses("query", "select * from read_text('s3://bucket/ACTIVE.json')", status=2)
    assert "Permission Error" in said or "does not exist" in said
