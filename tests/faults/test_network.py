"""A network that fails: the run goes on or stops and says so, and the same command ends it, once."""

from dataclasses import dataclass, field, replace
from threading import Lock

import pytest
from lab import Lab
from proxy import Exchange, Fault, Proxy, answer_lost, answered, broken_off, passed_on, request_lost
from scenes import Course, Scene, actions, course, one_of, repeated, settled, whole
from servers import NewPlace, bucket_at

from lancemig.commands.context import Catalog, open_catalog
from lancemig.errors import Incomplete, LancemigError
from lancemig.store.lance import Tables
from lancemig.store.objects import Objects, open_objects

START = """
    CreateTable(
        table="recordings", key=("id",), schema=pa.schema([("id", pa.int64()), ("gain", pa.float64())]),
        rows=[{"id": n, "gain": float(n)} for n in range(1, 4)],
    ),
"""
OPERATIONS = """
    UpdateRows(table="recordings", set={"gain": "gain * 2"}),
    UpsertRows(table="recordings", on=("id",), rows=[{"id": 9, "gain": 9.0}]),
    DeleteRows(table="recordings", where="id = 1"),
    CreateIndex(table="recordings", column="id", type="BTREE"),
    CreateTable(table="tags", schema=pa.schema([("tag", pa.string())]), rows=[{"tag": "a"}]),
"""
WRITES = {
    "lock": ("PUT", "_lancemig/lock.json"),
    "sidecar": ("PUT", "_lancemig/runs/"),
    "guard": ("PUT", "recordings.lance/_refs/"),
    "data": ("PUT", "recordings.lance/data/"),
    "transaction": ("PUT", "recordings.lance/_transactions/"),
    "commit": ("PUT", "recordings.lance/_versions/"),
    "create": ("PUT", "tags.lance/_versions/"),
    "lineage": ("PUT", "_lancemig/lineage/"),
    "pointer": ("PUT", "ACTIVE.json"),
    "delete": ("POST", "delete"),
}
FAULTS: dict[str, Fault] = {
    "request lost": request_lost,
    "answer lost": answer_lost,
    "answer broken off": broken_off,
    "500": answered(500, "InternalError"),
    "500 landed": answered(500, "InternalError", landed=True),
    "503": answered(503, "SlowDown"),
    "503 landed": answered(503, "SlowDown", landed=True),
    "409": answered(409, "ConditionalRequestConflict"),
}
EVER = 1_000_000


@dataclass
class Trouble:
    """The requests number `first` to `last` whose path contains `part` meet a fault; others pass."""

    part: str
    fault: Fault
    first: int = 1
    last: int = 1
    met: int = 0
    lock: Lock = field(default_factory=Lock)

    def __call__(self, exchange: Exchange) -> None:
        with self.lock:
            self.met += self.part in exchange.path
            now = self.part in exchange.path and self.first <= self.met <= self.last
        (self.fault if now else passed_on)(exchange)


@dataclass
class Impatient:
    """Objects, but Lance gives up sooner on a store that fails."""

    objects: Objects

    def __getattr__(self, name: str) -> object:
        return getattr(self.objects, name)

    def lance_options(self) -> dict[str, str]:
        return {**self.objects.lance_options(), "client_max_retries": "3", "client_retry_timeout": "10"}


def upgraded(lab: Lab, catalog: Catalog) -> None:
    lab.upgrade(catalog=catalog)


def downgraded(lab: Lab, catalog: Catalog) -> None:
    lab.downgrade("0001", catalog=catalog)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory, new_place: NewPlace) -> dict[str, tuple[Scene, Course]]:
    lab = Lab(tmp_path_factory.mktemp("net") / "lab", new_place("local"))
    lab.revision(START)
    lab.upgrade()
    there = Scene(lab, upgraded, whole)
    back = there.copy()
    for one, operations in (
        (lab, OPERATIONS),
        (back, 'DeleteRows(table="recordings", where="id = 1")'),
    ):
        one.revision(operations)
    back.upgrade()
    found = {"up": there, "down": Scene(back, downgraded, whole)}
    return {name: (scene, course(scene)) for name, scene in found.items()}


