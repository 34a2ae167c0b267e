"""What gives something else each time it is asked: clocks, chance, what differs between machines."""

import ast
from collections.abc import Iterator

from lancemig.lint.scopes import Function, Scope

_CLOCK = {
    "time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.perf_counter",
    "time.perf_counter_ns", "time.process_time", "time.process_time_ns", "datetime.datetime.now",
    "datetime.datetime.utcnow", "datetime.datetime.today", "datetime.date.today", "pandas.Timestamp.now",
    "pandas.Timestamp.utcnow", "pandas.Timestamp.today", "arrow.now", "arrow.utcnow", "pendulum.now",
    "pendulum.today", "django.utils.timezone.now",
}  # fmt: skip
_CLOCK_UNLESS_GIVEN = {
    "time.gmtime": 0,
    "time.asctime": 0,
    "time.localtime": 0,
    "time.ctime": 0,
    "time.strftime": 1,
}
_CLOCK_BY_WORD = {"pandas.Timestamp", "pandas.to_datetime", "numpy.datetime64"}
_ZONE = {"time.localtime", "time.ctime", "time.mktime", "datetime.date.fromtimestamp"}
_ZONE_UNLESS_GIVEN = {"datetime.datetime.fromtimestamp", "pandas.Timestamp.fromtimestamp"}
_CHANCE = {
    "uuid.uuid1", "uuid.uuid4", "uuid.uuid6", "uuid.uuid7", "uuid.uuid8", "os.urandom", "os.getrandom",
    "pyarrow.compute.random", "torch.rand", "torch.randn", "torch.randint", "torch.randperm", "ulid.new",
    "ulid.ULID", "shortuuid.uuid", "nanoid.generate", "faker.Faker",
}  # fmt: skip
_CHANCES = ("random.", "secrets.", "numpy.random.")
GENERATORS = {
    "random.Random", "numpy.random.default_rng", "numpy.random.RandomState", "numpy.random.Generator",
    "numpy.random.PCG64", "numpy.random.Philox", "numpy.random.MT19937", "numpy.random.SeedSequence",
}  # fmt: skip
SEEDS = {"random.seed", "numpy.random.seed", "torch.manual_seed"}
_PROCESS = {"hash", "id", "os.getpid", "os.getcwd", "os.cpu_count", "uuid.getnode"}


def nondeterminism(node: ast.AST, scope: Scope) -> str | None:
    """How `node` gives something else each time, in words; None where it does not, or nobody can tell."""
    if not isinstance(node, ast.Call):
        return None
    called = scope.qualified_name(node.func)
    if called is None:
        return _by_method(node, scope) or _handed_over(node, scope)
    return _clock(called, node) or _zone(called, node) or _asked(called, node) or _handed_over(node, scope)


def _clock(called: str, node: ast.Call) -> str | None:
    given = len(node.args) + len(node.keywords)
    by_word = called in _CLOCK_BY_WORD and _first(node) in ("now", "today")
    if called in _CLOCK or by_word or given <= _CLOCK_UNLESS_GIVEN.get(called, -1):
        return f"reads the clock: {called}()"
    return None


def _zone(called: str, node: ast.Call) -> str | None:
    given = len(node.args) + len(node.keywords)
    if called in _ZONE or (called in _ZONE_UNLESS_GIVEN and given == 1):
        return f"depends on the machine's time zone: {called}() without a time zone"
    return None


def _asked(called: str, node: ast.Call) -> str | None:
    if called in GENERATORS and _is_seeded(node):
        return None
    if called in _PROCESS:
        return f"calls {called}(), which differs between processes"
    return f"is random: {called}()" if _is_chance(called) else None


def _is_chance(called: str) -> bool:
    return called in _CHANCE or (called.startswith(_CHANCES) and called not in SEEDS)


def _is_seeded(node: ast.Call) -> bool:
    given = [*node.args, *(keyword.value for keyword in node.keywords)]
    return any(not isinstance(value, ast.Constant) or value.value is not None for value in given)


def _handed_over(node: ast.Call, scope: Scope) -> str | None:
    """`map(random.random, rows)`: a function that is not called here, but by what gets it."""
    for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
        meant = scope.qualified_name(argument) if isinstance(argument, ast.Name | ast.Attribute) else None
        is_function = meant is not None and meant.rpartition(".")[2].islower()
        if meant is not None and is_function and (meant in _CLOCK or _is_chance(meant)):
            return f"uses a value that changes on every call: {meant}"
    return None


