"""docs/architecture.md is true: what it names exists, and its tree lists every module."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_docs import DOCS, REPOSITORY, blocks

PACKAGE = REPOSITORY / "lancemig"
PAGE = DOCS / "architecture.md"
TEXT = PAGE.read_text(encoding="utf-8")
REFERENCE = re.compile(r"`((?:\w+/)+\w*\.?\w+(?:\.py)?/?)(?::([\w.]+))?`|`(\w+\.py):([\w.]+)`")
NAMED = sorted({(m[1] or m[3], m[2] or m[4] or "") for m in REFERENCE.finditer(TEXT)})


def names_of(file: Path) -> set[str]:
    """The functions and classes of a module, and `Class.method` of each class."""
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{m.name}" for m in node.body if isinstance(m, ast.FunctionDef)}
    return found


@pytest.mark.parametrize(("path", "name"), NAMED, ids=lambda part: part or "file")
def test_what_the_page_names_exists(path: str, name: str):
    file = next((f for f in (PACKAGE / path, REPOSITORY / path) if f.exists()), None)
    assert file is not None, f"{path} does not exist"
    if name:
        assert name in names_of(file), f"{path} has no {name}"


def test_the_page_names_functions_of_every_stage():
    assert len([name for _, name in NAMED if name]) > 40


def listed_modules() -> Iterator[str]:
    """The modules in the tree: `name.py` in a line of its own, or words in a line below their package."""
    packages: list[tuple[int, str]] = []
    tree = next(block.body for block in blocks(PAGE) if block.body.startswith("lancemig/"))
    for line in tree.splitlines():
        indent, first = len(line) - len(line.lstrip()), line.split()[0]
        packages = [(at, name) for at, name in packages if at < indent]
        folder = "".join(name for _, name in packages)
        if first.endswith("/"):
            packages.append((indent, first))
        elif first.endswith(".py"):
            yield folder + first
        else:
            yield from (f"{folder}{name}.py" for name in line.split())


def test_the_tree_lists_every_module_and_no_other():
    modules = {
        path.relative_to(REPOSITORY).as_posix()
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py" or path.parent == PACKAGE
    }
    listed = list(listed_modules())
    assert sorted(listed) == sorted(set(listed))
    assert set(listed) == modules
