"""The promises of Objects, kept alike by a directory, a mock and a real S3 server."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier

import boto3
import pytest
import servers
from moto import mock_aws

from lancemig.errors import ConfigError
from lancemig.store.objects import ObjectBody, ObjectInfo, Objects, PreconditionFailed, WriteOk, open_objects
from lancemig.store.objects.location import Bucket, S3Options, location
from lancemig.store.objects.s3 import open_bucket
from lancemig.store.objects.s3_client import Access

RACERS = 16


@pytest.fixture(scope="module", params=servers.PLACES)
def opened(request, new_place) -> Objects:
    place = new_place(request.param)
    return open_objects(place.store, place.options)


@pytest.fixture
def objects(opened) -> Objects:
    opened.delete([each.key for each in opened.list("")])
    return opened


def put(objects: Objects, *keys: str, body: bytes = b"body") -> None:
    for key in keys:
        assert isinstance(objects.write_if(key, body, None), WriteOk)


def found(objects: Objects, key: str) -> ObjectBody:
    there = objects.read(key)
    assert there is not None
    return there


def keys(objects: Objects, prefix: str = "") -> list[str]:
    return sorted(each.key for each in objects.list(prefix))


# --- read and write_if


def test_what_was_written_is_read(objects):
    written = objects.write_if("ursa/ACTIVE.json", b'{"format": 1}', None)
    assert objects.read("ursa/ACTIVE.json") == ObjectBody(b'{"format": 1}', written.version_token)


@pytest.mark.parametrize("key", ["missing", "missing/deeper", "a/b/below-an-object", "a"])
def test_what_is_not_there_reads_as_none(objects, key):
    put(objects, "a/b")
    assert objects.read(key) is None


def test_an_object_is_created_once(objects):
    put(objects, "pointer", body=b"first")
    assert objects.write_if("pointer", b"second", None) == PreconditionFailed(found(objects, "pointer"))
    assert found(objects, "pointer").body == b"first"


def test_an_object_is_replaced_by_who_read_it_last(objects):
    put(objects, "pointer", body=b"first")
    first = found(objects, "pointer")
    assert isinstance(objects.write_if("pointer", b"second", first.version_token), WriteOk)
    assert objects.write_if("pointer", b"third", first.version_token) == PreconditionFailed(
        found(objects, "pointer")
    )
    assert found(objects, "pointer").body == b"second"


def test_an_object_expected_but_gone_is_moved(objects):
    put(objects, "pointer")
    etag = found(objects, "pointer").version_token
    objects.delete(["pointer"])
    assert objects.write_if("pointer", b"again", etag) == PreconditionFailed(None)
    assert objects.read("pointer") is None


def test_an_etag_serves_without_its_quotes_too(objects):
    put(objects, "pointer", body=b"first")
    bare = found(objects, "pointer").version_token.strip('"')
    assert isinstance(objects.write_if("pointer", b"second", bare), WriteOk)


def test_the_same_write_asked_for_twice_is_written_once_and_said_so_twice(objects):
    put(objects, "pointer", body=b"first")
    etag = found(objects, "pointer").version_token
    once = objects.write_if("pointer", b"second", etag)
    assert objects.write_if("pointer", b"second", etag) == once


def test_an_empty_body_and_a_large_one_are_kept(objects):
    large = os.urandom(3 << 20)
    put(objects, "empty", body=b"")
    put(objects, "large", body=large)
    assert (found(objects, "empty").body, found(objects, "large").body) == (b"", large)


def test_of_many_writers_one_wins_every_round(objects):
    def race(expected: str | None, round_: int) -> list[WriteOk | PreconditionFailed]:
        start = Barrier(RACERS)

        def run(racer: int) -> WriteOk | PreconditionFailed:
            start.wait()
            return objects.write_if("pointer", b"round %d racer %d" % (round_, racer), expected)

        with ThreadPoolExecutor(RACERS) as pool:
            return list(pool.map(run, range(RACERS)))

    etag = None
    for round_ in range(2):
        told = race(etag, round_)
        (winner,) = [racer for racer, outcome in enumerate(told) if isinstance(outcome, WriteOk)]
        now = found(objects, "pointer")
        assert now == ObjectBody(b"round %d racer %d" % (round_, winner), told[winner].version_token)
        assert {outcome for outcome in told if isinstance(outcome, PreconditionFailed)} == {
            PreconditionFailed(now)
        }
        etag = now.version_token


def test_processes_race_for_a_directory_as_threads_do(local_place):
    program = """if True:
        import sys
        from lancemig.store.objects import WriteOk, open_objects
        objects, won = open_objects(sys.argv[1], {}), 0
        for turn in range(100):
            won += isinstance(objects.write_if(str(turn), sys.argv[2].encode(), None), WriteOk)
        print(won)
    """
    running = [
        subprocess.Popen([sys.executable, "-c", program, local_place.store, name], stdout=subprocess.PIPE)
        for name in ("one", "two", "three")
    ]
    assert sum(int(each.communicate(timeout=60)[0]) for each in running) == 100


# --- list, folders, delete


def test_a_prefix_names_a_folder(objects):
    put(objects, "a/b/1", "a/b/c/2", "a/bc/3", "a/b-4", "d")
    assert keys(objects, "a/b") == keys(objects, "a/b/") == ["a/b/1", "a/b/c/2"]
    assert keys(objects) == ["a/b-4", "a/b/1", "a/b/c/2", "a/bc/3", "d"]
    assert keys(objects, "d") == keys(objects, "nothing/there") == []


def test_what_is_listed_has_its_size(objects):
    put(objects, "a/empty", body=b"")
    put(objects, "a/full", body=b"12345")
    assert sorted(objects.list("a"), key=lambda each: each.key) == [
        ObjectInfo("a/empty", 0),
        ObjectInfo("a/full", 5),
    ]


def test_folders_are_the_next_names_only(objects):
    put(objects, "v1/catalog/r.lance/data/1", "v1/catalog/e.lance/data/1", "v1/catalog/file", "v2/x")
    assert objects.folders("") == ["v1", "v2"]
    assert objects.folders("v1/catalog/") == ["e.lance", "r.lance"]
    assert objects.folders("v1/catalog/file") == objects.folders("nothing") == []


def test_odd_names_come_back_as_they_are(objects):
    odd = ["a b/c", "a%20b/c", "a-", "a/1", "ü/ß", "plus+and&<'\"=#?/x", "~$@,;:!()[]"]
    put(objects, *odd)
    assert keys(objects) == sorted(odd)
    objects.copy([(key, f"copy/{key}") for key in odd])
    assert keys(objects, "copy") == sorted(f"copy/{key}" for key in odd)
    objects.delete(keys(objects))
    assert keys(objects) == []


def test_what_is_deleted_leaves_no_folder(objects):
    put(objects, "old/t.lance/data/1", "old/t.lance/data/2", "new/t.lance/data/1")
    objects.delete([*keys(objects, "old"), "old/never", "never/there"])
    objects.delete([])
    assert keys(objects) == ["new/t.lance/data/1"]
    assert objects.folders("") == ["new"]


@pytest.mark.s3
def test_every_page_is_listed_copied_and_deleted(seaweedfs_place):
    objects = open_objects(seaweedfs_place.store, seaweedfs_place.options)
    put(objects, "seed")
    wanted = [f"many/{n:05}" for n in range(1100)]
    objects.copy([("seed", key) for key in wanted])
    assert keys(objects, "many") == wanted
    objects.delete(wanted)
    assert keys(objects) == ["seed"]


@pytest.mark.s3
@pytest.mark.parametrize("server", ["moto", "seaweedfs"])
def test_markers_of_empty_folders_are_no_objects(server, new_place):
    place = new_place(server)
    s3 = servers.client(place.options["endpoint"])
    for marker in ("a/", "a/b/", "empty/"):
        s3.put_object(Bucket=place.store.removeprefix("s3://"), Key=marker, Body=b"")
    objects = open_objects(place.store, place.options)
    put(objects, "a/b/1")
    put(objects, "a/b/nothing", body=b"")
    assert keys(objects) == ["a/b/1", "a/b/nothing"]
    assert (objects.folders(""), objects.folders("a")) == (["a"], ["b"])


# --- copy


def test_a_table_is_copied_file_by_file(objects):
    table = [f"old/t.lance/{name}" for name in ("data/1.lance", "_versions/1.manifest", "_refs/b.json")]
    for key in table:
        put(objects, key, body=key.encode())
    told: list[int] = []
    objects.copy([(key, key.replace("old", "new")) for key in table], told.append)
    assert told == [1, 2, 3]
    assert [found(objects, key.replace("old", "new")).body for key in table] == [
        key.encode() for key in table
    ]


def test_a_copy_asked_for_twice_replaces_what_differs(objects):
    put(objects, "source/data/1", body=b"whole")
    put(objects, "copy/data/1", body=b"ha")
    for _ in range(2):
        objects.copy([("source/data/1", "copy/data/1")])
        assert found(objects, "copy/data/1").body == b"whole"
    objects.copy([])


def test_many_objects_are_copied(objects):
    put(objects, *(f"source/{n}" for n in range(100)))
    objects.copy([(f"source/{n}", f"copy/{n}") for n in range(100)])
    assert len(keys(objects, "copy")) == 100


def test_a_copy_outlives_its_source(objects):
    put(objects, "source/data/1", body=b"whole")
    objects.copy([("source/data/1", "copy/data/1")])
    objects.delete(["source/data/1"])
    assert found(objects, "copy/data/1").body == b"whole"


@pytest.mark.s3
@pytest.mark.parametrize("server", ["moto", "seaweedfs"])
def test_what_is_too_large_for_one_copy_is_copied_in_parts(server, new_place):
    place = new_place(server)
    bucket = location(place.store)
    assert isinstance(bucket, Bucket)
    objects = open_bucket(
        bucket, S3Options.read(place.options), sleep=lambda _: None, multipart_above=5 << 20
    )
    body = os.urandom(11 << 20)
    put(objects, "source", body=body)
    objects.copy([("source", "copy")])
    copy = found(objects, "copy")
    assert copy.body == body
    assert copy.version_token.strip('"').endswith("-3"), "not an object of three parts"


# --- keys, stores and options


@pytest.mark.parametrize(
    "key", ["", "/", "/etc/passwd", "..", "../x", "a/../../x", "a//b", "a/", "./a", "a\0", ".lancemig/lock"]
)
def test_a_key_that_leaves_the_store_is_refused(local_place, key):
    objects = open_objects(local_place.store, {})
    attempts: list[Callable[[], object]] = [
        lambda: objects.read(key),
        lambda: objects.write_if(key, b"", None),
        lambda: objects.delete([key]),
        lambda: objects.copy([("a", key)]),
        lambda: objects.copy([(key, "a")]),
    ]
    for attempt in attempts:
        with pytest.raises(ConfigError, match="not a valid key inside the store"):
            attempt()


@pytest.mark.parametrize("prefix", ["/", "//", "/etc", "..", "a/..", "a//", "."])
def test_a_prefix_that_leaves_the_store_is_refused(local_place, prefix):
    objects = open_objects(local_place.store, {})
    with pytest.raises(ConfigError):
        objects.folders(prefix)
    with pytest.raises(ConfigError):
        list(objects.list(prefix))


@pytest.mark.s3
def test_a_key_that_leaves_a_bucket_is_refused(s3_place):
    objects = open_objects(f"{s3_place.store}/sub", s3_place.options)
    for attempt in (objects.read, objects.folders):
        with pytest.raises(ConfigError, match="not a valid key inside the store"):
            attempt("../other")


@pytest.mark.s3
def test_a_store_below_a_prefix_sees_nothing_else(s3_place):
    whole = open_objects(s3_place.store, s3_place.options)
    part = open_objects(f"{s3_place.store}/sub/prefix/", s3_place.options)
    put(part, "a/1")
    put(whole, "sub/prefix-not/2")
    part.copy([("a/1", "b/1")])
    assert (keys(part), part.folders("")) == (["a/1", "b/1"], ["a", "b"])
    assert keys(whole, "sub/prefix") == ["sub/prefix/a/1", "sub/prefix/b/1"]
    assert part.uri == f"{s3_place.store}/sub/prefix"


@pytest.mark.parametrize("spelling", ["{}", "{}/", "file://{}", "file://localhost{}", "{}/sub/.."])
def test_a_directory_is_opened_by_any_of_its_names(local_place, spelling):
    assert open_objects(spelling.format(local_place.store), {}).uri == local_place.store


def test_a_directory_needs_no_options_for_lance(local_place):
    assert open_objects(local_place.store, {}).lance_options() == {}


@pytest.mark.parametrize("store", ["", "s3://", "gs://bucket", "az://c/x", "file://host/path", "s3://b/../x"])
def test_another_kind_of_store_is_refused(store):
    with pytest.raises(ConfigError):
        open_objects(store, {})


def test_an_unknown_option_is_named(local_place):
    with pytest.raises(ConfigError, match=r"storage_options\.secret_key"):
        open_objects(local_place.store, {"secret_key": "x"})


@pytest.mark.parametrize(
    "options",
    [
        {"path_style": "perhaps"},
        {"endpoint": "localhost:9000"},
        {"endpoint": "ftp://host"},
        {"endpoint": "http://user:password@host"},
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options):
    with pytest.raises(ConfigError) as refused:
        open_objects("s3://bucket", options)
    assert next(iter(options)) in str(refused.value)
    assert "password@" not in str(refused.value)


def test_an_empty_option_counts_as_not_given():
    assert S3Options.read({"endpoint": "", "region": " "}) == S3Options()


# --- what Lance is told


@pytest.mark.s3
def test_lance_is_told_what_was_resolved(s3_place, monkeypatch):
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    endpoint = s3_place.options["endpoint"]
    assert open_objects(s3_place.store, s3_place.options).lance_options() == {
        "aws_access_key_id": servers.ACCESS_KEY,
        "aws_secret_access_key": servers.SECRET_KEY,
        "aws_session_token": "token",
        "aws_region": "us-east-1",
        "aws_endpoint": endpoint,
        "aws_endpoint_url_s3": endpoint,
        "allow_http": "true",
        "aws_virtual_hosted_style_request": "false",
    }


@pytest.mark.s3
def test_a_profile_and_its_endpoint_are_found(s3_place, monkeypatch, tmp_path):
    config = tmp_path / "config"
    config.write_text(
        "[profile team]\nregion = eu-west-1\naws_access_key_id = theirs\naws_secret_access_key = also\n"
        f"endpoint_url = {s3_place.options['endpoint']}\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    objects = open_objects(s3_place.store, {"profile": "team"})
    put(objects, "a/1")
    assert keys(objects) == ["a/1"]
    told = objects.lance_options()
    assert (told["aws_access_key_id"], told["aws_region"]) == ("theirs", "eu-west-1")
    assert told["aws_endpoint"] == s3_place.options["endpoint"]


@pytest.mark.s3
def test_a_session_token_of_other_credentials_is_not_mixed_in(s3_place, monkeypatch, tmp_path):
    config = tmp_path / "config"
    config.write_text("[profile team]\naws_access_key_id = theirs\naws_secret_access_key = also\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SESSION_TOKEN", "ours")
    objects = open_objects(s3_place.store, {**s3_place.options, "profile": "team"})
    with pytest.raises(ConfigError, match="AWS_SESSION_TOKEN"):
        objects.lance_options()


@pytest.mark.s3
def test_the_endpoint_in_the_ini_wins_over_the_environment(s3_place, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    objects = open_objects(s3_place.store, s3_place.options)
    put(objects, "a/1")
    objects.copy([("a/1", "a/2")])
    assert keys(objects) == ["a/1", "a/2"]


@pytest.mark.s3
@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"])
def test_an_endpoint_only_in_the_environment_serves(s3_place, monkeypatch, variable):
    monkeypatch.setenv(variable, s3_place.options["endpoint"])
    objects = open_objects(s3_place.store, {})
    put(objects, "a/1")
    assert keys(objects) == ["a/1"]
    assert objects.lance_options()["aws_endpoint"] == s3_place.options["endpoint"]


@pytest.mark.slow
def test_the_region_of_a_bucket_on_aws_is_its_own():
    with aws():
        elsewhere = {"LocationConstraint": "eu-west-1"}
        boto3.client("s3", region_name="eu-west-1").create_bucket(
            Bucket="in-ireland", CreateBucketConfiguration=elsewhere
        )
        access = Access.to(Bucket("in-ireland", ""), S3Options())
        assert (access.endpoint, access.region, access.path_style) == (None, "eu-west-1", False)
        assert "aws_endpoint" not in access.lance_options()
        with_a_dot = Access.to(Bucket("in-ireland", ""), S3Options(path_style=True))
        assert with_a_dot.lance_options()["aws_virtual_hosted_style_request"] == "false"


@contextmanager
def aws() -> Iterator[None]:
    """What moto takes for AWS itself, beside its server: the two share their buckets."""
    mock = mock_aws()
    mock.start(reset=False)
    try:
        yield
    finally:
        mock.stop(remove_data=False)


def test_a_bucket_that_is_a_host_is_part_of_the_endpoint_for_lance():
    access = Access(boto3.Session(), "bucket", "https://s3.example.org:9000", "auto", path_style=False)
    told = access.lance_options()
    assert told["aws_endpoint"] == "https://bucket.s3.example.org:9000"
    assert (told["allow_http"], told["aws_virtual_hosted_style_request"]) == ("false", "true")


# --- a directory's own matters


def test_large_files_are_linked_and_manifests_copied(local_place):
    objects = open_objects(local_place.store, {})
    put(objects, "old/t.lance/data/1.lance", "old/t.lance/_versions/1.manifest", "old/t.lance/_refs/x.json")
    objects.copy([(key, key.replace("old", "new")) for key in keys(objects)])
    root = Path(local_place.store)
    linked = {key: (root / key).stat().st_nlink for key in keys(objects, "new")}
    assert linked == {
        "new/t.lance/data/1.lance": 2,
        "new/t.lance/_versions/1.manifest": 1,
        "new/t.lance/_refs/x.json": 1,
    }


def test_a_lock_and_leftovers_are_never_listed_and_go_with_their_folder(local_place):
    objects = open_objects(local_place.store, {})
    put(objects, "a/1")
    root = Path(local_place.store)
    (root / "a" / ".0123456789abcdef.lancemig-tmp").write_bytes(b"half")
    assert (root / ".lancemig" / "lock").exists()
    assert (keys(objects), objects.folders("")) == (["a/1"], ["a"])
    objects.delete(["a/1"])
    assert [path.name for path in root.iterdir()] == [".lancemig"]


def test_a_linked_folder_is_followed_as_lance_does(local_place, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "1").write_bytes(b"there")
    (Path(local_place.store) / "linked").symlink_to(elsewhere)
    objects = open_objects(local_place.store, {})
    assert keys(objects) == ["linked/1"]
    objects.copy([("linked/1", "here/1")])
    assert found(objects, "here/1").body == b"there"


def test_a_file_is_as_readable_as_the_umask_says(local_place):
    before = os.umask(0o022)
    try:
        put(open_objects(local_place.store, {}), "a/1")
    finally:
        os.umask(before)
    assert (Path(local_place.store) / "a/1").stat().st_mode & 0o777 == 0o644


def test_opening_a_directory_loads_no_aws_library(local_place):
    program = (
        "import sys; from lancemig.store.objects import open_objects; open_objects(sys.argv[1], {});"
        "print([name for name in ('boto3', 'botocore', 'obstore', 'lance') if name in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, local_place.store], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"