def _by_method(node: ast.Call, scope: Scope) -> str | None:
    """What a method of something is known for, by its name and what it is given."""
    method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    words = {keyword.arg for keyword in node.keywords}
    if method == "astimezone" and not node.args and not words:
        return "depends on the machine's time zone: astimezone() without a time zone"
    if (
        method == "sample"
        and words & {"n", "frac", "fraction"}
        and not words & {"random_state", "seed", None}
    ):
        return "is random: sample() without a seed"
    return _in_any_order(node, scope) if method == "join" and len(node.args) == 1 else None


def _in_any_order(node: ast.Call, scope: Scope) -> str | None:
    """`", ".join(set(tags))`: the order of a set of texts differs between processes."""
    given = node.args[0]
    made = isinstance(given, ast.Set | ast.SetComp) or scope.constructor(given) in ("set", "frozenset")
    return "joins a set, whose order differs between processes; sort it first" if made else None


def _first(node: ast.Call) -> object:
    return node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None


_NETWORK = (
    "requests", "urllib3", "urllib.request", "http.client", "xmlrpc.client", "socket", "httpx", "aiohttp",
    "pycurl", "websocket", "websockets", "ftplib", "smtplib", "imaplib", "poplib", "telnetlib",
    "paramiko", "grpc", "boto3", "botocore", "aioboto3", "google.cloud", "azure.storage", "obstore",
    "s3fs", "gcsfs", "adlfs", "fsspec", "smart_open", "openai", "anthropic", "cohere", "ollama", "redis",
    "kafka", "elasticsearch", "psycopg", "psycopg2", "asyncpg", "pymysql", "mysql.connector", "pymongo",
    "sqlalchemy.create_engine",
)  # fmt: skip
_NO_NETWORK = (
    "requests.utils", "requests.structures", "requests.compat", "requests.exceptions", "urllib3.util",
    "urllib.request.url2pathname", "urllib.request.pathname2url", "httpx.URL", "httpx.QueryParams",
    "httpx.Timeout", "aiohttp.ClientTimeout", "boto3.dynamodb.types", "botocore.exceptions",
    "botocore.config", "socket.inet_aton", "socket.inet_ntoa", "socket.inet_pton", "socket.inet_ntop",
    "socket.htons", "socket.htonl", "socket.ntohs", "socket.ntohl", "redis.exceptions", "psycopg.sql",
    "psycopg2.sql",
)  # fmt: skip
_FILES = (
    "open", "io.open", "os.open", "codecs.open", "linecache", "lance.dataset", "lance.write_dataset",
    "lance.LanceDataset", "lancedb.connect", "lancedb.connect_async", "sqlite3", "duckdb.connect", "shutil",
    "tempfile", "glob.glob", "glob.iglob", "subprocess", "pyarrow.dataset.dataset",
    "pyarrow.dataset.write_dataset", "pyarrow.dataset.parquet_dataset", "pyarrow.fs", "pyarrow.memory_map",
    "pyarrow.OSFile", "cv2.imread", "cv2.VideoCapture", "getpass", "platform", "pwd", "eval", "exec",
)  # fmt: skip
_READS_WHAT_IT_IS_GIVEN = (
    "gzip.open", "bz2.open", "lzma.open", "zipfile.ZipFile", "tarfile.open", "wave.open", "soundfile",
    "librosa.load", "torchaudio.load", "torchaudio.info", "PIL.Image.open", "imageio", "numpy.load",
    "numpy.loadtxt", "numpy.genfromtxt", "numpy.fromfile", "numpy.save", "numpy.savez", "numpy.memmap",
    "h5py.File", "joblib.load", "torch.load", "pyarrow.parquet", "pyarrow.csv", "pyarrow.json",
    "pyarrow.feather", "pyarrow.orc", "pyarrow.input_stream", "pyarrow.output_stream",
)  # fmt: skip
_READERS = ("pandas.read_", "polars.read_", "polars.scan_")
_PATHS = ("pathlib.Path", "pathlib.PosixPath", "pathlib.WindowsPath")
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
_PATH_METHODS = _FILE_METHODS | {
    "open", "exists", "is_file", "is_dir", "stat", "lstat", "glob", "rglob", "walk", "rename", "rmdir",
    "chmod", "resolve", "absolute", "expanduser", "samefile", "readlink", "symlink_to", "hardlink_to",
    "cwd", "home",
}  # fmt: skip
_PRINTS = (
    "print",
    "input",
    "breakpoint",
    "sys.stdout",
    "sys.stderr",
    "sys.stdin",
    "warnings.warn",
    "tqdm",
    "rich",
)
_LOGS = {"debug", "info", "warning", "warn", "error", "exception", "critical", "log"}
_LOGGERS = ("logging.getLogger", "structlog.get_logger", "loguru.logger")
_SURROUNDINGS = ("os.environ", "os.environb", "sys.argv")
_PURE_OS = ("os.fspath", "os.fsencode", "os.fsdecode", "os.strerror", "os.urandom", "os.getpid", "os.getcwd")
_LOOKS = {
    "exists", "lexists", "isfile", "isdir", "islink", "ismount", "getsize", "getmtime", "getctime",
    "getatime", "realpath", "abspath", "expanduser", "expandvars", "samefile",
}  # fmt: skip


