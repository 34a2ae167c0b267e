"""What a row function reaches beyond its rows: the network, files, the environment, a terminal."""

import ast

from lancemig.plan.lint.scopes import Scope

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


def outside(node: ast.AST, scope: Scope) -> str | None:
    """What `node` reaches outside, in words; None where it reaches nothing, or nobody can tell."""
    if isinstance(node, ast.Attribute | ast.Name) and scope.meant(node) in _SURROUNDINGS:
        return f"depends on {scope.meant(node)}"
    if not isinstance(node, ast.Call):
        return None
    called = scope.meant(node.func)
    said = _by_method(node.func, scope) if called is None else _reached(called) or _given(called, node, scope)
    return said or _handed_over(node, scope)


def _reached(called: str) -> str | None:
    if below(called, _NETWORK) and not below(called, _NO_NETWORK):
        return f"uses the network: {called}()"
    logs = below(called, ("logging", *_LOGGERS)) and called.rpartition(".")[2] in _LOGS
    if logs or below(called, _PRINTS):
        return f"writes to the terminal or a log: {called}()"
    if below(called, _FILES) or _looks(called):
        return f"accesses files or the system: {called}()"
    return None


def _looks(called: str) -> bool:
    module, _, name = called.rpartition(".")
    if module in _PATHS:
        return name in _PATH_METHODS
    if module == "os.path":
        return name in _LOOKS
    return called.startswith("os.") and not below(called, (*_SURROUNDINGS, *_PURE_OS, "os.path"))


def _by_method(function: ast.expr, scope: Scope) -> str | None:
    """What a method of something is known for: of a path, of a logger, or by its name alone."""
    if not isinstance(function, ast.Attribute):
        return None
    method, of = function.attr, function.value
    if method in _FILE_METHODS or (method in _PATH_METHODS and _is_path(of, scope)):
        return f"accesses a file: {method}()"
    if method in _LOGS and scope.maker(of) in _LOGGERS:
        return f"writes to the terminal or a log: {ast.unparse(function)}()"
    return None


def _given(called: str, node: ast.Call, scope: Scope) -> str | None:
    """What reads a file if it is given the name of one; bytes of a row may be read by it as well."""
    if not below(called, _READS_WHAT_IT_IS_GIVEN) and not called.startswith(_READERS):
        return None
    return (
        f"accesses files or the system: {called}()"
        if node.args and _names_file(node.args[0], scope)
        else None
    )


def _handed_over(node: ast.Call, scope: Scope) -> str | None:
    """`map(requests.get, urls)`: a function that is not called here, but by what gets it."""
    given = (scope.meant(each) for each in node.args if isinstance(each, ast.Name | ast.Attribute))
    functions = (name for name in given if name and name.rpartition(".")[2].islower())
    return next((said for name in functions if (said := _reached(name))), None)


def _names_file(node: ast.expr, scope: Scope) -> bool:
    if isinstance(node, ast.Constant | ast.JoinedStr):
        return not isinstance(node, ast.Constant) or isinstance(node.value, str)
    if isinstance(node, ast.Call) and scope.meant(node.func) in ("str", "os.path.join", "os.fspath"):
        joined = scope.meant(node.func) == "os.path.join"
        return joined or (bool(node.args) and _is_path(node.args[0], scope))
    if isinstance(node, ast.Name):
        found = scope.find(node.id)
        value = found[1].value if found is not None else None
        if found is not None and isinstance(value, ast.Constant | ast.JoinedStr):
            return _names_file(value, found[0])
    return _is_path(node, scope)


def _is_path(node: ast.expr, scope: Scope) -> bool:
    while scope.maker(node) not in _PATHS:
        if isinstance(node, ast.Call):
            node = node.func
        elif isinstance(node, ast.Attribute):
            node = node.value
        elif isinstance(node, ast.BinOp):
            node = node.left
        else:
            return False
    return True


def below(called: str, modules: tuple[str, ...]) -> bool:
    """Whether a name is one of these, or what is in one of them."""
    return any(called == module or called.startswith(f"{module}.") for module in modules)
