"""A migration file is run, and what it declares becomes a migration."""

import ast
import importlib
import re
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from hashlib import sha256
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from traceback import extract_tb
from types import CodeType, ModuleType
from typing import Any, NamedTuple, NoReturn, get_args

from pydantic import ValidationError

import lancemig
from lancemig.catalog.checks import Check, Tolerance
from lancemig.catalog.operations import AnyOperation, Kind, Operation, UndoRows
from lancemig.catalog.schema import CatalogSchema
from lancemig.catalog.value import FrozenModel
from lancemig.errors import ConfigError, PlanError, ScriptError
from lancemig.revisions.header import (
    FIX_STEP,
    Header,
    assignments,
    close_matches,
    decode_source,
    did_you_mean,
    location,
    parse_migration,
    read_bytes,
)

PACKAGE = "lancemig_versions"
"""Where the modules of migration files are found in `sys.modules`, so that their functions pickle."""

_OPERATION_TYPES: tuple[type[Operation], ...] = get_args(get_args(AnyOperation)[0])
_VARIABLES = ("operations", "downgrade", "checks", "tolerances")
_PLURAL: dict[type[FrozenModel], str] = {
    Operation: "operations",
    Check: "checks",
    Tolerance: "tolerances",
}


class Migration(FrozenModel):
    """A revision and what it does; `downgrade` is None where the inverse is to be derived.

    `kind` is the one its operations need, or a weaker promise where the file declares one. `checks` are what
    its author wants to hold before it, after it, or both; `tolerances`, where the proof need not be exact.
    """

    header: Header
    kind: Kind
    operations: tuple[AnyOperation, ...]
    downgrade: tuple[AnyOperation, ...] | None = None
    checks: tuple[Check, ...] = ()
    tolerances: tuple[Tolerance, ...] = ()


def load_migration(header: Header) -> Migration:
    """Run the file that `header` was read from, and return what it declares.

    The module is new each time, findable under `lancemig_versions`; no byte code is written, and
    `sys.path` stays as it is. Raises ScriptError, with the line where there is one, for whatever the file
    raises, for what are no operations or checks, and for a `kind` that promises more than they keep.
    """
    module = _run(header)
    operations = _operations(header, module, "operations")
    if operations is None:
        raise _file_error(header.path, _missing_operations(module))
    return Migration(
        header=header,
        kind=_effective_kind(header, operations),
        operations=operations,
        downgrade=_operations(header, module, "downgrade"),
        checks=_checks(header, module),
        tolerances=_tolerances(header, module),
    )


def replay(migrations: Iterable[Migration], start: CatalogSchema | None = None) -> CatalogSchema:
    """The schema after all operations of `migrations` on `start`, which is an empty catalog if not given.

    Raises PlanError for the first impossible operation, with its revision and index.
    """
    catalog = CatalogSchema() if start is None else start
    for migration in migrations:
        for index, operation in enumerate(migration.operations):
            try:
                catalog = operation.after(catalog)
            except PlanError as error:
                place = (
                    f"revision {migration.header.revision}, {_operation_text('operations', index, operation)}"
                )
                raise PlanError(f"{place}: {error.message}", next_step=error.next_step) from error
    return catalog


class _BytesLoader(SourceFileLoader):
    """Runs exactly the bytes that the header was read from; reads and writes no cached byte code."""

    def __init__(self, name: str, path: Path, content: bytes) -> None:
        super().__init__(name, str(path))
        self.content = content

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002 - the signature is importlib's
        path = Path(self.path)
        return compile(decode_source(path, self.content), self.path, "exec", dont_inherit=True)


def _run(header: Header) -> ModuleType:
    content = read_bytes(header.path)
    # The header's checksum goes into plans and lineage: what runs must be what it vouches for.
    if sha256(content).hexdigest() != header.sha256:
        message = f"{header.path} was changed while lancemig read it"
        raise ScriptError(message, next_step="run the command again", path=header.path)
    path = header.path.absolute()
    name = f"{PACKAGE}.{path.stem.replace('.', '_')}"
    spec = spec_from_file_location(name, path, loader=_BytesLoader(name, path, content))
    if spec is None or spec.loader is None:
        raise _file_error(header.path, "cannot be loaded as a Python module")
    module = module_from_spec(spec)
    # Pickling a function imports its module by name, and with it the package around it.
    sys.modules.setdefault(PACKAGE, ModuleType(PACKAGE))
    earlier = sys.modules.get(name)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
        _refuse_rebound(header, module)
    except BaseException as error:
        _restore_module(name, earlier)
        if isinstance(error, ScriptError) or not isinstance(error, Exception | SystemExit):
            raise
        raise _execution_error(header.path, error) from error
    return module


