"""A migration file is run, and what it declares becomes a migration."""

import ast
import re
import sys
from collections.abc import Callable, Iterable
from functools import partial
from hashlib import sha256
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, get_args

from pydantic import ValidationError

import lancemig
from lancemig.catalog.checks import Check
from lancemig.catalog.operations import AnyOperation, Kind, Operation, UndoRows
from lancemig.catalog.schema import CatalogSchema
from lancemig.catalog.tolerances import Tolerance
from lancemig.catalog.value import Value
from lancemig.errors import PlanError, ScriptError
from lancemig.script.header import Header, read_bytes
from lancemig.script.syntax import MEND, decoded, parsed, variables
from lancemig.script.wording import close, did_you_mean, located

PACKAGE = "lancemig_versions"
"""Where the modules of migration files are found in `sys.modules`, so that their functions pickle."""

_KNOWN: tuple[type[Operation], ...] = get_args(get_args(AnyOperation)[0])
_READ = ("operations", "downgrade", "checks", "tolerances")
_PLURAL: dict[type[Value], str] = {
    Operation: "operations",
    Check: "checks",
    Tolerance: "tolerances",
}


class Migration(Value):
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


def load(header: Header) -> Migration:
    """Run the file that `header` was read from, and return what it declares.

    The module is new each time, findable under `lancemig_versions`; no byte code is written, and
    `sys.path` stays as it is. Raises ScriptError, with the line where there is one, for whatever the file
    raises, for what are no operations or checks, and for a `kind` that promises more than they keep.
    """
    module = _run(header)
    operations = _declared(header, module, "operations")
    if operations is None:
        raise _unfit(header.path, _missing(module))
    return Migration(
        header=header,
        kind=_kind(header, operations),
        operations=operations,
        downgrade=_declared(header, module, "downgrade"),
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
                place = f"revision {migration.header.revision}, {_spelt('operations', index, operation)}"
                raise PlanError(f"{place}: {error.message}", next_step=error.next_step) from error
    return catalog


class _Exactly(SourceFileLoader):
    """Runs exactly the bytes that the header was read from; reads and writes no cached byte code."""

    def __init__(self, name: str, path: Path, content: bytes) -> None:
        super().__init__(name, str(path))
        self.content = content

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002 - the signature is importlib's
        path = Path(self.path)
        return compile(decoded(path, self.content), self.path, "exec", dont_inherit=True)


def _run(header: Header) -> ModuleType:
    content = read_bytes(header.path)
    # The header's checksum goes into plans and lineage: what runs must be what it vouches for.
    if sha256(content).hexdigest() != header.sha256:
        said = f"{header.path} was changed while lancemig read it"
        raise ScriptError(said, next_step="run the command again", path=header.path)
    path = header.path.absolute()
    name = f"{PACKAGE}.{path.stem.replace('.', '_')}"
    spec = spec_from_file_location(name, path, loader=_Exactly(name, path, content))
    if spec is None or spec.loader is None:
        raise _unfit(header.path, "cannot be loaded as a Python module")
    module = module_from_spec(spec)
    # Pickling a function imports its module by name, and with it the package around it.
    sys.modules.setdefault(PACKAGE, ModuleType(PACKAGE))
    earlier = sys.modules.get(name)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
        _refuse_rebound(header, module)
    except BaseException as error:
        _put_back(name, earlier)
        if isinstance(error, ScriptError) or not isinstance(error, Exception | SystemExit):
            raise
        raise _raised(header.path, error) from error
    return module


def _put_back(name: str, earlier: ModuleType | None) -> None:
    del sys.modules[name]
    if earlier is not None:
        sys.modules[name] = earlier


def _refuse_rebound(header: Header, module: ModuleType) -> None:
    """What the syntax tree said must also be what running the file gave (`import *`, `:=`, `global`)."""
    for name in ("revision", "down_revision", "kind"):
        found = getattr(module, name, None)
        if found != getattr(header, name):
            said = f"`{name}` became {found!r} when the file was run; assign it once, as a literal"
            raise _unfit(header.path, said)
    if tuple(getattr(module, "replaces", ())) != header.replaces:
        raise _unfit(
            header.path, "`replaces` was changed when the file was run; assign it once, as a literal"
        )


def _declared(header: Header, module: ModuleType, name: str) -> tuple[Operation, ...] | None:
    found = _listed(header, module, name, Operation)
    if found is None:
        return None
    for index, operation in enumerate(found):
        if isinstance(operation, UndoRows):
            said = "UndoRows is internal to lancemig and cannot be declared"
            raise _unfit(header.path, f"{_numbered(name, index)}: {said}", _line(header, name, index))
        if not isinstance(operation, _KNOWN):
            said = f"{_numbered(name, index)} is not an operation but {_article(operation)}"
            raise _unfit(header.path, said, _line(header, name, index))
    return tuple(found)


def _checks(header: Header, module: ModuleType) -> tuple[Check, ...]:
    found = _listed(header, module, "checks", Check) or ()
    for index, check in enumerate(found):
        if not isinstance(check, Check):
            said = f"check {index + 1} is not a Check but {_article(check)}"
            raise _unfit(header.path, said, _line(header, "checks", index))
    return tuple(found)


def _tolerances(header: Header, module: ModuleType) -> tuple[Tolerance, ...]:
    found = _listed(header, module, "tolerances", Tolerance) or ()
    for index, tolerance in enumerate(found):
        if not isinstance(tolerance, Tolerance):
            said = f"tolerance {index + 1} is not a Tolerance but {_article(tolerance)}"
            raise _unfit(header.path, said, _line(header, "tolerances", index))
    return tuple(found)


def _listed(
    header: Header, module: ModuleType, name: str, of: type[Value]
) -> list[Any] | tuple[Any, ...] | None:
    """The list of values that the file calls `name`; None where it has none."""
    found = getattr(module, name, None)
    if found is None:
        _refuse_misspelt(header, module, name, of)
    elif not isinstance(found, list | tuple):
        said = f"`{name}` must be a list of {_PLURAL[of]}, not {type(found).__name__}"
        raise _unfit(header.path, said, _line(header, name))
    return found


def _refuse_misspelt(header: Header, module: ModuleType, name: str, of: type[Value]) -> None:
    others = [other for other, value in vars(module).items() if other != name and _holds(value, of)]
    meant = [other for other in close(name, others, likeness=0.8) if other not in _READ]
    if meant:
        said = f"`{meant[0]}` has {_PLURAL[of]} but is not used; did you mean `{name}`?"
        raise _unfit(header.path, said)


def _holds(value: Any, of: type[Value]) -> bool:
    return isinstance(value, list | tuple) and any(isinstance(item, of) for item in value)


def _article(found: Any) -> str:
    return f"the class {found.__name__} itself" if isinstance(found, type) else f"a {type(found).__name__}"


def _missing(module: ModuleType) -> str:
    said = "`operations` is missing: add `operations = [...]`"
    if callable(getattr(module, "upgrade", None)):
        return f"{said}; a function `upgrade` is never called: migrations are declarative"
    return said


def _kind(header: Header, operations: tuple[Operation, ...]) -> Kind:
    needed = Kind.weakest([operation.kind for operation in operations])
    declared = needed if header.kind is None else Kind(header.kind)
    if declared.rank >= needed.rank:
        return declared
    index, first = next((i, op) for i, op in enumerate(operations) if op.kind.rank > declared.rank)
    place, line = _spelt("operations", index, first), _line(header, "kind")
    raise ScriptError(
        f"{located(header.path, line)}: kind is {declared.value!r}, but {place} is {first.kind.value!r}: "
        f"{first.why}",
        next_step=f'write kind = "{needed.value}", or remove it to have it derived',
        path=header.path,
        line=line,
    )


def _line(header: Header, name: str, index: int | None = None) -> int | None:
    """Where the file assigns `name`, or the item of it at `index`, if it writes them one by one."""
    found = variables(parsed(header.path, read_bytes(header.path))).get(name)
    if not found:
        return None
    listed = found[-1].value
    items = listed.elts if isinstance(listed, ast.List | ast.Tuple) else []
    starred = any(isinstance(item, ast.Starred) for item in items)
    return found[-1].line if index is None or starred or index >= len(items) else items[index].lineno


def _spelt(name: str, index: int, operation: Operation) -> str:
    return f"{_numbered(name, index)} ({operation.table}: {operation.describe()})"


def _numbered(name: str, index: int) -> str:
    """`operation 1`, `downgrade operation 2`: counted from 1, as people count."""
    return f"{'' if name == 'operations' else f'`{name}` '}operation {index + 1}"


def _raised(path: Path, error: BaseException) -> ScriptError:
    """What a file raised, at the last of its own lines that led there."""
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path.absolute()):
            line = trace.tb_lineno
        trace = trace.tb_next
    if isinstance(error, ValidationError):
        return _unfit(path, _invalid(error), line)
    return _unfit(path, f"{type(error).__name__}: {error}{_hint(error)}", line)