def external_access(node: ast.AST, scope: Scope) -> str | None:
    """What `node` reaches outside, in words; None where it reaches nothing, or nobody can tell."""
    if isinstance(node, ast.Attribute | ast.Name) and scope.qualified_name(node) in _SURROUNDINGS:
        return f"depends on {scope.qualified_name(node)}"
    if not isinstance(node, ast.Call):
        return None
    called = scope.qualified_name(node.func)
    said = (
        _outside_method(node.func, scope)
        if called is None
        else _reached(called) or _given(called, node, scope)
    )
    return said or _outside_argument(node, scope)


def _reached(called: str) -> str | None:
    if is_within(called, _NETWORK) and not is_within(called, _NO_NETWORK):
        return f"uses the network: {called}()"
    logs = is_within(called, ("logging", *_LOGGERS)) and called.rpartition(".")[2] in _LOGS
    if logs or is_within(called, _PRINTS):
        return f"writes to the terminal or a log: {called}()"
    if is_within(called, _FILES) or _looks(called):
        return f"accesses files or the system: {called}()"
    return None


def _looks(called: str) -> bool:
    module, _, name = called.rpartition(".")
    if module in _PATHS:
        return name in _PATH_METHODS
    if module == "os.path":
        return name in _LOOKS
    return called.startswith("os.") and not is_within(called, (*_SURROUNDINGS, *_PURE_OS, "os.path"))


def _outside_method(function: ast.expr, scope: Scope) -> str | None:
    """What a method of something is known for: of a path, of a logger, or by its name alone."""
    if not isinstance(function, ast.Attribute):
        return None
    method, of = function.attr, function.value
    if method in _FILE_METHODS or (method in _PATH_METHODS and _is_path(of, scope)):
        return f"accesses a file: {method}()"
    if method in _LOGS and scope.constructor(of) in _LOGGERS:
        return f"writes to the terminal or a log: {ast.unparse(function)}()"
    return None


def _given(called: str, node: ast.Call, scope: Scope) -> str | None:
    """What reads a file if it is given the name of one; bytes of a row may be read by it as well."""
    if not is_within(called, _READS_WHAT_IT_IS_GIVEN) and not called.startswith(_READERS):
        return None
    return (
        f"accesses files or the system: {called}()"
        if node.args and _names_file(node.args[0], scope)
        else None
    )


def _outside_argument(node: ast.Call, scope: Scope) -> str | None:
    """`map(requests.get, urls)`: a function that is not called here, but by what gets it."""
    given = (scope.qualified_name(each) for each in node.args if isinstance(each, ast.Name | ast.Attribute))
    functions = (name for name in given if name and name.rpartition(".")[2].islower())
    return next((said for name in functions if (said := _reached(name))), None)


def _names_file(node: ast.expr, scope: Scope) -> bool:
    if isinstance(node, ast.Constant | ast.JoinedStr):
        return not isinstance(node, ast.Constant) or isinstance(node.value, str)
    if isinstance(node, ast.Call) and scope.qualified_name(node.func) in ("str", "os.path.join", "os.fspath"):
        joined = scope.qualified_name(node.func) == "os.path.join"
        return joined or (bool(node.args) and _is_path(node.args[0], scope))
    if isinstance(node, ast.Name):
        found = scope.lookup(node.id)
        value = found[1].value if found is not None else None
        if found is not None and isinstance(value, ast.Constant | ast.JoinedStr):
            return _names_file(value, found[0])
    return _is_path(node, scope)


def _is_path(node: ast.expr, scope: Scope) -> bool:
    while scope.constructor(node) not in _PATHS:
        if isinstance(node, ast.Call):
            node = node.func
        elif isinstance(node, ast.Attribute):
            node = node.value
        elif isinstance(node, ast.BinOp):
            node = node.left
        else:
            return False
    return True


def is_within(called: str, modules: tuple[str, ...]) -> bool:
    """Whether a name is one of these, or what is in one of them."""
    return any(called == module or called.startswith(f"{module}.") for module in modules)


