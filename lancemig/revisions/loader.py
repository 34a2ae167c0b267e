"""Runs Python files: migrations, and the module that declares an application's models.

- `load_migration` runs a migration file and checks what it declares; `replay` applies migrations to a schema.
- `ProjectModules` finds and parses the other files of a project without running them, for lint.
- `declared_models` imports the mapping that `models` in lancemig.ini names.
- `error_text` puts the errors of pydantic into lancemig's words.
"""

import ast
import importlib
import re
import reprlib
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from traceback import extract_tb
from types import CodeType, ModuleType
from typing import Any, NamedTuple, NoReturn, TypeVar, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

import lancemig
from lancemig.catalog.checks import Check, Tolerance
from lancemig.catalog.models import Table
from lancemig.catalog.operations import AnyOperation, Kind, Operation, UndoRows
from lancemig.catalog.schema import CatalogSchema, Index
from lancemig.catalog.sources import deferred_datasets
from lancemig.catalog.value import FrozenModel, text_digest
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
from lancemig.revisions.journal import read_regular

_Declared = TypeVar("_Declared", bound=FrozenModel)

PACKAGE = "lancemig_versions"
"""The package of migration modules in `sys.modules`, through which their functions can be pickled."""

_OPERATION_TYPES: tuple[type[Operation], ...] = get_args(get_args(AnyOperation)[0])
_VARIABLES = ("operations", "downgrade", "checks", "tolerances")
_PLURAL: dict[type[FrozenModel], str] = {
    Operation: "operations",
    Check: "checks",
    Tolerance: "tolerances",
}


class Migration(FrozenModel):
    """A revision, and what its file declares."""

    header: Header
    kind: Kind
    """The kind that the operations need, or the weaker one that the file declares."""
    operations: tuple[AnyOperation, ...]
    downgrade: tuple[AnyOperation, ...] | None = None
    """The declared inverse; None where it is derived."""
    checks: tuple[Check, ...] = ()
    tolerances: tuple[Tolerance, ...] = ()
    """The limits within which verification accepts differences."""


