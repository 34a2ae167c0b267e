"""Access to a bucket: one session, endpoint and region for boto3, obstore and Lance; and S3 errors."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Self

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
)
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.exceptions import BaseError, InvalidPathError
from obstore.store import S3Store
from s3transfer.exceptions import S3CopyFailedError  # type: ignore[import-untyped]

from lancemig.errors import ConfigError, StoreError
from lancemig.store.objects.location import Bucket, S3Options, s3_uri

if TYPE_CHECKING:
    from obstore.store import S3Config


BOTO_ERRORS: tuple[type[Exception], ...] = (BotoCoreError, ClientError)
ALL_ERRORS: tuple[type[Exception], ...] = (
    *BOTO_ERRORS,
    BaseError,
    FileNotFoundError,
    S3CopyFailedError,
    ValueError,
)

NO_CREDENTIALS = (
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
)
MALFORMED = (InvalidPathError, ParamValidationError, ValueError)
NEVER_SENT = (*NO_CREDENTIALS, *MALFORMED)

TRY_LATER = "run the same command again later"
FIX_STORE = "create the bucket, or fix `store` and `storage_options` in lancemig.ini"
CHECK_RIGHTS = (
    "check the credentials (AWS_ACCESS_KEY_ID, AWS_PROFILE or storage_options.profile) and their "
    "permissions on the bucket, then run the same command again"
)
CHECK_NETWORK = "check storage_options.endpoint and region, and the network, then run the same command again"
ASK_DOCTOR = "lancemig doctor"


class Answer(Enum):
    """What an error means for a conditional write."""

    CONDITION = "the request was not executed: its condition does not hold"
    LOST = "the request may or may not have been executed, and may still be executed"
    FAILED = "the request was refused; a retry does not help"


def answer_of(error: Exception) -> Answer:
    """Classify the error of a conditional write, or of reading the object back."""
    if not isinstance(error, ClientError):
        return Answer.FAILED if isinstance(error, NEVER_SENT) else Answer.LOST
    status = status_of(error) or 0
    # If-Match on a missing key is 412 or 404, by server (tests/surface/test_s3.py::
    # test_if_match_on_a_missing_key_is_412_or_404); 409 is a conflict of two such writes.
    if status in (409, 412) or is_missing(error):
        return Answer.CONDITION
    if status == 501 or (status < 500 and status != 429 and code_of(error) != "RequestTimeout"):
        return Answer.FAILED
    return Answer.LOST


def is_missing(error: Exception) -> bool:
    """Whether the error means that the object does not exist; a missing bucket is another error."""
    return status_of(error) == 404 and code_of(error) != "NoSuchBucket"


def status_of(error: Exception) -> int | None:
    """The HTTP status; None if there was no response."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return int(status) if status else None
    found = re.search(r"status code: (\d{3})", str(error))
    return int(found[1]) if found else None


def code_of(error: Exception) -> str:
    """The error code of S3; empty if it gave none."""
    if isinstance(error, ClientError):
        code = str(error.response.get("Error", {}).get("Code", ""))
    else:
        found = re.search(r"<Code>(\w+)</Code>", str(error))
        code = found[1] if found else ""
    return "" if code.isdigit() else code


def failure(error: Exception, what: str, uri: str) -> StoreError:
    """The StoreError for a failed request, with a next step and without secrets.

    The texts of the libraries are not repeated: they quote requests and responses.

    Args:
        error: What boto3 or obstore raised.
        what: The verb: `read`, `write`.
        uri: The object or the bucket.
    """
    return StoreError(f"cannot {what} {uri}: {_how(error)}", next_step=_next_step(error))


def _how(error: Exception) -> str:
    status = status_of(error)
    if status is not None:
        return f"HTTP {status} {code_of(error)}".rstrip()
    if isinstance(error, MALFORMED):
        return str(error).partition("\n")[0]
    if isinstance(error, NO_CREDENTIALS):
        return f"no credentials ({type(error).__name__})"
    return f"no response ({type(error).__name__})"


def _next_step(error: Exception) -> str:
    status = status_of(error)
    if code_of(error) == "NoSuchBucket" or isinstance(error, MALFORMED):
        return FIX_STORE
    if status in (401, 403) or isinstance(error, NO_CREDENTIALS):
        return CHECK_RIGHTS
    if status is None or 300 <= status < 400:
        return CHECK_NETWORK
    return TRY_LATER if status in (429, 500, 502, 503, 504) else ASK_DOCTOR


@contextmanager
def on_s3(what: str, uri: str) -> Iterator[None]:
    """Raise what boto3 and obstore raise as a StoreError that names the object; `what` is a verb."""
    try:
        yield
    except ALL_ERRORS as error:
        raise failure(error, what, uri) from error


ATTEMPTS = 3
CONNECTIONS = 64
CONNECT_SECONDS = 10
READ_SECONDS = 60
# CopyObject answers once it is done, which takes a while for 5 GiB.
COPY_SECONDS = 900


