"""Where the store is and how it is reached: `store` and `storage_options.*` of lancemig.ini."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import unquote

from lancemig.errors import ConfigError
from lancemig.store.objects.base import folder_of

KNOWN = ("endpoint", "region", "path_style", "profile")
WORDS = {"true": True, "yes": True, "on": True, "1": True}
WORDS |= {"false": False, "no": False, "off": False, "0": False}


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket, and the folder in it that is the store: `""` or ending in a slash."""

    name: str
    folder: str

    @property
    def uri(self) -> str:
        """As Lance opens it."""
        return f"s3://{self.name}/{self.folder}".rstrip("/")


@dataclass(frozen=True, slots=True)
class S3Options:
    """The options an S3 store is reached with; None leaves it to AWS's usual sources."""

    endpoint: str | None = None
    region: str | None = None
    path_style: bool | None = None
    profile: str | None = None

    @classmethod
    def read(cls, options: Mapping[str, str]) -> Self:
        """Take the options as written in lancemig.ini; refuses what it does not know.

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
    """Take `store` of lancemig.ini apart; refuses what is neither S3 nor a local path."""
    if store.startswith("s3://"):
        name, _, folder = store.removeprefix("s3://").partition("/")
        if not name:
            raise _bad_store(store)
        return Bucket(name, folder_of(folder))
    if store.startswith("file://"):
        path = unquote(store.removeprefix("file://").removeprefix("localhost"))
        if not path.startswith("/"):
            raise _bad_store(store)
        return Path(path).resolve()
    if not store or re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", store):
        raise _bad_store(store)
    return Path(store).expanduser().resolve()


def _bad_store(store: str) -> ConfigError:
    return ConfigError(
        f"store = {store!r} is neither a bucket nor a local directory",
        next_step="set store = s3://bucket or store = PATH in lancemig.ini",
    )


def _endpoint(value: str) -> str:
    """Refuse what is no plain address; it is not repeated, for it may hold a password."""
    if not re.fullmatch(r"https?://[^/@?#\s]+(/[^@?#\s]*)?", value):
        raise ConfigError(
            "storage_options.endpoint is not a plain http:// or https:// address",
            next_step="set storage_options.endpoint = https://host[:port] in lancemig.ini, without a "
            "user name "
            "or password",
        )
    return value.rstrip("/")


def _path_style(value: str) -> bool:
    try:
        return WORDS[value.lower()]
    except KeyError:
        raise ConfigError(
            f"storage_options.path_style = {value!r} is not true or false",
            next_step="set storage_options.path_style = true in lancemig.ini",
        ) from None