def load_migration(header: Header) -> Migration:
    """Run the file that `header` was read from, and return what it declares.

    Each call makes a new module in the package `lancemig_versions`. No byte code is written, and `sys.path`
    does not change.

    Raises:
        ScriptError: The file changed or raised an error, declares values that are no operations or checks, or
            a kind that is stronger than its operations allow. It has the line where that is known.
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
        checks=_instances(header, module, "checks", Check),
        tolerances=_instances(header, module, "tolerances", Tolerance),
    )


def replay(migrations: Iterable[Migration], start: CatalogSchema | None = None) -> CatalogSchema:
    """The schema after all operations of `migrations`.

    Args:
        migrations: The migrations in their order.
        start: The schema before them; None for an empty catalog.

    Raises:
        PlanError: An operation is impossible; the message names its revision and number.
    """
    catalog = CatalogSchema() if start is None else start
    for migration in migrations:
        for index, operation in enumerate(migration.operations):
            try:
                catalog = operation.after(catalog)
            except PlanError as error:
                text = _operation_text("operations", index, operation)
                message = f"revision {migration.header.revision}, {text}: {error.message}"
                raise PlanError(message, next_step=error.next_step) from error
    return catalog


class _BytesLoader(SourceFileLoader):
    """Runs the bytes that the header was read from; reads and writes no cached byte code."""

    def __init__(self, name: str, path: Path, content: bytes) -> None:
        super().__init__(name, str(path))
        self.content = content

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002 - the signature is importlib's
        path = Path(self.path)
        return compile(decode_source(path, self.content), self.path, "exec", dont_inherit=True)


def _run(header: Header) -> ModuleType:
    content = read_bytes(header.path)
    # Plans and lineage record the header's digest: the code that runs must have this digest.
    if text_digest(content) != header.sha256:
        message = f"{header.path} was changed while lancemig read it"
        raise ScriptError(message, next_step="run the command again", path=header.path)
    path = header.path.absolute()
    name = f"{PACKAGE}.{path.stem.replace('.', '_')}"
    spec = spec_from_file_location(name, path, loader=_BytesLoader(name, path, content))
    if spec is None or spec.loader is None:
        raise _file_error(header.path, "cannot be loaded as a Python module")
    module = module_from_spec(spec)
    # Pickling a function imports its module by name, and therefore its package.
    sys.modules.setdefault(PACKAGE, ModuleType(PACKAGE))
    earlier = sys.modules.get(name)
    sys.modules[name] = module
    try:
        with deferred_datasets():
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
    """Refuse a header variable that running the file changed (by `import *`, `:=` or `global`)."""
    for name in ("revision", "down_revision", "kind"):
        value = getattr(module, name, None)
        if value != getattr(header, name):
            message = f"`{name}` became {value!r} when the file was run; assign it once, as a literal"
            raise _file_error(header.path, message)
    if tuple(getattr(module, "replaces", ())) != header.replaces:
        raise _file_error(
            header.path, "`replaces` was changed when the file was run; assign it once, as a literal"
        )


def _operations(header: Header, module: ModuleType, name: str) -> tuple[Operation, ...] | None:
    operations = _list_variable(header, module, name, Operation)
    if operations is None:
        return None
    for index, operation in enumerate(operations):
        number, line = _operation_number(name, index), partial(_line_of, header, name, index)
        if isinstance(operation, UndoRows):
            message = f"{number}: UndoRows is internal to lancemig and cannot be declared"
            raise _file_error(header.path, message, line())
        if not isinstance(operation, _OPERATION_TYPES):
            message = f"{number} is not an operation but {_type_text(operation)}"
            raise _file_error(header.path, message, line())
    return tuple(operations)


def _instances(header: Header, module: ModuleType, name: str, of: type[_Declared]) -> tuple[_Declared, ...]:
    """The values of the list `name` in the file, all of which must be instances of `of`."""
    values = _list_variable(header, module, name, of) or ()
    for index, value in enumerate(values):
        if not isinstance(value, of):
            item = f"{name.removesuffix('s')} {index + 1}"
            message = f"{item} is not a {of.__name__} but {_type_text(value)}"
            raise _file_error(header.path, message, _line_of(header, name, index))
    return tuple(values)


def _list_variable(
    header: Header, module: ModuleType, name: str, of: type[FrozenModel]
) -> list[Any] | tuple[Any, ...] | None:
    """The list that the file assigns to `name`; None where it assigns none."""
    value = getattr(module, name, None)
    if value is None:
        _refuse_misspelled(header, module, name, of)
    elif not isinstance(value, list | tuple):
        message = f"`{name}` must be a list of {_PLURAL[of]}, not {type(value).__name__}"
        raise _file_error(header.path, message, _line_of(header, name))
    return value


def _refuse_misspelled(header: Header, module: ModuleType, name: str, of: type[FrozenModel]) -> None:
    others = [other for other, value in vars(module).items() if other != name and _has_items_of(value, of)]
    suggestion = [other for other in close_matches(name, others, likeness=0.8) if other not in _VARIABLES]
    if suggestion:
        message = f"`{suggestion[0]}` has {_PLURAL[of]} but is not used; did you mean `{name}`?"
        raise _file_error(header.path, message)


def _has_items_of(value: Any, of: type[FrozenModel]) -> bool:
    return isinstance(value, list | tuple) and any(isinstance(item, of) for item in value)


def _type_text(value: Any) -> str:
    """`a str`, `an AddColumn`, `the class Check itself`."""
    if isinstance(value, type):
        return f"the class {value.__name__} itself"
    name = type(value).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


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
    text, line = _operation_text("operations", index, first), _line_of(header, "kind")
    raise ScriptError(
        f"{location(header.path, line)}: kind is {declared.value!r}, but {text} is {first.kind.value!r}: "
        f"{first.why}",
        next_step=f'write kind = "{needed.value}", or remove it to have it derived',
        path=header.path,
        line=line,
    )


def _line_of(header: Header, name: str, index: int | None = None) -> int | None:
    """The line where the file assigns `name`, or that of its item at `index` if the list is literal."""
    assigned = assignments(parse_migration(header.path, read_bytes(header.path))).get(name)
    if not assigned:
        return None
    value = assigned[-1].value
    items = value.elts if isinstance(value, ast.List | ast.Tuple) else []
    starred = any(isinstance(item, ast.Starred) for item in items)
    return assigned[-1].line if index is None or starred or index >= len(items) else items[index].lineno


def _operation_text(name: str, index: int, operation: Operation) -> str:
    return f"{_operation_number(name, index)} ({operation.table}: {operation.describe()})"


def _operation_number(name: str, index: int) -> str:
    """`operation 1`, `downgrade operation 2`: counted from 1."""
    return f"{'' if name == 'operations' else f'`{name}` '}operation {index + 1}"


def _execution_error(path: Path, error: BaseException) -> ScriptError:
    """The error of a file that raised `error`, at the innermost of its own lines."""
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path.absolute()):
            line = trace.tb_lineno
        trace = trace.tb_next
    if isinstance(error, ValidationError):
        return _file_error(path, _validation_text(error), line)
    return _file_error(path, f"{type(error).__name__}: {error}{_hint(error)}", line)


def _validation_text(error: ValidationError) -> str:
    """`RenameColumn.colum: unknown field; did you mean column?`, one sentence for each wrong field."""
    fields = _field_names(error.title)
    problems = {".".join(map(str, problem["loc"])): problem for problem in error.errors(include_url=False)}
    unknown = [name for name, problem in problems.items() if problem["type"] == "extra_forbidden"]
    suggestion = {close_matches(name, fields)[0] for name in unknown if close_matches(name, fields)}
    sentences = []
    for name, problem in problems.items():
        if problem["type"] == "missing" and name in suggestion:
            continue
        where = f"{error.title}.{name}" if name else error.title
        sentences.append(f"{where}: {_problem_text(problem, name, fields)}")
    return "; ".join(sentences)


def _problem_text(problem: ErrorDetails, name: str, fields: list[str]) -> str:
    """A problem of pydantic in lancemig's words.

    Args:
        problem: One of `ValidationError.errors()`.
        name: The wrong field.
        fields: The fields that exist.
    """
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown field{did_you_mean(name, fields)}"
    if kind == "missing":
        return "missing"
    if kind in ("value_error", "assertion_error"):
        return str(context["error"])
    value = reprlib.repr(problem["input"])
    rule = next((text for types, text in _RULES.items() if kind in types), None)
    return f"invalid value {value}" if rule is None else f"{rule.format(**context)}, not {value}"


_RULES = {
    ("string_type",): "must be text",
    ("bool_type", "bool_parsing"): "must be True or False",
    ("int_type", "int_parsing", "int_from_float"): "must be a whole number",
    ("float_type", "float_parsing", "finite_number"): "must be a number",
    ("tuple_type", "list_type", "set_type", "frozen_set_type"): "must be a list",
    ("dict_type", "mapping_type"): "must be a mapping",
    ("model_type", "model_attributes_type"): "must be of type {class_name}",
    ("callable_type",): "must be a function",
    ("literal_error", "enum"): "must be {expected}",
    ("is_instance_of",): "must be a {class}",
    ("greater_than",): "must be greater than {gt}",
    ("greater_than_equal",): "must be at least {ge}",
    ("less_than",): "must be less than {lt}",
    ("less_than_equal",): "must be at most {le}",
    ("too_short",): "must have at least {min_length} item",
    ("string_too_short",): "must have at least {min_length} character",
    ("string_pattern_mismatch",): "must match the pattern {pattern}",
}
"""What a field must be, by pydantic's types of errors, whose own texts users never see."""