@dataclass(frozen=True, slots=True)
class Access:
    """The settings that boto3, obstore and Lance must share, so that they use the same store."""

    session: Any
    bucket: str
    endpoint: str | None
    region: str
    path_style: bool

    def __repr__(self) -> str:
        return f"Access({self.bucket!r}, {self.endpoint!r}, {self.region!r})"

    @classmethod
    def to(cls, bucket: Bucket, options: S3Options) -> Self:
        """Resolve credentials, endpoint and region; StoreError if the bucket does not answer."""
        session = _session(options)
        with on_s3("open", bucket.uri):
            region = session.region_name or os.environ.get("AWS_REGION") or "us-east-1"
            endpoint = options.endpoint or _endpoint_from_environment(session, region)
            # A dot in the name does not fit the certificate of *.s3.amazonaws.com.
            by_path = endpoint is not None or "." in bucket.name
            path_style = by_path if options.path_style is None else options.path_style
            access = cls(session, bucket.name, endpoint, region, path_style)
            access._credentials()
            return access._in_region_of(bucket)

    def same_server(self, other: "Access") -> bool:
        """Whether the server can copy from the other bucket: the same endpoint and credentials."""
        return (self.endpoint, self._credentials()[0]) == (other.endpoint, other._credentials()[0])

    def client(self, attempts: int = ATTEMPTS) -> Any:
        """A boto3 client that sends each request at most `attempts` times."""
        return self.session.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.region,
            config=Config(
                retries={"total_max_attempts": attempts, "mode": "standard"},
                s3={"addressing_style": "path" if self.path_style else "virtual"},
                connect_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
                max_pool_connections=CONNECTIONS,
                # Not every S3 server knows the newer checksums.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def bulk(self, seconds: int = READ_SECONDS) -> S3Store:
        """An obstore store of the whole bucket, with a timeout in seconds for each response.

        It renews credentials as they expire.
        """
        config: S3Config = {
            "region": self.region,
            "virtual_hosted_style_request": not self.path_style,
        }
        if self.endpoint:
            # Without the second, AWS_ENDPOINT_URL_S3 would win over the first
            # (tests/surface/test_s3.py::test_obstore_prefers_the_endpoint_of_the_environment).
            config["endpoint"] = config["aws_endpoint_url_s3"] = self._rust_endpoint()
        return S3Store(
            self.bucket,
            config=config,
            client_options={
                "allow_http": self._plain_http(),
                "connect_timeout": f"{CONNECT_SECONDS}s",
                "timeout": f"{seconds}s",
            },
            retry_config={"max_retries": ATTEMPTS},
            credential_provider=Boto3CredentialProvider(self.session),
        )

    def lance_options(self) -> dict[str, str]:
        """The resolved settings as storage options for Lance, with the credentials valid now."""
        with on_s3("get credentials for", s3_uri(self.bucket)):
            key, secret, token = self._credentials()
        options = {
            "aws_access_key_id": key,
            "aws_secret_access_key": secret,
            "aws_region": self.region,
            "aws_virtual_hosted_style_request": str(not self.path_style).lower(),
        }
        if token:
            options["aws_session_token"] = token
        elif os.environ.get("AWS_SESSION_TOKEN"):
            # tests/surface/test_s3.py::test_lance_takes_a_session_token_from_the_environment
            raise ConfigError(
                "AWS_SESSION_TOKEN is set, but does not belong to the credentials in use; Lance "
                "would send it with them",
                next_step="unset AWS_SESSION_TOKEN",
            )
        if self.endpoint:
            options["aws_endpoint"] = options["aws_endpoint_url_s3"] = self._rust_endpoint()
            options["allow_http"] = str(self._plain_http()).lower()
        return options

    def _credentials(self) -> tuple[str, str, str | None]:
        found = self.session.get_credentials()
        if found is None:
            raise StoreError(f"no AWS credentials found for {s3_uri(self.bucket)}", next_step=CHECK_RIGHTS)
        key, secret, token = found.get_frozen_credentials()[:3]
        return key, secret, token

    def _in_region_of(self, bucket: Bucket) -> Self:
        """Check that the bucket answers, and take the region of the bucket from AWS.

        boto3 finds the bucket from any region; obstore and Lance do not.
        """
        client = self.client()
        client.list_objects_v2(Bucket=bucket.name, Prefix=bucket.folder, MaxKeys=1)
        if self.endpoint is not None:
            return self
        # A policy that allows one prefix only refuses this; then the region is as configured.
        with suppress(ClientError):
            answer = client.head_bucket(Bucket=bucket.name)
            return replace(self, region=answer.get("BucketRegion", self.region))
        return self

    def _plain_http(self) -> bool:
        return self.endpoint is not None and self.endpoint.startswith("http://")

    def _rust_endpoint(self) -> str:
        """The endpoint for the Rust libraries: with the bucket, if the bucket is a host name."""
        scheme, _, host = (self.endpoint or "").partition("://")
        return f"{scheme}://{host}" if self.path_style else f"{scheme}://{self.bucket}.{host}"


def _session(options: S3Options) -> Any:
    try:
        return boto3.Session(profile_name=options.profile, region_name=options.region)
    except BotoCoreError as error:
        raise ConfigError(
            f"the AWS configuration is invalid: {error}",
            next_step="list the profiles with aws configure list-profiles; fix storage_options.profile in "
            "lancemig.ini, or AWS_PROFILE",
        ) from error


def _endpoint_from_environment(session: Any, region: str) -> str | None:
    """The endpoint from the environment or a profile; None for AWS itself."""
    configured, of_aws = (
        session.client(
            "s3", region_name=region, config=Config(ignore_configured_endpoint_urls=ignore)
        ).meta.endpoint_url
        for ignore in (False, True)
    )
    # The Rust libraries would take the last of these by themselves, boto3 would not.
    found = os.environ.get("AWS_ENDPOINT") if configured == of_aws else str(configured)
    return found.rstrip("/") if found else None
