"""The Python files of the project that migration files import: found and parsed, none of them run."""

import ast
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

_INSTALLED = {"site-packages", "dist-packages"}


class Module(NamedTuple):
    """A Python file: where it is, its text, and its syntax tree."""

    path: Path
    source: str
    tree: ast.Module


class Modules:
    """The Python files below some folders, but for what is installed there; each is read once.

    Where a module is found is told by the import that was made when the migration was loaded; one that was
    not imported (a function does so when it is called) is looked for by its name.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        self.folders = tuple({folder.resolve(): None for folder in folders})
        self.read: dict[Path, Module | None] = {}
        self.found: dict[tuple[str, Path], Module | None] = {}
        given = sysconfig.get_paths()
        self.installed = tuple(Path(given[name]).resolve() for name in ("stdlib", "platstdlib", "scripts"))

    def at(self, path: Path) -> Module | None:
        """The module that this file is; None where it is no part of the project, or no Python."""
        path = path.resolve()
        if path not in self.read:
            self.read[path] = _parsed(path) if self._is_own(path) else None
        return self.read[path]

    def imported(self, name: str, by: Path) -> Module | None:
        """The module that `name` means in the file `by`; with dots before it, counted from that file."""
        asked = (name, by.parent)
        if asked not in self.found:
            self.found[asked] = self._imported(name, by)
        return self.found[asked]

    def _imported(self, name: str, by: Path) -> Module | None:
        plain = name.lstrip(".")
        parts = plain.split(".") if plain else []
        if plain != name:
            return self._under(by.resolve().parents[len(name) - len(plain) - 1], parts)
        if not parts or parts[0] in sys.stdlib_module_names:
            return None
        loaded = getattr(sys.modules.get(name), "__file__", None)
        if loaded is not None:
            return self.at(Path(loaded))
        found = (self._under(folder, parts) for folder in self._roots(by.resolve()))
        return next((module for module in found if module is not None), None)

    def _is_own(self, path: Path) -> bool:
        below = any(path.is_relative_to(folder) for folder in self.folders)
        foreign = _INSTALLED & {*path.parts} or any(path.is_relative_to(one) for one in self.installed)
        return below and not foreign and path.suffix == ".py"

    def _roots(self, by: Path) -> Iterator[Path]:
        """Where the imports of a file may begin."""
        top = by.parent
        while (top / "__init__.py").exists():
            top = top.parent
        yield top
        yield from self.folders
        yield from (Path(entry).resolve() for entry in sys.path)

    def _under(self, folder: Path, parts: list[str]) -> Module | None:
        at = folder.joinpath(*parts)
        return self.at(at / "__init__.py") or (self.at(at.with_suffix(".py")) if parts else None)


def _parsed(path: Path) -> Module | None:
    try:
        source = path.read_text(encoding="utf-8-sig")
        return Module(path, source, ast.parse(source))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None
