"""Addresses of stores: what each names, and what is refused without repeating a password."""

from pathlib import Path

import pytest

from lancemig.errors import ConfigError
from lancemig.store.objects.location import Bucket, folder_key, is_address, is_url, location


@pytest.mark.parametrize(
    ("store", "bucket", "uri"),
    [
        ("s3://b", Bucket("b", ""), "s3://b"),
        ("s3://b/", Bucket("b", ""), "s3://b"),
        ("s3://b/x/y", Bucket("b", "x/y/"), "s3://b/x/y"),
        ("s3://my.bucket-1_x/x/", Bucket("my.bucket-1_x", "x/"), "s3://my.bucket-1_x/x"),
    ],
)
def test_a_bucket(store: str, bucket: Bucket, uri: str) -> None:
    assert location(store) == bucket
    assert bucket.uri == uri


@pytest.mark.parametrize(
    ("store", "path"),
    [
        ("/srv/c", "/srv/c"),
        ("file:///srv/c", "/srv/c"),
        ("file://localhost/srv/a%20b", "/srv/a b"),
        ("/srv/a%20b", "/srv/a%20b"),
    ],
)
def test_a_directory(store: str, path: str) -> None:
    assert location(store) == Path(path)


@pytest.mark.parametrize(
    ("store", "why"),
    [
        ("", "a path is required"),
        ("gs://b", "gs:// is not supported"),
        ("s3://", "write s3://bucket"),
        ("s3://b/../x", "not a valid key"),
        ("file://host/x", "file:///path"),
        ("s3://me:hunter2@b", "without a user name or password"),
    ],
)
def test_what_is_neither_is_refused(store: str, why: str) -> None:
    with pytest.raises(ConfigError) as error:
        location(store)
    assert why in error.value.message
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "url", "address"),
    [
        ("s3://b", True, True),
        ("az+x://b", True, True),
        ("/srv", False, True),
        ("./a", False, True),
        ("..", False, True),
        ("~/a", False, True),
        ("v1/", False, False),
        ("a/b://c", False, False),
        (".hidden/", False, False),
    ],
)
def test_an_address_is_told_from_a_prefix(text: str, url: bool, address: bool) -> None:
    assert (is_url(text), is_address(text)) == (url, address)


@pytest.mark.parametrize(
    ("uri", "folder", "key"),
    [
        ("s3://b/x", "s3://b/x/v1/catalog/t.lance", "v1/catalog/t.lance/"),
        ("s3://b/x/", "s3://b/x/v1/", "v1/"),
        ("s3://b", "s3://bb/v1", None),
        ("/srv/c", "file:///srv/c/v1", "v1/"),
        ("/srv/c", "/srv/c", None),
        ("/srv/c", "/srv/other/v1", None),
    ],
)
def test_a_folder_has_a_key_in_its_own_store_only(uri: str, folder: str, key: str | None) -> None:
    assert folder_key(uri, folder) == key
