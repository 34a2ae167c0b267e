"""What an expression of a row function does that it should not, as far as its syntax tells.

Three questions, each answered by the text of a finding, or by None where the answer is no or unknown:
`nondeterminism` (clocks, randomness, what differs between machines and processes), `external_access`
(network, files, environment, terminal), and `shared_state_change` (what outlives the call), with
`has_stateful_default` for default arguments. The tables above each of them list the recognized functions.
"""

import ast
from collections.abc import Iterable, Iterator

from lancemig.lint.scopes import Function, Scope, root

_CLOCK = {
    "time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.perf_counter",
    "time.perf_counter_ns", "time.process_time", "time.process_time_ns", "datetime.datetime.now",
    "datetime.datetime.utcnow", "datetime.datetime.today", "datetime.date.today", "pandas.Timestamp.now",
    "pandas.Timestamp.utcnow", "pandas.Timestamp.today", "arrow.now", "arrow.utcnow", "pendulum.now",
    "pendulum.today", "django.utils.timezone.now",
}  # fmt: skip
_CLOCK_WITHOUT_TIME = {
    "time.gmtime": 0,
    "time.asctime": 0,
    "time.localtime": 0,
    "time.ctime": 0,
    "time.strftime": 1,
}
"""With at most so many arguments, they format or split the current time."""

_CLOCK_BY_WORD = {"pandas.Timestamp", "pandas.to_datetime", "numpy.datetime64"}
_LOCAL_ZONE = {"time.localtime", "time.ctime", "time.mktime", "datetime.date.fromtimestamp"}
_LOCAL_ZONE_BY_DEFAULT = {"datetime.datetime.fromtimestamp", "pandas.Timestamp.fromtimestamp"}
_RANDOM = {
    "uuid.uuid1", "uuid.uuid4", "uuid.uuid6", "uuid.uuid7", "uuid.uuid8", "os.urandom", "os.getrandom",
    "pyarrow.compute.random", "torch.rand", "torch.randn", "torch.randint", "torch.randperm", "ulid.new",
    "ulid.ULID", "shortuuid.uuid", "nanoid.generate", "faker.Faker",
}  # fmt: skip
_RANDOM_PREFIXES = ("random.", "secrets.", "numpy.random.")
_GENERATORS = {
    "random.Random", "numpy.random.default_rng", "numpy.random.RandomState", "numpy.random.Generator",
    "numpy.random.PCG64", "numpy.random.Philox", "numpy.random.MT19937", "numpy.random.SeedSequence",
}  # fmt: skip
_SEEDING = {"random.seed", "numpy.random.seed", "torch.manual_seed"}
_PROCESS = {"hash", "id", "os.getpid", "os.getcwd", "os.cpu_count", "uuid.getnode"}


def nondeterminism(node: ast.AST, scope: Scope) -> str | None:
    """Why `node` gives another value on another call, machine or process."""
    if not isinstance(node, ast.Call):
        return None
    function = scope.qualified_name(node.func)
    if function is None:
        message = _nondeterministic_method(node, scope)
    else:
        message = _clock(function, node) or _time_zone(function, node) or _randomness(function, node)
    return message or _nondeterministic_argument(node, scope)


def _clock(function: str, node: ast.Call) -> str | None:
    count = len(node.args) + len(node.keywords)
    by_word = function in _CLOCK_BY_WORD and _first_constant(node) in ("now", "today")
    if function in _CLOCK or by_word or count <= _CLOCK_WITHOUT_TIME.get(function, -1):
        return f"reads the clock: {function}()"
    return None


def _time_zone(function: str, node: ast.Call) -> str | None:
    count = len(node.args) + len(node.keywords)
    if function in _LOCAL_ZONE or (function in _LOCAL_ZONE_BY_DEFAULT and count == 1):
        return f"depends on the machine's time zone: {function}() without a time zone"
    return None


def _randomness(function: str, node: ast.Call) -> str | None:
    if function in _GENERATORS and _is_seeded(node):
        return None
    if function in _PROCESS:
        return f"calls {function}(), which differs between processes"
    return f"is random: {function}()" if _is_random(function) else None