def _field_names(title: str) -> list[str]:
    """The names of the fields of an operation, a check, a tolerance or a model, given its class name."""
    models: tuple[type[FrozenModel], ...] = (*_OPERATION_TYPES, Check, Tolerance, Table, Index)
    model = next((candidate for candidate in models if candidate.__name__ == title), None)
    fields = model.model_fields.items() if model else []
    return [field.alias or name for name, field in fields if name != "op"]


def _hint(error: BaseException) -> str:
    """The likely intention, for common mistakes with lancemig's own names."""
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
    """The Python files of a project, parsed on demand, each once; installed packages do not belong to it.

    A module that was imported when the migration was loaded is found where it was imported from. One that is
    imported only later, by a function, is searched by its name.

    Args:
        folders: The folders of the project.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        self.folders = tuple({folder.resolve(): None for folder in folders})
        self.parsed: dict[Path, SourceModule | None] = {}
        self.resolved: dict[tuple[str, Path], SourceModule | None] = {}
        paths = sysconfig.get_paths()
        self.installed = tuple(Path(paths[name]).resolve() for name in ("stdlib", "platstdlib", "scripts"))

    def at(self, path: Path) -> SourceModule | None:
        """The module in this file; None where the file is outside the project, or not Python."""
        path = path.resolve()
        if path not in self.parsed:
            self.parsed[path] = _read_module(path) if self._is_project_file(path) else None
        return self.parsed[path]

    def imported(self, name: str, by: Path) -> SourceModule | None:
        """The module that an import of `name` in the file `by` gives; leading dots are relative to `by`."""
        query = (name, by.parent)
        if query not in self.resolved:
            self.resolved[query] = self._find(name, by)
        return self.resolved[query]

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
        candidates = (self._in_folder(folder, parts) for folder in self._import_roots(by.resolve()))
        return next((module for module in candidates if module is not None), None)

    def _is_project_file(self, path: Path) -> bool:
        inside = any(path.is_relative_to(folder) for folder in self.folders)
        installed = any(path.is_relative_to(folder) for folder in self.installed)
        return inside and not installed and not _INSTALLED & {*path.parts} and path.suffix == ".py"

    def _import_roots(self, by: Path) -> Iterator[Path]:
        """The folders in which the imports of a file are searched."""
        top = by.parent
        while (top / "__init__.py").exists():
            top = top.parent
        yield top
        yield from self.folders
        yield from (Path(entry).resolve() for entry in sys.path)

    def _in_folder(self, folder: Path, parts: list[str]) -> SourceModule | None:
        path = folder.joinpath(*parts)
        return self.at(path / "__init__.py") or (self.at(path.with_suffix(".py")) if parts else None)


def _read_module(path: Path) -> SourceModule | None:
    try:
        source = read_regular(path).decode("utf-8-sig")
        return SourceModule(path, source, ast.parse(source))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def declared_models(models: str, folder: Path) -> Mapping[str, Any]:
    """The mapping from table names to models that an application declares.

    Args:
        models: `module:attribute`, as in lancemig.ini.
        folder: A folder that is searched for the module before `sys.path`.

    Raises:
        ConfigError: The module is missing or raises an error, or the attribute is missing or no mapping.
    """
    name, _, attribute = models.partition(":")
    value: Any = _import_module(models, name, folder)
    for part in attribute.split("."):
        if not hasattr(value, part):
            suggestion = did_you_mean(part, vars(value))
            _refuse_models(models, f"{_module_file(value)} has no {part}{suggestion}")
        value = getattr(value, part)
    if not isinstance(value, Mapping):
        _refuse_models(
            models, f"{attribute} must be a mapping from table names to models, not {_type_text(value)}"
        )
    for table in value:
        if not isinstance(table, str):
            _refuse_models(models, f"a table name must be text, not {table!r}")
    return value


def models_file(models: str) -> Path | None:
    """The file of the imported module that `models` names; None where the module has no file."""
    file = sys.modules[models.partition(":")[0]].__file__
    return Path(file) if file else None


def _import_module(models: str, name: str, folder: Path) -> ModuleType:
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            _refuse_models(models, f"module {error.name} is neither in {folder} nor installed", error)
        _refuse_models(models, f"{_error_line(error, name)}: {error}", error)
    except ValidationError as error:
        _refuse_models(models, f"{_error_line(error, name)}: {_validation_text(error)}", error)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the application's module raises
        _refuse_models(models, f"{_error_line(error, name)}: {type(error).__name__}: {error}", error)
    finally:
        # Functions of the models may import further modules later.
        sys.path.remove(str(folder))
        sys.path.append(str(folder))


def error_text(error: BaseException) -> str:
    """The text of an error; for a value that pydantic refuses, its first problem in lancemig's words."""
    if isinstance(error, ValidationError):
        problem = error.errors(include_url=False)[0]
        field = ".".join(map(str, problem["loc"]))
        text = _problem_text(problem, field, _field_names(error.title))
        return f"{field}: {text}" if field else text
    return str(error)


def _error_line(error: BaseException, name: str) -> str:
    """The innermost line of the application that led to an error: one that it ran, or of its own syntax."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = [frame for frame in extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    imported = [frame for frame in frames[2:] if "importlib" not in frame.filename]
    lancemig_folder = str(Path(__file__).parent.parent)
    own = [
        f for f in imported if not ("site-packages" in f.filename or f.filename.startswith(lancemig_folder))
    ]
    frames = own or imported
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else name


def _module_file(module: Any) -> str:
    return str(getattr(module, "__file__", None) or getattr(module, "__name__", module))


def _refuse_models(models: str, message: str, error: BaseException | None = None) -> NoReturn:
    raise ConfigError(
        f"models = {models}: {message}",
        next_step="fix it, or fix `models` in lancemig.ini, then run the same command again",
    ) from error
