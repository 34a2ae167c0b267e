"""The address of a store and the options it is reached with: `store` and `storage_options.*` of lancemig.ini.

No other module takes such an address apart.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import unquote

from lancemig.errors import ConfigError
from lancemig.store.objects.base import folder_of

KNOWN = ("endpoint", "region", "path_style", "profile")
"""The storage options, without `storage_options.`."""

BOOLEANS = {"true": True, "yes": True, "on": True, "1": True}
BOOLEANS |= {"false": False, "no": False, "off": False, "0": False}

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_S3 = re.compile(r"s3://(?P<bucket>[A-Za-z0-9][A-Za-z0-9._-]*)(/(?P<folder>.*))?")
_FILE = re.compile(r"file://(localhost)?(?P<path>/.*)")
_ADDRESS = re.compile(rf"{_URL.pattern}|/|\.{{1,2}}(/|$)|~")


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket, and the folder in it that is the store: `""` or ending in a slash."""

    name: str
    folder: str

    @property
    def uri(self) -> str:
        """The address as Lance opens it."""
        return s3_uri(self.name, self.folder)


def s3_uri(bucket: str, key: str = "") -> str:
    """The address of a bucket, or of an object in it by its whole key."""
    return f"s3://{bucket}/{key}".rstrip("/")


@dataclass(frozen=True, slots=True)
class S3Options:
    """The options an S3 store is reached with; None leaves an option to the usual AWS sources."""

    endpoint: str | None = None
    region: str | None = None
    path_style: bool | None = None
    profile: str | None = None

    @classmethod
    def read(cls, options: Mapping[str, str]) -> Self:
        """Parse the options of lancemig.ini; ConfigError for one that is unknown or not valid.

        An empty value counts as not given, so that an environment variable may be left empty.
        """
        for key in options:
            if key not in KNOWN:
                raise ConfigError(
                    f"unknown option storage_options.{key}",
                    next_step=f"use one of these in lancemig.ini: {', '.join(KNOWN)}; set credentials in the "
                    "environment or in a profile",
                )
        given = {key: value.strip() for key, value in options.items() if value.strip()}
        return cls(
            endpoint=_endpoint(given["endpoint"]) if "endpoint" in given else None,
            region=given.get("region"),
            path_style=_path_style(given["path_style"]) if "path_style" in given else None,
            profile=given.get("profile"),
        )


def location(store: str) -> Bucket | Path:
    """The bucket or the absolute path that `store` names; ConfigError if it names neither."""
    try:
        return parse_location(store)
    except ValueError as error:
        raise ConfigError(
            f"the store is not valid: {error}",
            next_step="set store = s3://bucket or store = PATH in lancemig.ini",
        ) from None


def parse_location(store: str) -> Bucket | Path:
    """As `location`, but ValueError. A URL is not repeated in it, since it may hold a password."""
    url = _URL.match(store)
    if url is None:
        if not store:
            raise ValueError("a path is required")
        return Path(store).expanduser().resolve()
    if url[1] not in ("s3", "file"):
        raise ValueError(f"{url[1]}:// is not supported; use s3://bucket, file:///path or a path")
    if bucket := _S3.fullmatch(store):
        try:
            return Bucket(bucket["bucket"], folder_of(bucket["folder"] or ""))
        except ConfigError as error:
            raise ValueError(error.message) from None
    if file := _FILE.fullmatch(store):
        return Path(unquote(file["path"])).resolve()
    raise ValueError("write s3://bucket[/prefix] or file:///path, without a user name or password")


def lance_address(uri: str, key: str) -> str:
    """The address of a folder in the store at `uri`, as Lance opens it.

    Lance takes the path of a bucket for that of a URL, and the path of a branch as well on a local disk: it
    cuts it at a `?` or `#`, and decodes `%20`. So it would
    write elsewhere (tests/cli/test_files_and_terminals.py).

    Raises:
        ConfigError: Lance would read or write another folder.
    """
    address = f"{uri}/{key}".rstrip("/")
    in_bucket = address.startswith("s3://")
    cut = next((mark for mark in ("?", "#") if mark in address and (mark == "?" or in_bucket)), None)
    if cut is None and not (in_bucket and unquote(address) != address):
        return address
    what = f"cuts it at {cut}" if cut else f"reads it as {unquote(address)}"
    raise ConfigError(
        f"Lance cannot keep to the path {address}: it {what}, and would write outside the store",
        next_step="move the tables to a path without that character, then set store, fallback_prefix or "
        "catalog_dir in lancemig.ini",
    )


def is_url(store: str) -> bool:
    """Whether `store` begins with a scheme such as `s3://`; otherwise it is a local path."""
    return _URL.match(store) is not None


def is_address(text: str) -> bool:
    """Whether `text` is the address or path of a store, not a prefix in one: `s3://b`, `/a`, `./a`, `~/a`."""
    return _ADDRESS.match(text) is not None


def folder_key(uri: str, folder: str) -> str | None:
    """The key of a folder in the store at `uri`, ending in a slash; None if it is in another store.

    Args:
        uri: The address of the store, as Lance opens it.
        folder: The address of the folder, as Lance records it.
    """
    inside = folder.rstrip("/").removeprefix("file://")
    start = f"{uri.rstrip('/')}/"
    return f"{inside.removeprefix(start)}/" if inside.startswith(start) else None


def _endpoint(value: str) -> str:
    """Refuse what is not a plain address; it is not repeated, since it may hold a password."""
    if not re.fullmatch(r"https?://[^/@?#\s]+(/[^@?#\s]*)?", value):
        raise ConfigError(
            "storage_options.endpoint is not a plain http:// or https:// address",
            next_step="set storage_options.endpoint = https://host[:port] in lancemig.ini, without a user "
            "name or password",
        )
    return value.rstrip("/")


def _path_style(value: str) -> bool:
    try:
        return BOOLEANS[value.lower()]
    except KeyError:
        raise ConfigError(
            f"storage_options.path_style = {value!r} is not true or false",
            next_step="set storage_options.path_style = true in lancemig.ini",
        ) from None
