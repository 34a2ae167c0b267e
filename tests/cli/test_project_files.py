"""What a project has beside its migrations: modules that they import, sources that they read, pipes."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from console import Console
from lab import Lab


@pytest.fixture(autouse=True)
def modules_are_forgotten(lab: Lab) -> Iterator[None]:
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(lab.folder) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def elsewhere(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory is not that of lancemig.ini."""
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))


def set_option(lab: Lab, line: str) -> None:
    ini = lab.folder / "lancemig.ini"
    ini.write_text(ini.read_text().replace("[lancemig]\n", f"[lancemig]\n{line}\n", 1))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(text))


class TestModules:
    """`prepend_sys_path`."""

    GAIN = 'UpdateRows(table="recordings", set={"gain": triple("gain")})'
    MODULE = "def triple(text):\n    return f'{text} * 3'\n"

    @pytest.mark.usefixtures("elsewhere")
    def test_a_module_beside_the_configuration_is_found(self, live: Lab, console: Console) -> None:
        write(live.folder / "helper_beside.py", self.MODULE)
        live.revision(self.GAIN, above="from helper_beside import triple")
        console.says("upgrade")
        assert [row["gain"] for row in live.rows("recordings")] == [3.0, 6.0]

    @pytest.mark.usefixtures("elsewhere")
    def test_a_function_may_import_it_when_it_is_called(self, live: Lab, console: Console) -> None:
        write(live.folder / "helpers_late" / "__init__.py", "")
        write(live.folder / "helpers_late" / "gains.py", "FACTOR = 5.0\n")
        body = """
            def raised(batch: pa.RecordBatch) -> pa.Array:
                from helpers_late.gains import FACTOR
                return pc.multiply(batch.column("gain"), FACTOR)
        """
        operation = 'BackfillColumns(table="recordings", columns=("gain",), reads=("gain",), using=raised)'
        live.revision(operation, above=body)
        console.says("upgrade")
        assert [row["gain"] for row in live.rows("recordings")] == [5.0, 10.0]

    def test_other_folders_are_named_in_the_configuration(
        self, live: Lab, console: Console, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        other = tmp_path_factory.mktemp("library")
        write(live.folder / "src" / "helper_inside.py", "def triple(text):\n    return twice(text)\n"
              "from helper_outside import twice\n")  # fmt: skip
        write(other / "helper_outside.py", "def twice(text):\n    return f'{text} * 2'\n")
        set_option(live, f"prepend_sys_path = src:{other}")
        live.revision(self.GAIN, above="from helper_inside import triple")
        assert "LM200" not in {found["code"] for found in console.json("lint", status=1)["findings"]}
        console.says("upgrade")
        assert [row["gain"] for row in live.rows("recordings")] == [2.0, 4.0]

    def test_none_is_searched_if_the_option_is_empty(self, live: Lab, console: Console) -> None:
        write(live.folder / "helper_hidden.py", self.MODULE)
        set_option(live, "prepend_sys_path =")
        # An earlier command of this process had another configuration.
        sys.path.remove(str(live.folder))
        live.revision(self.GAIN, above="from helper_hidden import triple")
        assert "No module named 'helper_hidden'" in console.refuses("upgrade", status=2)

    def test_it_comes_before_an_installed_module_of_that_name(self, live: Lab, console: Console) -> None:
        write(live.folder / "this.py", self.MODULE)
        live.revision(self.GAIN, above="from this import triple")
        console.says("upgrade")
        assert [row["gain"] for row in live.rows("recordings")] == [3.0, 6.0]

    def test_lint_reads_the_functions_of_such_a_module(self, live: Lab, console: Console) -> None:
        module = """
            import random
            import pyarrow as pa

            def noise(batch: pa.RecordBatch) -> pa.Array:
                return pa.array([random.random() for _ in range(batch.num_rows)])
        """
        write(live.folder / "src" / "helper_random.py", module)
        set_option(live, "prepend_sys_path = src")
        operation = 'BackfillColumns(table="recordings", columns=("gain",), reads=("gain",), using=noise)'
        live.revision(operation, above="from helper_random import noise")
        codes = {finding["code"] for finding in console.json("lint", status=1)["findings"]}
        assert "LM010" in codes


class TestDatasets:
    """A dataset of files is opened when its rows are read."""

    @pytest.fixture
    def data(self, lab: Lab) -> Path:
        data = lab.folder / "in.parquet"
        pq.write_table(pa.table({"id": [2, 3], "gain": [20.0, 30.0]}), data)
        return data

    def upsert(self, lab: Lab, source: str) -> None:
        lab.revision(
            f'UpsertRows(table="recordings", rows={source}, on=("id",), when_exists="overwrite")',
            above="import pyarrow.dataset as ds\nfrom pyarrow.dataset import dataset",
        )

    @pytest.mark.parametrize(
        "source",
        [
            "ds.dataset({path!r})",
            "dataset({path!r}, format='parquet')",
            "ds.dataset(source=[{path!r}])",
            "ds.dataset([ds.dataset({path!r}), ds.dataset({empty!r})])",
        ],
    )
    def test_an_applied_revision_needs_its_files_no_more(
        self, live: Lab, console: Console, data: Path, source: str
    ) -> None:
        empty = data.with_name("empty.parquet")
        pq.write_table(pq.read_table(data).slice(0, 0), empty)
        self.upsert(live, source.format(path=str(data), empty=str(empty)))
        console.says("upgrade")
        assert [row["gain"] for row in live.rows("recordings")] == [1.0, 20.0, 30.0]
        data.unlink()
        empty.unlink()
        assert console("check").exit_code == 0
        live.revision('UpdateRows(table="recordings", set={"gain": "gain + 1"})')
        console.says("upgrade")
        assert [row["gain"] for row in live.rows("recordings")] == [2.0, 21.0, 31.0]

    def test_files_that_appear_after_the_plan_are_read(self, live: Lab, console: Console, data: Path) -> None:
        rows = data.read_bytes()
        data.unlink()
        self.upsert(live, f"ds.dataset({str(data)!r}, format='parquet')")
        message = console.refuses("upgrade", status=2)
        assert f"the source {str(data)!r} cannot be read: FileNotFoundError" in message
        assert [row["gain"] for row in live.rows("recordings")] == [1.0, 2.0]
        data.write_bytes(rows)
        console.says("upgrade")
        assert len(live.rows("recordings")) == 3

    def test_it_answers_like_a_dataset_while_the_file_runs(
        self, live: Lab, console: Console, data: Path
    ) -> None:
        self.upsert(live, f"ds.dataset({str(data)!r}).filter(pc.field('id') == 3).to_table()")
        console.says("upgrade")
        assert [row["gain"] for row in live.rows("recordings")] == [1.0, 2.0, 30.0]

    def test_outside_of_migration_files_nothing_is_deferred(self, data: Path) -> None:
        assert isinstance(ds.dataset(data), ds.FileSystemDataset)


class TestPipes:
    """A reader of a pipe waits for ever."""

    @pytest.mark.parametrize("verb", ["lint", "check", "history", "upgrade", "heads"])
    @pytest.mark.parametrize("name", ["0002_pipe.py", "lancemig.sum", ".lancemig.journal"])
    def test_a_pipe_among_the_migrations_is_named(
        self, live: Lab, console: Console, verb: str, name: str
    ) -> None:
        os.mkfifo(live.folder / "versions" / name)
        done = console(verb)
        named = f"{name} cannot be read: it is not a regular file"
        if done.exit_code == 0:
            assert verb not in ("lint", "check")
        else:
            assert named in done.output

    def test_a_pipe_as_a_module_of_the_project_is_no_module_for_lint(
        self, live: Lab, console: Console
    ) -> None:
        os.mkfifo(live.folder / "helper_pipe.py")
        body = """
            def gains(batch: pa.RecordBatch) -> pa.Array:
                import helper_pipe
                return helper_pipe.gains(batch)
        """
        operation = 'BackfillColumns(table="recordings", columns=("gain",), reads=("gain",), using=gains)'
        live.revision(operation, above=body)
        assert console("lint").exit_code in (0, 1)
