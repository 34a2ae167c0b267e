"""What gives something else each time it is asked: clocks, chance, what differs between machines."""

import ast

from lancemig.plan.lint.scopes import Scope

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


def changing(node: ast.AST, scope: Scope) -> str | None:
    """How `node` gives something else each time, in words; None where it does not, or nobody can tell."""
    if not isinstance(node, ast.Call):
        return None
    called = scope.meant(node.func)
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
        meant = scope.meant(argument) if isinstance(argument, ast.Name | ast.Attribute) else None
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
    made = isinstance(given, ast.Set | ast.SetComp) or scope.maker(given) in ("set", "frozenset")
    return "joins a set, whose order differs between processes; sort it first" if made else None


def _first(node: ast.Call) -> object:
    return node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
