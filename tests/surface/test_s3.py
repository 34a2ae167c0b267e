"""What lancemig relies on in boto3, obstore, Lance and S3 servers; each test pins one fact."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import boto3
import lance
import obstore
import pytest
import servers
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError
from obstore.store import S3Store
from proxy import Proxy, answer_lost, answered, request_lost
from servers import Place

pytestmark = pytest.mark.s3

SERVERS = ["moto", "seaweedfs"]
RACERS = 16


class Bucket:
    """A bucket through plain boto3, one attempt a request, and through plain obstore."""

    def __init__(self, place: Place, endpoint: str, **retries: object) -> None:
        self.name = place.store.removeprefix("s3://")
        self.endpoint = endpoint
        self.client = servers.client(endpoint, **retries)

    def put(self, key: str, body: bytes = b"body", **condition: str) -> str:
        return self.client.put_object(Bucket=self.name, Key=key, Body=body, **condition)["ETag"]

    def get(self, key: str) -> bytes:
        return self.client.get_object(Bucket=self.name, Key=key)["Body"].read()

    def keys(self, prefix: str = "") -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return [found["Key"] for page in pages for found in page.get("Contents", [])]

    def obstore(self, **config: Any) -> S3Store:
        credentials = {"access_key_id": servers.ACCESS_KEY, "secret_access_key": servers.SECRET_KEY}
        return S3Store(
            self.name,
            config={**credentials, "endpoint": self.endpoint, "region": servers.REGION, **config},
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},
        )


@pytest.fixture(params=SERVERS)
def bucket(request, new_place) -> Bucket:
    place = new_place(request.param)
    return Bucket(place, place.options["endpoint"])


def status_of(error: pytest.ExceptionInfo[ClientError]) -> int:
    return error.value.response["ResponseMetadata"]["HTTPStatusCode"]


# --- conditional writes


def test_an_object_exists_once_and_changes_only_as_expected(bucket):
    first = bucket.put("key", b"first", IfNoneMatch="*")
    with pytest.raises(ClientError) as refused:
        bucket.put("key", b"again", IfNoneMatch="*")
    assert status_of(refused) == 412
    assert first.startswith('"'), "quoted as received"
    bucket.put("key", b"second", IfMatch=first)
    with pytest.raises(ClientError) as refused:
        bucket.put("key", b"third", IfMatch=first)
    assert status_of(refused) == 412
    assert bucket.get("key") == b"second"


def test_of_sixteen_racers_one_wins(bucket):
    races = [("new", {"IfNoneMatch": "*"}), ("old", {"IfMatch": bucket.put("old")})]
    start = Barrier(len(races) * RACERS)

    def run(key: str, condition: dict[str, str], racer: int) -> int:
        start.wait()
        try:
            bucket.put(key, b"racer %d" % racer, **condition)
        except ClientError as error:
            return error.response["ResponseMetadata"]["HTTPStatusCode"]
        return 200

    # Both races at once: a loser on SeaweedFS may wait for seconds.
    with ThreadPoolExecutor(len(races) * RACERS) as pool:
        running = {
            key: [pool.submit(run, key, condition, n) for n in range(RACERS)] for key, condition in races
        }
    for key, racers in running.items():
        told = [racer.result() for racer in racers]
        assert told.count(200) == 1
        assert set(told) <= {200, 409, 412}
        assert bucket.get(key) == b"racer %d" % told.index(200)


def test_if_match_on_a_missing_key_is_412_or_404(bucket):
    with pytest.raises(ClientError) as refused:
        bucket.put("missing", IfMatch='"0cc175b9c0f1b6a831c399e269772661"')
    assert status_of(refused) in (404, 412)
    assert bucket.keys() == []


@pytest.mark.parametrize("retries", [{"mode": "legacy", "total_max_attempts": 5}, {"total_max_attempts": 3}])
@pytest.mark.parametrize("condition", ["none", "match"])
def test_a_retry_fails_on_our_own_write(s3_place, proxy, retries, condition):
    bucket = Bucket(s3_place, proxy.endpoint, **retries)
    expected = {"IfNoneMatch": "*"} if condition == "none" else {"IfMatch": bucket.put("key")}
    proxy.on("PUT", answer_lost)
    with pytest.raises(ClientError) as refused:
        bucket.put("key", b"ours", **expected)
    assert status_of(refused) == 412
    assert bucket.get("key") == b"ours"


def test_boto3_retries_unless_told_otherwise(s3_place, proxy):
    by_default = boto3.client("s3", endpoint_url=proxy.endpoint, region_name=servers.REGION, config=Config())
    proxy.on("PUT", answer_lost)
    with pytest.raises(ClientError):
        by_default.put_object(
            Bucket=s3_place.store.removeprefix("s3://"), Key="key", Body=b"ours", IfNoneMatch="*"
        )


def test_with_one_attempt_a_lost_answer_is_a_connection_error(s3_place, proxy):
    bucket = Bucket(s3_place, proxy.endpoint)
    proxy.on("PUT", answer_lost, request_lost)
    with pytest.raises(ConnectionClosedError):
        bucket.put("key", b"ours", IfNoneMatch="*")
    assert bucket.get("key") == b"ours"
    with pytest.raises(ConnectionClosedError):
        bucket.put("other", b"ours", IfNoneMatch="*")
    assert bucket.keys() == ["key"]
    assert proxy.count("PUT") == 2


# --- obstore: list, copy, delete


def test_a_list_is_complete_though_not_always_in_byte_order(bucket):
    odd = ["a/1", "a/2", "a b", "a-", "a.lance/x", "a0", "z"]
    for key in odd:
        bucket.put(key)
    listed = [found["path"] for page in obstore.list(bucket.obstore()) for found in page]
    assert sorted(listed) == sorted(odd)


def test_the_order_of_seaweedfs_is_not_byte_order(seaweedfs_place):
    bucket = Bucket(seaweedfs_place, seaweedfs_place.options["endpoint"])
    for key in ("a b", "a-", "a/1"):
        bucket.put(key)
    assert bucket.keys() != sorted(bucket.keys())


def test_obstore_lists_a_folder_marker_as_an_object(bucket):
    bucket.client.put_object(Bucket=bucket.name, Key="marker/", Body=b"")
    store = bucket.obstore()
    (found,) = (found for page in obstore.list(store) for found in page)
    assert (found["path"], found["size"]) == ("marker", 0)
    with pytest.raises(FileNotFoundError):
        obstore.head(store, "marker")
    with pytest.raises(FileNotFoundError):
        obstore.copy(store, "marker", "copy")


def test_a_folder_marker_makes_a_folder_that_holds_nothing_else(bucket):
    bucket.client.put_object(Bucket=bucket.name, Key="marker/", Body=b"")
    store = bucket.obstore()
    assert obstore.list_with_delimiter(store)["common_prefixes"] == ["marker"]
    assert [found["path"] for page in obstore.list(store, "marker") for found in page] == ["marker"]


def test_a_copy_is_made_by_the_server_and_overwrites(s3_place, proxy):
    bucket = Bucket(s3_place, proxy.endpoint)
    bucket.put("source", b"whole")
    bucket.put("copy", b"ha")
    proxy.forget()
    obstore.copy(bucket.obstore(), "source", "copy", overwrite=True)
    (request,) = proxy.asked
    assert (request.method, request.body) == ("PUT", b"")
    assert request.headers["x-amz-copy-source"].endswith("/source")
    assert bucket.get("copy") == b"whole"


def test_a_copy_answered_200_with_an_error_within_is_a_failure(s3_place, proxy):
    bucket = Bucket(s3_place, proxy.endpoint)
    bucket.put("source", b"whole")
    proxy.on("PUT", answered(200, "InternalError"))
    with pytest.raises(obstore.exceptions.BaseError):
        obstore.copy(bucket.obstore(), "source", "copy")


def test_what_is_not_there_is_deleted_without_complaint(bucket):
    bucket.put("a")
    obstore.delete(bucket.obstore(), ["a", "missing"])
    assert bucket.keys() == []


# --- endpoints and credentials in the environment


@pytest.fixture
def elsewhere(moto_endpoint) -> Iterator[Proxy]:
    """Another server, which has nothing; asked only where somebody goes astray."""
    with Proxy.before(moto_endpoint) as elsewhere:
        elsewhere.always_on("GET", answered(403, "AccessDenied"))
        yield elsewhere


def lance_options(endpoint: str, **more: str) -> dict[str, str]:
    return {
        "aws_access_key_id": servers.ACCESS_KEY,
        "aws_secret_access_key": servers.SECRET_KEY,
        "aws_region": servers.REGION,
        "aws_endpoint": endpoint,
        "allow_http": "true",
        "aws_virtual_hosted_style_request": "false",
        **more,
    }


def test_obstore_prefers_the_endpoint_of_the_environment(s3_place, elsewhere, monkeypatch):
    bucket = Bucket(s3_place, s3_place.options["endpoint"])
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", elsewhere.endpoint)
    with pytest.raises(obstore.exceptions.BaseError):
        list(obstore.list(bucket.obstore()))
    assert elsewhere.asked
    elsewhere.asked.clear()
    assert list(obstore.list(bucket.obstore(aws_endpoint_url_s3=bucket.endpoint))) == []
    assert not elsewhere.asked


def test_lance_prefers_the_endpoint_of_the_environment(s3_place, proxy, elsewhere, monkeypatch):
    proxy.always_on("GET", answered(403, "AccessDenied"))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", elsewhere.endpoint)
    table = f"{s3_place.store}/t.lance"
    with pytest.raises(ValueError, match="Error performing"):
        lance.dataset(table, storage_options=lance_options(proxy.endpoint))
    assert (bool(proxy.asked), bool(elsewhere.asked)) == (False, True)
    elsewhere.asked.clear()
    options = lance_options(proxy.endpoint, aws_endpoint_url_s3=proxy.endpoint)
    with pytest.raises(ValueError, match="Error performing"):
        lance.dataset(table, storage_options=options)
    assert (bool(proxy.asked), bool(elsewhere.asked)) == (True, False)


def test_lance_takes_a_session_token_from_the_environment(s3_place, proxy, monkeypatch):
    proxy.always_on("GET", answered(403, "AccessDenied"))
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-other-credentials")
    with pytest.raises(ValueError, match="Error performing"):
        lance.dataset(f"{s3_place.store}/t.lance", storage_options=lance_options(proxy.endpoint))
    headers = {name.lower(): value for name, value in proxy.asked[0].headers.items()}
    assert headers["x-amz-security-token"] == "of-other-credentials"
