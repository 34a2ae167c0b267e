"""Rules over row functions: the same rows give the same answer, and nothing else happens.

A run asks about a row again after a conflict or a death, in another process, in other batches, and the proof
before a flip asks once more. What a function gets from elsewhere may be different then.
"""

import ast
from collections.abc import Callable, Iterator
from typing import NamedTuple

from lancemig.plan.lint import codes
from lancemig.plan.lint.functions import Function, Names, row_functions
from lancemig.plan.lint.subject import Found, Span, Subject

_CLOCK = {
    "time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.perf_counter",
    "time.perf_counter_ns", "time.localtime", "time.gmtime", "time.ctime", "time.strftime",
    "datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today", "datetime.date.today",
    "pandas.Timestamp.now", "pandas.Timestamp.today",
}  # fmt: skip
_CHANCE = {"uuid.uuid1", "uuid.uuid4", "os.urandom", "pyarrow.compute.random"}
_CHANCES = ("random.", "secrets.", "numpy.random.")
_SEEDED = {"random.Random", "numpy.random.default_rng", "numpy.random.RandomState"}
_PROCESS = {"hash", "id", "os.getpid", "os.getcwd"}

_NETWORK = (
    "requests", "urllib3", "urllib.request", "http.client", "socket", "httpx", "aiohttp", "boto3", "botocore",
    "ftplib", "smtplib", "grpc", "openai", "cohere", "redis", "psycopg", "psycopg2", "pymongo",
)  # fmt: skip
_FILES = ("lance", "lancedb", "sqlite3", "shutil", "tempfile", "glob", "subprocess", "pyarrow.dataset",
          "pyarrow.parquet", "pyarrow.csv")  # fmt: skip
_FILE_METHODS = {
    "read_text",
    "read_bytes",
    "write_text",
    "write_bytes",
    "iterdir",
    "unlink",
    "mkdir",
    "touch",
}
_PRINTS = {"print", "input", "breakpoint", "sys.stdout.write", "sys.stderr.write", "warnings.warn"}
_HARMLESS_OS = ("os.path.", "os.fspath", "os.sep")

_CHANGING = {
    "append", "extend", "insert", "add", "update", "setdefault", "pop", "popitem", "remove", "discard",
    "clear", "appendleft", "popleft", "sort", "reverse",
}  # fmt: skip


class _Place(NamedTuple):
    """A node of a row function, or of an assignment to a name of the file; what the names in it mean."""

    node: ast.AST
    names: Names
    function: Function | None = None


_Rule = Callable[[_Place], str | None]


def changing(subject: Subject) -> Iterator[Found]:
    """What gives something else each time: by the clock, by chance, by the process.

    Also at the top of the file, which is run by every command: operations and functions depend on it.
    """
    fix = "compute it from the columns it reads, or write it as a constant"
    yield from _told(subject, codes.NOT_DETERMINISTIC, _changing, fix)
    names = Names(subject.tree)
    for statement in subject.tree.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            for node in ast.walk(statement):
                yield from _found(_Place(node, names), codes.NOT_DETERMINISTIC, _changing, fix)


def outside(subject: Subject) -> Iterator[Found]:
    """A row function that reaches the network, files, the environment or a terminal."""
    yield from _told(
        subject,
        codes.OUTSIDE,
        _outside,
        "leave it out; what it reads, bring into a table first: CreateTable, UpsertRows or BuildTable",
    )


def shared_state(subject: Subject) -> Iterator[Found]:
    """A row function that changes what outlives its call."""
    yield from _told(
        subject,
        codes.GLOBAL_STATE,
        _shared,
        "keep what it needs in variables of its own: each row is answered alone",
    )


def _told(subject: Subject, code: str, rule: _Rule, fix: str) -> Iterator[Found]:
    for function in row_functions(subject):
        names = Names(subject.tree, function)
        for node in ast.walk(function):
            yield from _found(_Place(node, names, function), code, rule, fix)


def _found(place: _Place, code: str, rule: _Rule, fix: str) -> Iterator[Found]:
    said = rule(place)
    if said is not None:
        first = getattr(place.node, "lineno", 1)
        last = getattr(place.node, "end_lineno", None) or first
        who = f"{place.function.name}()" if place.function else "the file"
        yield Found(code, Span(first, last), f"{who} {said}", fix)


def _changing(place: _Place) -> str | None:
    if not isinstance(place.node, ast.Call):
        return None
    called = place.names.meant(place.node.func)
    if called is None or (called in _SEEDED and place.node.args):
        return None
    if called in _CLOCK:
        return f"asks the clock: {called}()"
    if called in _CHANCE or called.startswith(_CHANCES):
        return f"is left to chance: {called}()"
    return f"calls {called}(), which differs between processes" if called in _PROCESS else None


def _outside(place: _Place) -> str | None:
    node = place.node
    if isinstance(node, ast.Attribute) and place.names.meant(node) in ("os.environ", "sys.argv"):
        return f"depends on {place.names.meant(node)}"
    if not isinstance(node, ast.Call):
        return None
    called = place.names.meant(node.func)
    if called is None:
        method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        return f"works on a file: {method}()" if method in _FILE_METHODS else None
    return _reached(called)


def _reached(called: str) -> str | None:
    if _below(called, _NETWORK):
        return f"uses the network: {called}()"
    if called in _PRINTS or _below(called, ("logging",)):
        return f"writes to the terminal or a log: {called}()"
    if called in ("open", "io.open", "os.getenv", "eval", "exec") or _below(called, _FILES):
        return f"reaches outside: {called}()"
    if called.startswith("os.") and not called.startswith(_HARMLESS_OS) and called not in _CHANCE | _PROCESS:
        return f"reaches outside: {called}()"
    return None


def _below(called: str, modules: tuple[str, ...]) -> bool:
    return any(called == module or called.startswith(f"{module}.") for module in modules)


def _shared(place: _Place) -> str | None:
    node, names, function = place
    if isinstance(node, ast.Global):
        return f"changes the file's {', '.join(node.names)} (global)"
    if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
        outer = names.outer(node)
        return f"changes the file's {outer}" if outer else None
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _CHANGING:
        outer = names.outer(node.func.value)
        return f"changes the file's {outer}: .{node.func.attr}()" if outer else None
    if (
        function is not None
        and node is function
        and any(_is_mutable(default) for default in _defaults(function))
    ):
        return "has a default that keeps what one call leaves in it for the next"
    return None


def _defaults(function: Function) -> Iterator[ast.expr]:
    yield from function.args.defaults
    yield from (default for default in function.args.kw_defaults if default is not None)


def _is_mutable(default: ast.expr) -> bool:
    made = isinstance(default, ast.Call) and ast.unparse(default.func) in ("list", "dict", "set")
    return made or isinstance(default, ast.List | ast.Dict | ast.Set)
