"""The documents are true: their commands are run, their files written, their examples applied.

How a fenced block of *.md or docs/*.md is taken, by what follows its backticks:

    console                each line after `$ ` is run in a scratch folder per document: the README's by bash,
                           with the console script, those of docs/ in this process, which is faster. It must
                           end with 0, or with N where `# exit N` ends it. Lines below it are its output; ids,
                           dates, sizes, folders may differ. `...` is any number of lines, or the rest of one.
    console not-run: WHY   is not run.
    LANGUAGE file=PATH     is written to PATH in the scratch folder.
    LANGUAGE append=PATH   is appended to it.
    python run             is run there, in this process.
    python operation       is the content of a migration, applied to the catalog of docs/operations.md and
                           taken back again; `irreversible` after it: refused on the way back.
    json                   can be parsed.
    text, mermaid          is for the eye alone.

A document that says `<!-- scratch: example -->` starts with a copy of the repository's example. Blocks see
the environment variables CATALOG_BUCKET and CATALOG_ENDPOINT, which name an empty bucket on moto's server.
"""

import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from servers import bucket_at

import lancemig
from lancemig.apply.lock import Lock
from lancemig.apply.retention.copy import CopiedObject, CopyRecord
from lancemig.apply.retention.readers import ReaderLease
from lancemig.apply.root_owner import RootOwner
from lancemig.apply.sidecar import Run
from lancemig.apply.stages import Phase
from lancemig.catalog.lineage import (
    Action,
    Archived,
    Collected,
    Copied,
    GateOutcome,
    LineageEntry,
    Pointer,
    VerificationReport,
)
from lancemig.catalog.operations import Operation
from lancemig.cli import main
from lancemig.commands import upgrade
from lancemig.commands.context import Catalog, open_catalog
from lancemig.config import read_settings
from lancemig.config.values import readers
from lancemig.errors import Irreversible, LancemigError
from lancemig.plan.plan import Plan, Step

REPOSITORY = Path(__file__).parent.parent
DOCS = REPOSITORY / "docs"
PAGES = [*sorted(REPOSITORY.glob("*.md")), *sorted(DOCS.glob("*.md"))]
OPERATIONS = {
    name: found
    for name in lancemig.__all__
    if isinstance(found := getattr(lancemig, name), type) and issubclass(found, Operation)
}

FENCE = re.compile(
    r"^(?P<fence>`{3,})(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=fence) *$", re.DOTALL | re.MULTILINE
)
FOLDER = "/home/you/demo"
VARIABLE = [
    (re.compile(r"\d{8}T\d{6}Z(-[0-9a-f]{4})?"), "RUN"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(Z|\+\d\d:\d\d)?"), "TIME"),
    (re.compile(r"\b[0-9a-f]{12,64}\b"), "HEX"),
    (re.compile(r"~?\b\d[\d.,]* [kMGT]?B\b"), "SIZE"),
    (re.compile(r"[\w.-]+@[\w.-]+"), "NAME@PLACE"),
    (re.compile(r" +"), " "),
]


@dataclass(frozen=True)
class Block:
    """A fenced block, and where it stands."""

    page: Path
    line: int
    info: str
    body: str

    @property
    def language(self) -> str:
        return self.info.split(" ")[0]

    @property
    def marks(self) -> dict[str, str]:
        return dict(word.partition("=")[::2] for word in self.info.split(" ")[1:])

    @property
    def place(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, match.start()) + 1, match["info"].strip(), match["body"])
        for match in FENCE.finditer(text)
    ]


ALL = [block for page in PAGES for block in blocks(page)]
EXAMPLES = [block for block in ALL if block.language == "python" and "operation" in block.marks]


@pytest.fixture
def environment(moto_endpoint: str) -> dict[str, str]:
    """What a document's commands find in their environment."""
    place = bucket_at("moto", moto_endpoint)
    given = {name: text for name, text in os.environ.items() if not name.startswith("LANCEMIG_")}
    script = Path(sys.executable).with_name("lancemig")
    assert script.exists(), "install the package: pip install -e '.[test]'"
    return {
        **given,
        "PATH": f"{script.parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "100",
        "CATALOG_BUCKET": place.store.removeprefix("s3://"),
        "CATALOG_ENDPOINT": moto_endpoint,
    }


@pytest.mark.s3
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_document_shows_is_what_happens(page: Path, tmp_path: Path, environment: dict[str, str]):
    if "<!-- scratch: example -->" in page.read_text(encoding="utf-8"):
        shutil.copy(REPOSITORY / "lancemig.ini", tmp_path)
        shutil.copytree(REPOSITORY / "versions", tmp_path / "versions")
        shutil.copytree(DOCS / "example", tmp_path / "docs" / "example")
    wrong = [said for block in blocks(page) for said in follow(block, tmp_path, environment)]
    assert not wrong, "\n\n".join(wrong)