def _is_random(function: str) -> bool:
    return function in _RANDOM or (function.startswith(_RANDOM_PREFIXES) and function not in _SEEDING)


def _is_seeded(node: ast.Call) -> bool:
    return any(not isinstance(value, ast.Constant) or value.value is not None for value in _arguments(node))


def _nondeterministic_method(node: ast.Call, scope: Scope) -> str | None:
    """Judge a method of an unknown object by its name and its arguments."""
    method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    keywords = {keyword.arg for keyword in node.keywords}
    if method == "astimezone" and not node.args and not keywords:
        return "depends on the machine's time zone: astimezone() without a time zone"
    samples = method == "sample" and keywords & {"n", "frac", "fraction"}
    if samples and not keywords & {"random_state", "seed", None}:
        return "is random: sample() without a seed"
    return _joined_set(node.args[0], scope) if method == "join" and len(node.args) == 1 else None


def _joined_set(joined: ast.expr, scope: Scope) -> str | None:
    """`", ".join(set(tags))`: the order of a set of strings differs between processes."""
    is_set = isinstance(joined, ast.Set | ast.SetComp) or scope.constructor(joined) in ("set", "frozenset")
    return "joins a set, whose order differs between processes; sort it first" if is_set else None


def _nondeterministic_argument(node: ast.Call, scope: Scope) -> str | None:
    """`map(random.random, rows)`: the function is passed on, and the callee calls it."""
    functions = _passed_functions(_arguments(node), scope)
    changing = next((name for name in functions if name in _CLOCK or _is_random(name)), None)
    return f"uses a value that changes on every call: {changing}" if changing else None


def _first_constant(node: ast.Call) -> object:
    return node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None


def _arguments(node: ast.Call) -> list[ast.expr]:
    return [*node.args, *(keyword.value for keyword in node.keywords)]


def _passed_functions(arguments: Iterable[ast.expr], scope: Scope) -> Iterator[str]:
    """The qualified names of functions among the arguments; classes are not functions here."""
    for argument in arguments:
        name = scope.qualified_name(argument) if isinstance(argument, ast.Name | ast.Attribute) else None
        if name is not None and name.rpartition(".")[2].islower():
            yield name


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
_READS_ARGUMENT = (
    "gzip.open", "bz2.open", "lzma.open", "zipfile.ZipFile", "tarfile.open", "wave.open", "soundfile",
    "librosa.load", "torchaudio.load", "torchaudio.info", "PIL.Image.open", "imageio", "numpy.load",
    "numpy.loadtxt", "numpy.genfromtxt", "numpy.fromfile", "numpy.save", "numpy.savez", "numpy.memmap",
    "h5py.File", "joblib.load", "torch.load", "pyarrow.parquet", "pyarrow.csv", "pyarrow.json",
    "pyarrow.feather", "pyarrow.orc", "pyarrow.input_stream", "pyarrow.output_stream",
)  # fmt: skip
_READS_ARGUMENT_PREFIXES = ("pandas.read_", "polars.read_", "polars.scan_")
"""These read a file where the argument names one, and bytes of a row where it does not."""