def _restore_module(name: str, earlier: ModuleType | None) -> None:
    del sys.modules[name]
    if earlier is not None:
        sys.modules[name] = earlier


def _refuse_rebound(header: Header, module: ModuleType) -> None:
    """What the syntax tree said must also be what running the file gave (`import *`, `:=`, `global`)."""
    for name in ("revision", "down_revision", "kind"):
        found = getattr(module, name, None)
        if found != getattr(header, name):
            message = f"`{name}` became {found!r} when the file was run; assign it once, as a literal"
            raise _file_error(header.path, message)
    if tuple(getattr(module, "replaces", ())) != header.replaces:
        raise _file_error(
            header.path, "`replaces` was changed when the file was run; assign it once, as a literal"
        )


def _operations(header: Header, module: ModuleType, name: str) -> tuple[Operation, ...] | None:
    found = _list_variable(header, module, name, Operation)
    if found is None:
        return None
    for index, operation in enumerate(found):
        if isinstance(operation, UndoRows):
            message = "UndoRows is internal to lancemig and cannot be declared"
            raise _file_error(
                header.path, f"{_operation_number(name, index)}: {message}", _line_of(header, name, index)
            )
        if not isinstance(operation, _OPERATION_TYPES):
            message = f"{_operation_number(name, index)} is not an operation but {_type_text(operation)}"
            raise _file_error(header.path, message, _line_of(header, name, index))
    return tuple(found)


def _checks(header: Header, module: ModuleType) -> tuple[Check, ...]:
    found = _list_variable(header, module, "checks", Check) or ()
    for index, check in enumerate(found):
        if not isinstance(check, Check):
            message = f"check {index + 1} is not a Check but {_type_text(check)}"
            raise _file_error(header.path, message, _line_of(header, "checks", index))
    return tuple(found)


def _tolerances(header: Header, module: ModuleType) -> tuple[Tolerance, ...]:
    found = _list_variable(header, module, "tolerances", Tolerance) or ()
    for index, tolerance in enumerate(found):
        if not isinstance(tolerance, Tolerance):
            message = f"tolerance {index + 1} is not a Tolerance but {_type_text(tolerance)}"
            raise _file_error(header.path, message, _line_of(header, "tolerances", index))
    return tuple(found)


def _list_variable(
    header: Header, module: ModuleType, name: str, of: type[FrozenModel]
) -> list[Any] | tuple[Any, ...] | None:
    """The list of values that the file calls `name`; None where it has none."""
    found = getattr(module, name, None)
    if found is None:
        _refuse_misspelled(header, module, name, of)
    elif not isinstance(found, list | tuple):
        message = f"`{name}` must be a list of {_PLURAL[of]}, not {type(found).__name__}"
        raise _file_error(header.path, message, _line_of(header, name))
    return found


def _refuse_misspelled(header: Header, module: ModuleType, name: str, of: type[FrozenModel]) -> None:
    others = [other for other, value in vars(module).items() if other != name and _has_items_of(value, of)]
    meant = [other for other in close_matches(name, others, likeness=0.8) if other not in _VARIABLES]
    if meant:
        message = f"`{meant[0]}` has {_PLURAL[of]} but is not used; did you mean `{name}`?"
        raise _file_error(header.path, message)


def _has_items_of(value: Any, of: type[FrozenModel]) -> bool:
    return isinstance(value, list | tuple) and any(isinstance(item, of) for item in value)


def _type_text(found: Any) -> str:
    return f"the class {found.__name__} itself" if isinstance(found, type) else f"a {type(found).__name__}"


def _missing_operations(module: ModuleType) -> str:
    message = "`operations` is missing: add `operations = [...]`"
    if callable(getattr(module, "upgrade", None)):
        return f"{message}; a function `upgrade` is never called: migrations are declarative"
    return message


def _effective_kind(header: Header, operations: tuple[Operation, ...]) -> Kind:
    needed = Kind.weakest([operation.kind for operation in operations])
    declared = needed if header.kind is None else Kind(header.kind)
    if declared.rank >= needed.rank:
        return declared
    index, first = next((i, op) for i, op in enumerate(operations) if op.kind.rank > declared.rank)
    place, line = _operation_text("operations", index, first), _line_of(header, "kind")
    raise ScriptError(
        f"{location(header.path, line)}: kind is {declared.value!r}, but {place} is {first.kind.value!r}: "
        f"{first.why}",
        next_step=f'write kind = "{needed.value}", or remove it to have it derived',
        path=header.path,
        line=line,
    )