def follow(block: Block, folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """Do what the block says; what it shows and does not happen."""
    if block.language == "console" and "not-run:" not in block.info:
        for command, shown in commands(block.body):
            yield from run(block, command, shown, folder, environment)
    elif {"file", "append"} & block.marks.keys():
        path = folder / (block.marks.get("file") or block.marks["append"])
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w" if "file" in block.marks else "a", encoding="utf-8") as file:
            file.write(block.body)
    elif block.language == "python" and "run" in block.marks:
        with chdir(folder):
            exec(compile(block.body, block.place, "exec"), {"__name__": "__main__"})  # noqa: S102
    elif block.language == "json":
        json.loads(block.body)


def commands(body: str) -> Iterator[tuple[str, list[str]]]:
    """Each command, and the output shown below it."""
    assert body.startswith("$ "), body
    for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
        command, *shown = part.rstrip("\n").split("\n")
        yield command, shown


def run(
    block: Block, command: str, shown: list[str], folder: Path, environment: dict[str, str]
) -> Iterator[str]:
    run_by = by_bash if block.page.name == "README.md" else in_process
    status, stdout, stderr = run_by(command, folder, environment)
    expected = re.search(r"# exit (\d+)$", command)
    told = f"{block.place}: $ {command}\n{stdout}{stderr}"
    assert status == int(expected[1] if expected else 0), f"{told}(exit {status})"
    found = [normal(text, folder) for text in (stdout, stdout + stderr)]
    wanted = pattern(shown, folder)
    if shown and not any(re.fullmatch(wanted, text) for text in found):
        yield f"{told}\nis not what is shown:\n" + "\n".join(shown)


def by_bash(command: str, folder: Path, environment: dict[str, str]) -> tuple[int, str, str]:
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


def in_process(command: str, folder: Path, environment: dict[str, str]) -> tuple[int, str, str]:
    program, *arguments = shlex.split(command, comments=True)
    assert program == "lancemig", f"{command}: only lancemig is run in this process"
    with chdir(folder), forgetting_modules(folder):
        done = CliRunner().invoke(main, arguments, env=environment)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


@contextmanager
def forgetting_modules(folder: Path) -> Iterator[None]:
    """Modules of this folder are imported anew by the next command, as a new process would."""
    path = list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = path
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(str(folder)):
                del sys.modules[name]
        importlib.invalidate_caches()


def normal(text: str, folder: Path) -> str:
    """Text with everything that differs from run to run made equal."""
    text = text.replace(str(folder), FOLDER)
    for changing_part, word in VARIABLE:
        text = changing_part.sub(word, text)
    return "\n".join(line.rstrip() for line in text.strip().split("\n"))


def pattern(shown: list[str], folder: Path) -> str:
    lines = normal("\n".join(shown), folder).split("\n")
    return "\n".join(
        r"(?s:.*)" if line == "..." else re.escape(line).replace(r"\.\.\.", "[^\n]*") for line in lines
    )


def test_what_is_not_run_says_why():
    for block in ALL:
        if "not-run" in block.info:
            assert re.search(r"not-run: \w+ \w+", block.info), block.place


def test_every_block_says_what_it_is():
    known = {"console", "python", "ini", "json", "mermaid", "text", "yaml"}
    for block in ALL:
        assert block.language in known, f"{block.place}: {block.info!r}"


@pytest.fixture(scope="module")
def tiny_catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The catalog of docs/operations.md, at its first revision."""
    folder = tmp_path_factory.mktemp("tiny")
    first = next(b for b in blocks(DOCS / "operations.md") if "file" in b.marks)
    path = folder / first.marks["file"]
    path.parent.mkdir()
    path.write_text(first.body, encoding="utf-8")
    (folder / "lancemig.ini").write_text("[lancemig]\nstore = %(here)s/store\nfallback_prefix = v1/\n")
    migrate(opened(folder), "head", "up")
    return folder


def opened(folder: Path) -> Catalog:
    return open_catalog(read_settings(folder / "lancemig.ini", environ={}))


def migrate(catalog: Catalog, target: str, direction: upgrade.Direction) -> None:
    prepared = upgrade.prepare(catalog, target, direction, no_flip=False, note=None)
    upgrade.apply_prepared(catalog, prepared)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda block: f"line-{block.line}")
def test_an_example_is_applied_and_taken_back(example: Block, tiny_catalog: Path, tmp_path: Path):
    folder = tmp_path / "project"
    shutil.copytree(tiny_catalog, folder)
    header = 'revision = "0002"\ndown_revision = "0001"\n\n'
    (folder / "versions" / "0002_example.py").write_text(header + example.body, encoding="utf-8")
    before = schemas(opened(folder))
    migrate(opened(folder), "head", "up")
    if "irreversible" in example.marks:
        with pytest.raises(Irreversible):
            migrate(opened(folder), "-1", "down")
        return
    migrate(opened(folder), "-1", "down")
    assert schemas(opened(folder)) == before


def schemas(catalog: Catalog) -> dict[str, object]:
    """Each table's columns, key and rows; the order of rows is not promised."""
    tables = catalog.store.tables
    root = catalog.active(catalog.seen()).prefix
    found = {name: tables.open(root, name) for name in tables.names(root)}
    return {
        name: (
            set(table.columns),
            table.schema().key,
            {index.name for index in table.schema().indices},
            sorted(map(str, table.read(sorted(table.columns.names)).to_pylist())),
        )
        for name, table in found.items()
    }


def sections(page: Path, marks: str) -> dict[str, str]:
    """The text under each heading of one depth, by heading."""
    parts = re.split(rf"^{marks} (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {name.strip("`"): text for name, text in zip(parts[1::2], parts[2::2], strict=True)}


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_described_with_all_its_fields(name: str):
    described = sections(DOCS / "operations.md", "###")
    assert name in described, "docs/operations.md has no section on it"
    text, operation = described[name], OPERATIONS[name]
    assert f"kind `{operation.kind}`" in text
    fields = {found.alias or field for field, found in operation.model_fields.items()} - {"op", "table"}
    assert [field for field in sorted(fields) if f"`{field}`" not in text] == []
    assert "```python operation" in text, "it has no example"


@pytest.mark.parametrize("verb", main.commands)
def test_a_verb_is_described_with_all_its_options(verb: str):
    described = sections(DOCS / "command-line.md", "###")
    found = [text for heading, text in described.items() if heading.split(" ")[0] == verb]
    assert found, "docs/command-line.md has no section on it"
    options = [p.opts[0] for p in main.commands[verb].params if isinstance(p, click.Option)]
    shared = {"--json", "--note", "--confirm"}
    assert [option for option in options if option not in shared and f"`{option}" not in found[0]] == []


def test_global_options_exit_statuses_and_settings_are_described():
    page = (DOCS / "command-line.md").read_text(encoding="utf-8")
    options = [p.opts[0] for p in main.params if isinstance(p, click.Option)]
    assert [option for option in options if f"`{option}" not in page] == []
    errors = [LancemigError, *every_heir(LancemigError)]
    assert [e.code for e in errors if e is not LancemigError and f"`{e.code}`" not in page] == []
    assert [e.code for e in errors if f"| {e.exit_status} |" not in page] == []
    assert [key for key in readers(Path()) if f"`{key}`" not in page] == []


def every_heir(of: type[LancemigError]) -> list[type[LancemigError]]:
    return [heir for child in of.__subclasses__() for heir in (child, *every_heir(child))]


@pytest.mark.parametrize(
    ("heading", "value"),
    [
        ("The pointer", Pointer),
        ("A lineage entry", LineageEntry),
        ("The report of a proof", VerificationReport),
        ("The report of a proof", GateOutcome),
        ("The sidecar", Run),
        ("The lock", Lock),
        ("A lineage entry", Archived),
        ("A lineage entry", Copied),
        ("A lineage entry", Collected),
        ("The claim of a staged root", RootOwner),
        ("The record of a copy", CopyRecord),
        ("The record of a copy", CopiedObject),
        ("The lease of a reader", ReaderLease),
        ("A plan", Plan),
        ("A plan", Step),
    ],
)
def test_a_format_is_described_field_by_field(heading: str, value: type):
    text = sections(DOCS / "formats.md", "##")[heading]
    assert [field for field in value.model_fields if f"`{field}`" not in text] == []


def test_words_of_the_formats_are_described():
    text = (DOCS / "formats.md").read_text(encoding="utf-8")
    assert [word for word in (*Action, *Phase) if f"`{word}`" not in text] == []


def test_links_between_the_documents_lead_somewhere():
    for page in [*PAGES, *DOCS.glob("decisions/*.md"), DOCS / "example" / "README.md"]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_invariants_name_tests_that_exist():
    for path in re.findall(r"`(tests/[\w/.]+\.py)((?:::\w+)*)`", (DOCS / "invariants.md").read_text()):
        file = REPOSITORY / path[0]
        assert file.exists(), path[0]
        text = file.read_text(encoding="utf-8")
        for name in filter(None, path[1].split("::")):
            assert re.search(rf"\b(def|class) {name}\b", text), "".join(path)
