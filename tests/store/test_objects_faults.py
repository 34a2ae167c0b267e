"""What happens when a store fails: lost requests, lost answers, refusals, full disks."""

import os
import secrets
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import servers
from filelock import FileLock
from proxy import Exchange, Proxy, answer_lost, answered, broken_off, passed_on, request_lost
from servers import Place

from lancemig.errors import ConfigError, OutcomeUnknown, StoreError
from lancemig.store.objects import ObjectBody, Objects, PreconditionFailed, WriteOk, local, open_objects
from lancemig.store.objects.s3 import PAUSES


class Sleeps(list[float]):
    """Stands for time.sleep: takes no time, and remembers."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@dataclass(frozen=True)
class Stage:
    """One bucket, seen with faults and without; boto3 takes long to set up."""

    place: Place
    proxy: Proxy
    sleeps: Sleeps
    objects: Objects
    direct: Objects


@pytest.fixture(scope="module")
def one_stage(moto_endpoint) -> Iterator[Stage]:
    place, sleeps = servers.bucket_at("moto", moto_endpoint), Sleeps()
    with Proxy.before(moto_endpoint) as proxy:
        objects = open_objects(place.store, {"endpoint": proxy.endpoint}, sleep=sleeps)
        yield Stage(place, proxy, sleeps, objects, open_objects(place.store, place.options))


@pytest.fixture
def stage(one_stage) -> Stage:
    one_stage.direct.delete([each.key for each in one_stage.direct.list("")])
    one_stage.proxy.forget()
    one_stage.sleeps.clear()
    return one_stage


@pytest.fixture
def proxy(stage) -> Proxy:
    return stage.proxy


@pytest.fixture
def sleeps(stage) -> Sleeps:
    return stage.sleeps


@pytest.fixture
def objects(stage) -> Objects:
    return stage.objects


@pytest.fixture
def direct(stage) -> Objects:
    return stage.direct


@pytest.fixture(params=["created", "replaced"])
def expected(request, direct) -> str | None:
    """Each fault is met once by If-None-Match and once by If-Match."""
    if request.param == "created":
        return None
    written = direct.write_if("pointer", b"first", None)
    assert isinstance(written, WriteOk)
    return written.version_token


pytestmark = pytest.mark.s3


# --- a conditional write whose answer is lost, late, or strange


def test_a_landed_write_whose_answer_is_lost_is_written(objects, direct, proxy, expected):
    proxy.on("PUT", answer_lost)
    written = objects.write_if("pointer", b"ours", expected)
    assert isinstance(written, WriteOk)
    assert direct.read("pointer") == ObjectBody(b"ours", written.version_token)
    assert proxy.count("PUT") == 1


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_landed_write_answered_with_a_server_error_is_written(objects, proxy, expected, status):
    proxy.on("PUT", answered(status, "InternalError", landed=True))
    assert isinstance(objects.write_if("pointer", b"ours", expected), WriteOk)
    assert proxy.count("PUT") == 1


def test_a_landed_write_that_something_between_repeats_is_written(objects, proxy, expected):
    proxy.on("PUT", answered(412, "PreconditionFailed", landed=True))
    assert isinstance(objects.write_if("pointer", b"ours", expected), WriteOk)


@pytest.mark.parametrize(
    "fault",
    [
        request_lost,
        answered(503, "SlowDown"),
        answered(409, "ConditionalRequestConflict"),
        answered(400, "RequestTimeout"),
        answered(429, "TooManyRequests"),
    ],
)
def test_a_write_that_never_arrived_is_sent_again(objects, direct, proxy, sleeps, expected, fault):
    proxy.on("PUT", fault, fault)
    written = objects.write_if("pointer", b"ours", expected)
    assert isinstance(written, WriteOk)
    assert direct.read("pointer") == ObjectBody(b"ours", written.version_token)
    assert (proxy.count("PUT"), sleeps) == (3, list(PAUSES[:2]))


def test_a_write_that_lands_after_it_was_looked_for_is_written(objects, direct, proxy, expected):
    held: list[Exchange] = []

    def hold(exchange: Exchange) -> None:
        held.append(exchange)
        exchange.cut()

    def land_after(exchange: Exchange) -> None:
        passed_on(exchange)
        held[0].forward()

    proxy.on("PUT", hold)
    proxy.on("GET", land_after)
    assert isinstance(objects.write_if("pointer", b"ours", expected), WriteOk)
    assert direct.read("pointer").body == b"ours"


def test_a_race_lost_while_the_request_was_lost_is_moved(objects, direct, proxy, expected):
    def others_first(exchange: Exchange) -> None:
        direct.write_if("pointer", b"theirs", expected)
        exchange.cut()

    proxy.on("PUT", others_first)
    moved = objects.write_if("pointer", b"ours", expected)
    assert moved == PreconditionFailed(direct.read("pointer"), answer_lost=True)


def test_a_landed_write_replaced_before_it_was_looked_for_is_moved_and_says_so(
    objects, direct, proxy, expected
):
    def replaced(exchange: Exchange) -> None:
        exchange.forward()
        direct.write_if("pointer", b"theirs", direct.read("pointer").version_token)
        exchange.cut()

    proxy.on("PUT", replaced)
    moved = objects.write_if("pointer", b"ours", expected)
    assert moved == PreconditionFailed(direct.read("pointer"), answer_lost=True)


def test_a_race_plainly_lost_says_that_nothing_of_ours_was_there(objects, direct, expected):
    direct.write_if("pointer", b"theirs", expected)
    assert objects.write_if("pointer", b"ours", expected) == PreconditionFailed(direct.read("pointer"))


def test_a_landed_write_that_cannot_be_read_back_is_unknown(objects, direct, proxy, sleeps, expected):
    proxy.always_on("PUT", answer_lost)
    proxy.always_on("GET", request_lost)
    with pytest.raises(OutcomeUnknown) as unknown:
        objects.write_if("pointer", b"ours", expected)
    assert objects.uri in unknown.value.message
    assert "lancemig status" in (unknown.value.next_step or "")
    assert sleeps == list(PAUSES)
    assert direct.read("pointer").body == b"ours"


def test_a_landed_write_that_may_not_be_read_back_is_unknown_at_once(objects, proxy, sleeps, expected):
    proxy.always_on("PUT", answer_lost)
    proxy.always_on("GET", answered(403, "AccessDenied"))
    with pytest.raises(OutcomeUnknown, match="403 AccessDenied"):
        objects.write_if("pointer", b"ours", expected)
    assert sleeps == []


def test_a_write_that_cannot_be_read_back_for_a_while_is_settled_then(objects, proxy, expected):
    proxy.on("PUT", answer_lost)
    proxy.on("GET", request_lost, answered(503, "SlowDown"))
    assert isinstance(objects.write_if("pointer", b"ours", expected), WriteOk)


def test_a_write_that_never_seems_to_arrive_is_unknown(objects, proxy, sleeps, expected):
    proxy.always_on("PUT", request_lost)
    with pytest.raises(OutcomeUnknown):
        objects.write_if("pointer", b"ours", expected)
    assert (proxy.count("PUT"), sleeps) == (len(PAUSES) + 1, list(PAUSES))


def test_a_refusal_after_a_lost_answer_is_unknown(objects, proxy, expected):
    proxy.on("PUT", request_lost, answered(403, "ExpiredToken"))
    with pytest.raises(OutcomeUnknown, match="403 ExpiredToken"):
        objects.write_if("pointer", b"ours", expected)


def test_a_server_that_refuses_every_condition_is_named(objects, proxy, expected):
    proxy.always_on("PUT", answered(412, "PreconditionFailed"))
    with pytest.raises(StoreError) as refused:
        objects.write_if("pointer", b"ours", expected)
    assert refused.value.next_step == "lancemig doctor"


# --- refusals


@pytest.mark.parametrize(
    ("status", "code", "next_step"),
    [
        (403, "AccessDenied", "credentials"),
        (404, "NoSuchBucket", "create the bucket"),
        (400, "InvalidRequest", "lancemig doctor"),
        (501, "NotImplemented", "lancemig doctor"),
    ],
)
def test_a_refused_write_names_the_object_and_the_status(objects, proxy, expected, status, code, next_step):
    proxy.on("PUT", answered(status, code))
    with pytest.raises(StoreError) as refused:
        objects.write_if("pointer", b"ours", expected)
    assert refused.value.message == f"cannot write {objects.uri}/pointer: HTTP {status} {code}"
    assert next_step in (refused.value.next_step or "")
    assert proxy.count("PUT") == 1


@pytest.mark.parametrize(
    ("status", "code", "next_step"),
    [
        (403, "AccessDenied", "credentials"),
        (404, "NoSuchBucket", "create the bucket"),
        (500, "InternalError", "again later"),
    ],
)
def test_whatever_else_is_refused_names_the_object_and_the_status(
    objects, direct, proxy, status, code, next_step
):
    direct.write_if("a/1", b"there", None)
    attempts = {
        "GET": (lambda: objects.read("a/1"), lambda: list(objects.list("a")), lambda: objects.folders("a")),
        "POST": (lambda: objects.delete(["a/1"]),),
        "PUT": (lambda: objects.copy([("a/1", "a/2")]),),
    }
    for method, operations in attempts.items():
        proxy.always_on(method, answered(status, code))
        for operation in operations:
            with pytest.raises(StoreError) as refused:
                operation()
            assert objects.uri in refused.value.message
            assert f"HTTP {status} {code}" in refused.value.message
            assert next_step in (refused.value.next_step or "")
        proxy.always_on(method, passed_on)


def test_a_read_that_breaks_off_is_asked_for_again(objects, direct, proxy):
    direct.write_if("a", b"12345678", None)
    proxy.on("GET", broken_off, broken_off)
    assert objects.read("a").body == b"12345678"
    proxy.always_on("GET", broken_off)
    with pytest.raises(StoreError, match="no response"):
        objects.read("a")


def test_a_list_whose_second_page_fails_is_no_list(objects, direct, proxy):
    direct.write_if("a/1", b"x", None)
    truncated = (
        b"<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
        b"<Contents><Key>a/1</Key><Size>1</Size><ETag>x</ETag>"
        b"<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents></ListBucketResult>"
    )

    def first_of_two(exchange: Exchange) -> None:
        exchange.answer(replace(exchange.forward(), status=200, body=truncated))

    proxy.on("GET", first_of_two, answered(403, "AccessDenied"))
    with pytest.raises(StoreError):
        list(objects.list("a"))


def test_a_copy_stops_at_the_first_that_fails(objects, direct, proxy):
    direct.write_if("a/1", b"there", None)
    proxy.always_on("PUT", answered(403, "AccessDenied"))
    told: list[int] = []
    with pytest.raises(StoreError, match="cannot copy"):
        objects.copy([("a/1", f"b/{n}") for n in range(1000)], told.append)
    assert told == []
    assert proxy.count("PUT") < 500


def test_a_copy_of_what_is_not_there_is_refused_before_the_first(objects, direct, proxy):
    direct.write_if("a/1", b"there", None)
    with pytest.raises(StoreError, match="a/missing: the object does not exist"):
        objects.copy([("a/1", "b/1"), ("a/missing", "b/2")])
    assert proxy.count("PUT") == 0


def test_a_copy_moves_no_bytes_through_the_client(objects, direct, proxy):
    direct.write_if("a/1", secrets.token_bytes(1 << 20), None)
    objects.copy([("a/1", "b/1")])
    assert all(not exchange.body for exchange in proxy.asked)
    assert not any(exchange.path.endswith("a/1") and exchange.method == "GET" for exchange in proxy.asked)


# --- opening


@pytest.mark.parametrize("server", ["moto_endpoint", "seaweedfs_endpoint"])
def test_a_bucket_that_does_not_exist_is_refused(server, request):
    with pytest.raises(StoreError, match="s3://no-such-bucket: HTTP 404 NoSuchBucket") as refused:
        open_objects("s3://no-such-bucket", {"endpoint": request.getfixturevalue(server)})
    assert "create the bucket" in (refused.value.next_step or "")


def test_wrong_credentials_are_refused(seaweedfs_place, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-and-never-shown")
    with pytest.raises(StoreError, match="HTTP 403 SignatureDoesNotMatch") as refused:
        open_objects(seaweedfs_place.store, seaweedfs_place.options)
    assert "credentials" in (refused.value.next_step or "")


def test_a_server_that_does_not_answer_is_named(s3_place):
    (port,) = servers.free_ports(1)
    with pytest.raises(StoreError, match=r"no response \(EndpointConnectionError\)") as refused:
        open_objects(s3_place.store, {"endpoint": f"http://127.0.0.1:{port}"})
    assert "storage_options.endpoint" in (refused.value.next_step or "")


def test_no_credentials_are_refused(s3_place, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreError, match="no AWS credentials"):
        open_objects(s3_place.store, s3_place.options)


def test_a_profile_that_does_not_exist_is_named(s3_place):
    with pytest.raises(ConfigError, match="nobody"):
        open_objects(s3_place.store, {**s3_place.options, "profile": "nobody"})


@pytest.mark.parametrize(
    ("store", "options", "kind"),
    [("s3://Not A Bucket", {}, ConfigError), ("s3://b", {"region": "no region"}, StoreError)],
)
def test_what_no_server_would_take_is_named(store, options, kind, s3_place):
    with pytest.raises(kind, match=r"(?i)bucket|region") as refused:
        open_objects(store, {**s3_place.options, **options})
    assert "lancemig.ini" in (refused.value.next_step or "")


# --- secrets


def test_no_secret_is_ever_shown(objects, direct, proxy):
    direct.write_if("a/1", b"there", None)
    shown = [repr(objects), str(objects), repr(vars(objects)), repr(direct)]
    for method in ("GET", "PUT", "POST"):
        proxy.always_on(method, answered(403, "SignatureDoesNotMatch"))
    for operation in (
        lambda: objects.read("a/1"),
        lambda: objects.write_if("a/2", b"x", None),
        lambda: list(objects.list("")),
        lambda: objects.folders(""),
        lambda: objects.delete(["a/1"]),
        lambda: objects.copy([("a/1", "a/2")]),
    ):
        with pytest.raises(StoreError) as refused:
            operation()
        shown.append("".join(traceback.format_exception(refused.value)))
    assert objects.lance_options()["aws_secret_access_key"] == servers.SECRET_KEY
    assert not [text for text in shown if servers.SECRET_KEY in text]


# --- a directory


def run_with_little_room(program: str, *arguments: str) -> str:
    """Run a program that cannot write a file above 64 KiB: the nearest to a full disk without root."""
    little = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, 64 << 10))"
    opens = "from lancemig.store.objects import open_objects"
    ran = subprocess.run(
        [sys.executable, "-c", f"{little}\n{opens}\n{program}", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.stderr


def files_below(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_a_disk_that_is_full_leaves_the_old_file(local_place):
    objects = open_objects(local_place.store, {})
    objects.write_if("a/pointer", b"first", None)
    said = run_with_little_room(
        "import sys; objects = open_objects(sys.argv[1], {})\n"
        "objects.write_if('a/pointer', bytes(1 << 20), objects.read('a/pointer').version_token)",
        local_place.store,
    )
    root = Path(local_place.store)
    assert f"StoreError: cannot write {root / 'a/pointer'}: File too large" in said
    assert files_below(root) == [".lancemig/lock", "a/pointer"]
    assert objects.read("a/pointer").body == b"first"


def test_a_file_half_copied_never_has_its_final_name(local_place):
    root = Path(local_place.store)
    (root / "_versions").mkdir()
    (root / "_versions" / "1.manifest").write_bytes(bytes(1 << 20))
    said = run_with_little_room(
        "import sys; open_objects(sys.argv[1], {}).copy([('_versions/1.manifest', 'b/1.manifest')])",
        local_place.store,
    )
    assert "StoreError: cannot copy" in said
    assert files_below(root) == ["_versions/1.manifest"]


@contextmanager
def without_rights(folder: Path) -> Iterator[None]:
    """Take this process the right to write, also where it is root."""
    folder.chmod(0o555)
    is_root = os.geteuid() == 0
    try:
        if is_root:
            os.seteuid(65534)
        yield
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(0o755)


def test_a_directory_one_may_not_write_names_the_path():
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "a").write_bytes(b"there")
        objects = open_objects(name, {})
        with without_rights(root):
            for operation in (
                lambda: objects.write_if("b", b"x", None),
                lambda: objects.delete(["a"]),
                lambda: objects.copy([("a", "b")]),
            ):
                with pytest.raises(StoreError, match="Permission denied") as refused:
                    operation()
                assert name in refused.value.message
                assert "permission" in (refused.value.next_step or "")
            assert objects.read("a").body == b"there"


def test_a_file_where_a_folder_should_be_names_the_path(local_place):
    objects = open_objects(local_place.store, {})
    objects.write_if("a", b"x", None)
    for operation in (lambda: objects.write_if("a/b", b"x", None), lambda: objects.copy([("a", "a/b")])):
        with pytest.raises(StoreError, match="a/b"):
            operation()


def test_a_copy_onto_another_disk_is_a_copy(local_place):
    root = Path(local_place.store)
    disks = (disk for disk in ("/dev/shm", "/tmp", "/var/tmp") if Path(disk).is_dir())  # noqa: S108
    other = next((disk for disk in disks if Path(disk).stat().st_dev != root.stat().st_dev), None)
    assert other, "needs two file systems"
    with tempfile.TemporaryDirectory(dir=other) as elsewhere:
        (root / "other").symlink_to(elsewhere)
        objects = open_objects(local_place.store, {})
        objects.write_if("data/1", b"there", None)
        objects.copy([("data/1", "other/1")])
        assert (objects.read("other/1").body, (root / "other/1").stat().st_nlink) == (b"there", 1)


def test_a_copy_of_a_file_that_is_not_there_is_refused(local_place):
    with pytest.raises(StoreError, match="data/1"):
        open_objects(local_place.store, {}).copy([("data/1", "data/2")])


def test_a_lock_that_is_never_released_is_named(local_place, monkeypatch):
    monkeypatch.setattr(local, "LOCK_PATIENCE", 0.05)
    objects = open_objects(local_place.store, {})
    objects.write_if("a", b"x", None)
    lock = Path(local_place.store) / ".lancemig" / "lock"
    with FileLock(lock), pytest.raises(StoreError, match="held by another process") as refused:
        objects.write_if("b", b"x", None)
    assert str(lock) in (refused.value.next_step or "")


def test_a_directory_whose_parent_does_not_exist_is_refused(tmp_path):
    with pytest.raises(StoreError) as refused:
        open_objects(str(tmp_path / "not-mounted" / "store"), {})
    assert refused.value.next_step == f"mkdir -p {tmp_path / 'not-mounted'}"


def test_a_directory_that_does_not_exist_yet_is_made_by_the_first_write(tmp_path):
    objects = open_objects(str(tmp_path / "store"), {})
    assert objects.read("pointer") is None
    assert list(objects.list("")) == []
    assert not (tmp_path / "store").exists()
    assert isinstance(objects.write_if("pointer", b"{}", None), WriteOk)
    assert (tmp_path / "store" / "pointer").read_bytes() == b"{}"