def _invalid(error: ValidationError) -> str:
    """`RenameColumn.colum: unknown field; did you mean column?`, one for each field that is wrong."""
    fields = _fields(error.title)
    problems = {".".join(map(str, problem["loc"])): problem for problem in error.errors(include_url=False)}
    unknown = [name for name, problem in problems.items() if problem["type"] == "extra_forbidden"]
    meant = {close(name, fields)[0] for name in unknown if close(name, fields)}
    sentences = []
    for name, problem in problems.items():
        if problem["type"] == "missing" and name in meant:
            continue
        where = f"{error.title}.{name}" if name else error.title
        said = _SENTENCES.get(problem["type"], partial(_as_is, problem["msg"]))(name, fields)
        sentences.append(f"{where}: {said}")
    return "; ".join(sentences)


def _as_is(message: str, _name: str, _fields: list[str]) -> str:
    return message.removeprefix("Value error, ").replace("Input should be", "must be")


_SENTENCES: dict[str, Callable[[str, list[str]], str]] = {
    "extra_forbidden": lambda name, fields: f"unknown field{did_you_mean(name, fields)}",
    "missing": lambda _name, _fields: "missing",
}


def _fields(title: str) -> list[str]:
    """The names under which the operation, or the check, called `title` takes its fields."""
    of: tuple[type[Value], ...] = (*_KNOWN, Check, Tolerance)
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


def _unfit(path: Path, said: str, line: int | None = None) -> ScriptError:
    return ScriptError(f"{located(path, line)}: {said}", next_step=MEND, path=path, line=line)