_PATH_CLASSES = ("pathlib.Path", "pathlib.PosixPath", "pathlib.WindowsPath")
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
_TERMINAL = (
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
_LOG_METHODS = {"debug", "info", "warning", "warn", "error", "exception", "critical", "log"}
_LOGGERS = ("logging.getLogger", "structlog.get_logger", "loguru.logger")
_ENVIRONMENT = ("os.environ", "os.environb", "sys.argv")
_PURE_OS = ("os.fspath", "os.fsencode", "os.fsdecode", "os.strerror", "os.urandom", "os.getpid", "os.getcwd")
_OS_PATH_READS = {
    "exists", "lexists", "isfile", "isdir", "islink", "ismount", "getsize", "getmtime", "getctime",
    "getatime", "realpath", "abspath", "expanduser", "expandvars", "samefile",
}  # fmt: skip


def external_access(node: ast.AST, scope: Scope) -> str | None:
    """What `node` reads or writes outside the function's arguments: network, files, environment, terminal."""
    if isinstance(node, ast.Attribute | ast.Name) and scope.qualified_name(node) in _ENVIRONMENT:
        return f"depends on {scope.qualified_name(node)}"
    if not isinstance(node, ast.Call):
        return None
    function = scope.qualified_name(node.func)
    if function is None:
        message = _external_method(node.func, scope)
    else:
        message = _external_function(function) or _file_reader(function, node, scope)
    return message or _external_argument(node, scope)


_WRITE_METHODS = {
    "write_text", "write_bytes", "unlink", "mkdir", "rmdir", "touch", "symlink_to", "hardlink_to",
    "writelines", "put_object", "upload_file", "upload_fileobj", "delete_object", "delete_objects",
    "copy_object", "to_parquet", "to_csv", "write_parquet", "write_csv", "sink_parquet",
    "upload_from_string", "upload_from_filename", "upload_blob",
}  # fmt: skip
_WRITE_FUNCTIONS = (
    "lance.write_dataset", "pyarrow.dataset.write_dataset", "pyarrow.parquet.write_table",
    "pyarrow.parquet.ParquetWriter", "pyarrow.csv.write_csv", "pyarrow.feather.write_feather",
    "pyarrow.output_stream", "numpy.save", "numpy.savez", "numpy.savetxt", "json.dump", "pickle.dump",
    "shutil", "subprocess", "obstore.put", "obstore.delete", "obstore.copy", "obstore.rename",
    "requests.post", "requests.put", "requests.patch", "requests.delete", "httpx.post", "httpx.put",
    "httpx.patch", "httpx.delete", "os.remove", "os.unlink", "os.rename", "os.replace", "os.mkdir",
    "os.makedirs", "os.rmdir", "os.removedirs", "os.symlink", "os.link", "os.truncate", "os.system",
)  # fmt: skip
_OPENERS = ("open", "io.open", "codecs.open", "gzip.open", "bz2.open", "lzma.open", "smart_open.open")


def external_write(node: ast.AST, scope: Scope) -> str | None:
    """What `node` writes or deletes outside of the process: files, objects, other services."""
    if not isinstance(node, ast.Call):
        return None
    function = scope.qualified_name(node.func)
    if function is not None and _is_within(function, _WRITE_FUNCTIONS):
        return f"writes: {function}()"
    if function in _OPENERS and _opens_to_write(node, 1):
        return f"writes: {function}() with mode {_mode(node, 1)!r}"
    if not isinstance(node.func, ast.Attribute):
        return None
    if node.func.attr in _WRITE_METHODS:
        return f"writes: {node.func.attr}()"
    if node.func.attr == "open" and _opens_to_write(node, 0):
        return f"writes: open() with mode {_mode(node, 0)!r}"
    return None


def _opens_to_write(node: ast.Call, position: int) -> bool:
    return any(letter in _mode(node, position) for letter in "wax+")


def _mode(node: ast.Call, position: int) -> str:
    """The mode of a call of `open`, if it is a literal; else empty."""
    given = [keyword.value for keyword in node.keywords if keyword.arg == "mode"] or node.args[position:][:1]
    value = given[0].value if given and isinstance(given[0], ast.Constant) else ""
    # The first argument of another `open` may be a file's name.
    return value if isinstance(value, str) and set(value) <= set("rwaxbtU+") else ""


def _external_function(function: str) -> str | None:
    if _is_within(function, _NETWORK) and not _is_within(function, _NO_NETWORK):
        return f"uses the network: {function}()"
    logs = _is_within(function, ("logging", *_LOGGERS)) and function.rpartition(".")[2] in _LOG_METHODS
    if logs or _is_within(function, _TERMINAL):
        return f"writes to the terminal or a log: {function}()"
    if _is_within(function, _FILES) or _uses_file_system(function):
        return f"accesses files or the system: {function}()"
    return None


def _uses_file_system(function: str) -> bool:
    module, _, name = function.rpartition(".")
    if module in _PATH_CLASSES:
        return name in _PATH_METHODS
    if module == "os.path":
        return name in _OS_PATH_READS
    return function.startswith("os.") and not _is_within(function, (*_ENVIRONMENT, *_PURE_OS, "os.path"))


def _file_reader(function: str, node: ast.Call, scope: Scope) -> str | None:
    """Judge a reader by its argument: the name of a file is external access, the bytes of a row are not."""
    is_reader = _is_within(function, _READS_ARGUMENT) or function.startswith(_READS_ARGUMENT_PREFIXES)
    if is_reader and node.args and _names_file(node.args[0], scope):
        return f"accesses files or the system: {function}()"
    return None


def _external_method(function: ast.expr, scope: Scope) -> str | None:
    """Judge a method of a path or of a logger; some methods by their name alone."""
    if not isinstance(function, ast.Attribute):
        return None
    method, owner = function.attr, function.value
    if method in _FILE_METHODS or (method in _PATH_METHODS and _is_path(owner, scope)):
        return f"accesses a file: {method}()"
    if method in _LOG_METHODS and scope.constructor(owner) in _LOGGERS:
        return f"writes to the terminal or a log: {ast.unparse(function)}()"
    return None


def _external_argument(node: ast.Call, scope: Scope) -> str | None:
    """`map(requests.get, urls)`: the function is passed on, and the callee calls it."""
    messages = map(_external_function, _passed_functions(node.args, scope))
    return next(filter(None, messages), None)


def _names_file(node: ast.expr, scope: Scope) -> bool:
    if isinstance(node, ast.Constant | ast.JoinedStr):
        return not isinstance(node, ast.Constant) or isinstance(node.value, str)
    if isinstance(node, ast.Call) and scope.qualified_name(node.func) in ("str", "os.path.join", "os.fspath"):
        joined = scope.qualified_name(node.func) == "os.path.join"
        return joined or (bool(node.args) and _is_path(node.args[0], scope))
    if isinstance(node, ast.Name) and (found := scope.lookup(node.id)) is not None:
        binding_scope, binding = found
        if isinstance(binding.value, ast.Constant | ast.JoinedStr):
            return _names_file(binding.value, binding_scope)
    return _is_path(node, scope)


def _is_path(node: ast.expr, scope: Scope) -> bool:
    while scope.constructor(node) not in _PATH_CLASSES:
        if isinstance(node, ast.Call):
            node = node.func
        elif isinstance(node, ast.Attribute):
            node = node.value
        elif isinstance(node, ast.BinOp):
            node = node.left
        else:
            return False
    return True


def _is_within(name: str, modules: tuple[str, ...]) -> bool:
    """Whether `name` is one of `modules`, or a name inside one of them."""
    return any(name == module or name.startswith(f"{module}.") for module in modules)


_MUTATING_METHODS = {
    "append", "extend", "insert", "add", "update", "setdefault", "pop", "popitem", "remove", "discard",
    "clear", "appendleft", "extendleft", "popleft", "rotate", "sort", "reverse", "move_to_end",
    "subtract", "intersection_update", "difference_update", "symmetric_difference_update",
}  # fmt: skip
_MUTATING_FUNCTIONS = {
    "next", "setattr", "delattr", "heapq.heappush", "heapq.heappop", "heapq.heapify", "heapq.heapreplace",
    "heapq.heappushpop", "bisect.insort", "bisect.insort_left", "bisect.insort_right", "random.shuffle",
    "numpy.random.shuffle", "operator.setitem", "operator.delitem",
}  # fmt: skip
"""They change their first argument."""

_MUTABLE_TYPES = {"list", "dict", "set", "collections.defaultdict", "collections.Counter",
            "collections.OrderedDict", "collections.deque"}  # fmt: skip
_IMMUTABLE = ("pyarrow.",)
"""Values whose `append`, `insert` and `remove` return another value, and change nothing."""


def shared_state_change(node: ast.AST, scope: Scope) -> str | None:
    """What `node` changes that outlives the call of the function: a module variable, a shared generator."""
    if isinstance(node, ast.Name | ast.Attribute | ast.Subscript):
        return _shared_assignment(node, scope) if isinstance(node.ctx, ast.Store | ast.Del) else None
    if not isinstance(node, ast.Call):
        return None
    function = scope.qualified_name(node.func)
    if function in _SEEDING:
        return f"changes the shared random generator: {function}()"
    if function in _MUTATING_FUNCTIONS and node.args:
        variable = scope.module_variable(node.args[0])
        return f"changes the module variable {variable}: {function}()" if variable else None
    return _mutating_method(node.func, scope)


def has_stateful_default(function: Function, scope: Scope) -> bool:
    """Whether a default argument keeps state between calls: the function changes it, or it starts empty."""
    return any(_is_stateful(function, name, default, scope) for name, default in _defaults(function))


def _shared_assignment(node: ast.Name | ast.Attribute | ast.Subscript, scope: Scope) -> str | None:
    if isinstance(node, ast.Name):
        found = scope.lookup(node.id)
        is_global = not scope.is_module and (found is None or found[0].is_module)
        return f"changes the module variable {node.id} (global)" if is_global else None
    owner = root(node)
    if isinstance(owner, ast.Call) and scope.qualified_name(owner.func) == "globals":
        return "changes module variables: globals()"
    variable = scope.module_variable(node) or _imported(owner, scope)
    return f"changes the module variable {variable}" if variable else None


def _mutating_method(function: ast.expr, scope: Scope) -> str | None:
    if not isinstance(function, ast.Attribute):
        return None
    owner = function.value
    variable = scope.module_variable(owner)
    constructor = scope.constructor(owner) or ""
    if variable and constructor in _GENERATORS:
        return f"consumes the module variable {variable}, whose position depends on earlier calls"
    if function.attr not in _MUTATING_METHODS or constructor.startswith(_IMMUTABLE):
        return None
    if _is_defined_here(owner, scope):
        return None
    if not variable and isinstance(owner, ast.Name) and owner.id.isupper():
        variable = _imported(owner, scope)
    return f"changes the module variable {variable}: .{function.attr}()" if variable else None


def _imported(node: ast.expr, scope: Scope) -> str | None:
    found = scope.lookup(node.id) if isinstance(node, ast.Name) else None
    return found[1].imported if found is not None else None


def _is_defined_here(node: ast.expr, scope: Scope) -> bool:
    """Whether this names a function or a class of the file: what `Registry.add()` does is not known."""
    found = scope.lookup(node.id) if isinstance(node, ast.Name) else None
    return found is not None and found[1].definition is not None


def _defaults(function: Function) -> Iterator[tuple[str, ast.expr]]:
    """The parameters that have a default, each with its expression."""
    parameters = function.args
    positional = [*parameters.posonlyargs, *parameters.args]
    for parameter, default in zip(reversed(positional), reversed(parameters.defaults), strict=False):
        yield parameter.arg, default
    for parameter, keyword_default in zip(parameters.kwonlyargs, parameters.kw_defaults, strict=True):
        if keyword_default is not None:
            yield parameter.arg, keyword_default


def _is_stateful(function: Function, name: str, default: ast.expr, scope: Scope) -> bool:
    if isinstance(default, ast.Call):
        constructor = scope.qualified_name(default.func)
        empty = not default.args or constructor == "collections.defaultdict"
        mutable = constructor in _MUTABLE_TYPES
    else:
        empty = ast.unparse(default) in ("[]", "{}")
        mutable = isinstance(
            default, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp
        )
    return mutable and (empty or any(_changes(node, name) for node in ast.walk(function)))


def _changes(node: ast.AST, name: str) -> bool:
    """Whether `node` changes the value of the local variable `name` in place."""
    if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
        owner: ast.expr = node
    elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
        owner = node.target
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr not in _MUTATING_METHODS:
            return False
        owner = node.func.value
    else:
        return False
    owner = root(owner)
    return isinstance(owner, ast.Name) and owner.id == name