def _line_of(header: Header, name: str, index: int | None = None) -> int | None:
    """Where the file assigns `name`, or the item of it at `index`, if it writes them one by one."""
    found = assignments(parse_migration(header.path, read_bytes(header.path))).get(name)
    if not found:
        return None
    listed = found[-1].value
    items = listed.elts if isinstance(listed, ast.List | ast.Tuple) else []
    starred = any(isinstance(item, ast.Starred) for item in items)
    return found[-1].line if index is None or starred or index >= len(items) else items[index].lineno


def _operation_text(name: str, index: int, operation: Operation) -> str:
    return f"{_operation_number(name, index)} ({operation.table}: {operation.describe()})"


def _operation_number(name: str, index: int) -> str:
    """`operation 1`, `downgrade operation 2`: counted from 1, as people count."""
    return f"{'' if name == 'operations' else f'`{name}` '}operation {index + 1}"


def _execution_error(path: Path, error: BaseException) -> ScriptError:
    """What a file raised, at the last of its own lines that led there."""
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path.absolute()):
            line = trace.tb_lineno
        trace = trace.tb_next
    if isinstance(error, ValidationError):
        return _file_error(path, _validation_text(error), line)
    return _file_error(path, f"{type(error).__name__}: {error}{_hint(error)}", line)


def _validation_text(error: ValidationError) -> str:
    """`RenameColumn.colum: unknown field; did you mean column?`, one for each field that is wrong."""
    fields = _field_names(error.title)
    problems = {".".join(map(str, problem["loc"])): problem for problem in error.errors(include_url=False)}
    unknown = [name for name, problem in problems.items() if problem["type"] == "extra_forbidden"]
    meant = {close_matches(name, fields)[0] for name in unknown if close_matches(name, fields)}
    sentences = []
    for name, problem in problems.items():
        if problem["type"] == "missing" and name in meant:
            continue
        where = f"{error.title}.{name}" if name else error.title
        message = _SENTENCES.get(problem["type"], partial(_as_is, problem["msg"]))(name, fields)
        sentences.append(f"{where}: {message}")
    return "; ".join(sentences)


def _as_is(message: str, _name: str, _fields: list[str]) -> str:
    return message.removeprefix("Value error, ").replace("Input should be", "must be")


_SENTENCES: dict[str, Callable[[str, list[str]], str]] = {
    "extra_forbidden": lambda name, fields: f"unknown field{did_you_mean(name, fields)}",
    "missing": lambda _name, _fields: "missing",
}


def _field_names(title: str) -> list[str]:
    """The names under which the operation, or the check, called `title` takes its fields."""
    of: tuple[type[FrozenModel], ...] = (*_OPERATION_TYPES, Check, Tolerance)
    found = next((known for known in of if known.__name__ == title), None)
    taken = found.model_fields.items() if found else []
    return [field.alias or name for name, field in taken if name != "op"]


def _hint(error: BaseException) -> str:
    """What the author most likely meant, for the mistakes that are made with lancemig's own names."""
    if isinstance(error, NameError) and error.name in lancemig.__all__:
        return f"; add: from lancemig import {error.name}"
    wanted = re.search(r"cannot import name '(\w+)' from 'lancemig'", str(error))
    if wanted:
        return did_you_mean(wanted[1], lancemig.__all__)
    if "BaseModel.__init__() takes 1 positional argument" in str(error):
        return "; pass every field by name: DropTable(table=...), Check(sql=...)"
    return ""


def _file_error(path: Path, message: str, line: int | None = None) -> ScriptError:
    return ScriptError(f"{location(path, line)}: {message}", next_step=FIX_STEP, path=path, line=line)


_INSTALLED = {"site-packages", "dist-packages"}


class SourceModule(NamedTuple):
    """A Python file: where it is, its text, and its syntax tree."""

    path: Path
    source: str
    tree: ast.Module