def behind(scene: Scene, proxy: Proxy, endpoint: str) -> Lab:
    """A copy in a bucket behind the proxy; between attempts at a conditional write no time passes."""
    proxy.forget()
    place = replace(bucket_at("moto", endpoint), options={"endpoint": proxy.endpoint})
    lab = scene.copy(place)
    catalog = open_catalog(lab.settings)
    objects = Impatient(open_objects(place.store, place.options, sleep=lambda _: None))
    tables = Tables(objects, catalog.store.tables.catalog_dir)
    lab.opened = replace(catalog, store=replace(catalog.store, objects=objects, tables=tables))
    return lab


def gets_there(one: tuple[Scene, Course], lab: Lab, proxy: Proxy, method: str, trouble: Trouble) -> None:
    """The command, through the trouble; if that stops it, once more without."""
    scene, usual = one
    proxy.always_on(method, trouble)
    try:
        scene.repeat(lab)
    except LancemigError as stopped:
        # 1 is what fails after the pointer is written, such as the end of the run.
        assert stopped.exit_status in (5, 6) or isinstance(stopped, Incomplete), stopped
        assert stopped.next_step, stopped
    assert trouble.met >= trouble.first
    proxy.forget()
    lab.outlive_the_lock()
    repeated(scene, lab)
    assert one_of(scene.look(lab), usual.seen[-1:])
    assert actions(lab) == usual.actions
    settled(lab)


LASTING = ("request lost", "answer lost", "500 landed")
ONCE = [(what, fault, 1) for what in WRITES for fault in FAULTS]
FOR_EVER = [(what, fault, EVER) for what in ("sidecar", "commit", "pointer") for fault in LASTING]


@pytest.mark.s3
@pytest.mark.nightly
@pytest.mark.parametrize(("what", "fault", "last"), [*ONCE, *FOR_EVER])
def test_a_write_that_fails_is_made_once(
    scenes: dict[str, tuple[Scene, Course]],
    proxy: Proxy,
    moto_endpoint: str,
    subtests: pytest.Subtests,
    what: str,
    fault: str,
    last: int,
) -> None:
    method, part = WRITES[what]
    numbers = {"sidecar": (1, 3, 5), "commit": (1, 2, 3, 4), "guard": (1, 2), "delete": (1, 2)}
    for number in numbers.get(what, (1,)) if last == 1 else (2,) if what != "pointer" else (1,):
        with subtests.test(f"{fault} at {what} {number}"):
            lab = behind(scenes["up"][0], proxy, moto_endpoint)
            trouble = Trouble(part, FAULTS[fault], number, max(number, last))
            gets_there(scenes["up"], lab, proxy, method, trouble)


@pytest.mark.s3
@pytest.mark.parametrize(
    ("way", "what", "number", "fault"),
    [
        ("up", "commit", 2, "500 landed"),
        ("up", "create", 1, "answer lost"),
        ("up", "sidecar", 4, "answer lost"),
        ("down", "commit", 1, "answer lost"),
    ],
)
def test_a_write_that_fails_once_is_made_once(
    scenes: dict[str, tuple[Scene, Course]],
    proxy: Proxy,
    moto_endpoint: str,
    way: str,
    what: str,
    number: int,
    fault: str,
) -> None:
    lab = behind(scenes[way][0], proxy, moto_endpoint)
    method, part = WRITES[what]
    gets_there(scenes[way], lab, proxy, method, Trouble(part, FAULTS[fault], number, number))


@pytest.mark.s3
@pytest.mark.nightly
@pytest.mark.parametrize("fault", FAULTS)
def test_rows_that_are_put_back_are_appended_once(
    scenes: dict[str, tuple[Scene, Course]], proxy: Proxy, moto_endpoint: str, fault: str
) -> None:
    lab = behind(scenes["down"][0], proxy, moto_endpoint)
    method, part = WRITES["commit"]
    gets_there(scenes["down"], lab, proxy, method, Trouble(part, FAULTS[fault]))