_CHANGING = {
    "append", "extend", "insert", "add", "update", "setdefault", "pop", "popitem", "remove", "discard",
    "clear", "appendleft", "extendleft", "popleft", "rotate", "sort", "reverse", "move_to_end",
    "subtract", "intersection_update", "difference_update", "symmetric_difference_update",
}  # fmt: skip
_CHANGING_FIRST = {
    "next", "setattr", "delattr", "heapq.heappush", "heapq.heappop", "heapq.heapify", "heapq.heapreplace",
    "heapq.heappushpop", "bisect.insort", "bisect.insort_left", "bisect.insort_right", "random.shuffle",
    "numpy.random.shuffle", "operator.setitem", "operator.delitem",
}  # fmt: skip
_GROWING = {"list", "dict", "set", "collections.defaultdict", "collections.Counter",
            "collections.OrderedDict", "collections.deque"}  # fmt: skip
_NEW_EACH_TIME = ("pyarrow.",)
"""Whose `append`, `insert` and `remove` leave the value as it is, and return another."""


def shared_state_change(node: ast.AST, scope: Scope) -> str | None:
    """What `node` changes that outlives the call, in words; None where nothing, or nobody can tell."""
    if isinstance(node, ast.Name | ast.Attribute | ast.Subscript):
        return _assigned(node, scope) if isinstance(node.ctx, ast.Store | ast.Del) else None
    if not isinstance(node, ast.Call):
        return None
    called = scope.qualified_name(node.func)
    if called in SEEDS:
        return f"changes the shared random generator: {called}()"
    if called in _CHANGING_FIRST and node.args:
        outer = scope.module_variable(node.args[0])
        return f"changes the module variable {outer}: {called}()" if outer else None
    return _method(node.func, scope)


def has_stateful_default(function: Function, scope: Scope) -> bool:
    """Whether a default of `function` is changed by it, or is empty and therefore there to be filled."""
    return any(_is_kept(function, name, default, scope) for name, default in _defaults(function))


def _assigned(node: ast.Name | ast.Attribute | ast.Subscript, scope: Scope) -> str | None:
    if isinstance(node, ast.Name):
        found = scope.lookup(node.id)
        is_global = not scope.is_module and (found is None or found[0].is_module)
        return f"changes the module variable {node.id} (global)" if is_global else None
    root: ast.expr = node
    while isinstance(root, ast.Attribute | ast.Subscript):
        root = root.value
    if isinstance(root, ast.Call) and scope.qualified_name(root.func) == "globals":
        return "changes module variables: globals()"
    outer = scope.module_variable(node) or _imported(root, scope)
    return f"changes the module variable {outer}" if outer else None


def _method(function: ast.expr, scope: Scope) -> str | None:
    if not isinstance(function, ast.Attribute):
        return None
    of = function.value
    name = scope.module_variable(of)
    maker = scope.constructor(of)
    if name and maker in GENERATORS:
        return f"consumes the module variable {name}, whose position depends on earlier calls"
    if function.attr not in _CHANGING or (maker or "").startswith(_NEW_EACH_TIME) or _is_defined(of, scope):
        return None
    outer = name or (_imported(of, scope) if isinstance(of, ast.Name) and of.id.isupper() else None)
    return f"changes the module variable {outer}: .{function.attr}()" if outer else None


def _imported(node: ast.expr, scope: Scope) -> str | None:
    found = scope.lookup(node.id) if isinstance(node, ast.Name) else None
    return found[1].imported if found is not None else None


def _is_defined(node: ast.expr, scope: Scope) -> bool:
    """Whether this names a function or a class of the file: `Registry.add()` is its own affair."""
    found = scope.lookup(node.id) if isinstance(node, ast.Name) else None
    return found is not None and found[1].definition is not None


def _defaults(function: Function) -> Iterator[tuple[str, ast.expr]]:
    given = function.args
    positional = [*given.posonlyargs, *given.args]
    for parameter, value in zip(reversed(positional), reversed(given.defaults), strict=False):
        yield parameter.arg, value
    for parameter, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        if default is not None:
            yield parameter.arg, default


def _is_kept(function: Function, name: str, default: ast.expr, scope: Scope) -> bool:
    if isinstance(default, ast.Call):
        made = scope.qualified_name(default.func)
        empty = not default.args or made == "collections.defaultdict"
        mutable = made in _GROWING
    else:
        empty = ast.unparse(default) in ("[]", "{}")
        mutable = isinstance(
            default, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp
        )
    return mutable and (empty or any(_changes(node, name) for node in ast.walk(function)))


def _changes(node: ast.AST, name: str) -> bool:
    if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
        return _root(node) == name
    if isinstance(node, ast.AugAssign):
        return isinstance(node.target, ast.Name) and node.target.id == name
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in _CHANGING and _root(node.func.value) == name
    return False


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""