class ProjectModules:
    """The Python files below some folders, but for what is installed there; each is read once.

    Where a module is found is told by the import that was made when the migration was loaded; one that was
    not imported (a function does so when it is called) is looked for by its name.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        self.folders = tuple({folder.resolve(): None for folder in folders})
        self.parsed: dict[Path, SourceModule | None] = {}
        self.resolved: dict[tuple[str, Path], SourceModule | None] = {}
        given = sysconfig.get_paths()
        self.installed = tuple(Path(given[name]).resolve() for name in ("stdlib", "platstdlib", "scripts"))

    def at(self, path: Path) -> SourceModule | None:
        """The module that this file is; None where it is no part of the project, or no Python."""
        path = path.resolve()
        if path not in self.parsed:
            self.parsed[path] = _read_module(path) if self._is_project_file(path) else None
        return self.parsed[path]

    def imported(self, name: str, by: Path) -> SourceModule | None:
        """The module that `name` means in the file `by`; with dots before it, counted from that file."""
        asked = (name, by.parent)
        if asked not in self.resolved:
            self.resolved[asked] = self._find(name, by)
        return self.resolved[asked]

    def _find(self, name: str, by: Path) -> SourceModule | None:
        plain = name.lstrip(".")
        parts = plain.split(".") if plain else []
        if plain != name:
            return self._in_folder(by.resolve().parents[len(name) - len(plain) - 1], parts)
        if not parts or parts[0] in sys.stdlib_module_names:
            return None
        loaded = getattr(sys.modules.get(name), "__file__", None)
        if loaded is not None:
            return self.at(Path(loaded))
        found = (self._in_folder(folder, parts) for folder in self._import_roots(by.resolve()))
        return next((module for module in found if module is not None), None)

    def _is_project_file(self, path: Path) -> bool:
        below = any(path.is_relative_to(folder) for folder in self.folders)
        foreign = _INSTALLED & {*path.parts} or any(path.is_relative_to(one) for one in self.installed)
        return below and not foreign and path.suffix == ".py"

    def _import_roots(self, by: Path) -> Iterator[Path]:
        """Where the imports of a file may begin."""
        top = by.parent
        while (top / "__init__.py").exists():
            top = top.parent
        yield top
        yield from self.folders
        yield from (Path(entry).resolve() for entry in sys.path)

    def _in_folder(self, folder: Path, parts: list[str]) -> SourceModule | None:
        at = folder.joinpath(*parts)
        return self.at(at / "__init__.py") or (self.at(at.with_suffix(".py")) if parts else None)


def _read_module(path: Path) -> SourceModule | None:
    try:
        source = path.read_text(encoding="utf-8-sig")
        return SourceModule(path, source, ast.parse(source))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def declared_models(models: str, folder: Path) -> Mapping[str, Any]:
    """The mapping that `models` names, from the name of a table to what it looks like.

    Modules are found as the application finds them, and in `folder`, which goes before. ConfigError names
    the module, the line of a file that raises, or the attribute that is missing or no mapping.
    """
    name, _, attribute = models.partition(":")
    found: Any = _import_module(models, name, folder)
    for part in attribute.split("."):
        if not hasattr(found, part):
            meant = did_you_mean(part, vars(found))
            _refuse_models(models, f"{_module_file(found)} has no {part}{meant}")
        found = getattr(found, part)
    if not isinstance(found, Mapping):
        _refuse_models(
            models, f"{attribute} must be a mapping from table names to models, not a {type(found).__name__}"
        )
    for table in found:
        if not isinstance(table, str):
            _refuse_models(models, f"a table name must be text, not {table!r}")
    return found


def models_file(models: str) -> Path | None:
    """The file of the module that `models` names, once it is imported; None where it has none."""
    found = sys.modules[models.partition(":")[0]].__file__
    return Path(found) if found else None


def _import_module(models: str, name: str, folder: Path) -> ModuleType:
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            _refuse_models(models, f"module {error.name} is neither in {folder} nor installed", error)
        _refuse_models(models, f"{_error_line(error, name)}: {error}", error)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the application's module raises
        _refuse_models(
            models, f"{_error_line(error, name)}: {type(error).__name__}: {error_text(error)}", error
        )
    finally:
        # What the models import later, from within functions, is found as well.
        sys.path.remove(str(folder))
        sys.path.append(str(folder))


def error_text(error: BaseException) -> str:
    """What an error says; of a value that pydantic refuses, the first thing that is wrong with it."""
    if isinstance(error, ValidationError):
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, problem["loc"]))
        text = problem["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
        return f"{place}: {text}" if place else text
    return str(error)


def _error_line(error: BaseException, name: str) -> str:
    """The last line of the application that led to an error: that of its own syntax, or one that it ran."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = [frame for frame in extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    own = [frame for frame in frames[2:] if "importlib" not in frame.filename]
    ours = str(Path(__file__).parent.parent)
    known = [f for f in own if "site-packages" not in f.filename and not f.filename.startswith(ours)] or own
    return f"{known[-1].filename}:{known[-1].lineno}" if known else name


def _module_file(found: Any) -> str:
    return str(getattr(found, "__file__", None) or getattr(found, "__name__", found))


def _refuse_models(models: str, message: str, error: BaseException | None = None) -> NoReturn:
    raise ConfigError(
        f"models = {models}: {message}",
        next_step="fix it, or fix `models` in lancemig.ini, then run the same command again",
    ) from error
