"""How a bucket is reached: one session, endpoint and region for boto3, obstore and Lance alike."""

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.store import S3Store

from lancemig.errors import ConfigError, StoreError
from lancemig.store.objects.options import Bucket, S3Options
from lancemig.store.objects.s3_errors import CHECK_RIGHTS, on_s3

if TYPE_CHECKING:
    from obstore.store import S3Config

ATTEMPTS = 3
CONNECTIONS = 64
CONNECT_SECONDS = 10
READ_SECONDS = 60
# CopyObject answers when it is done; 5 GiB take their time.
COPY_SECONDS = 900


@dataclass(frozen=True, slots=True)
class Access:
    """What boto3, obstore and Lance must agree on, or they work on different stores."""

    session: Any
    bucket: str
    endpoint: str | None
    region: str
    path_style: bool

    def __repr__(self) -> str:
        return f"Access({self.bucket!r}, {self.endpoint!r}, {self.region!r})"

    @classmethod
    def to(cls, bucket: Bucket, options: S3Options) -> Self:
        """Resolve credentials, endpoint and region; asks the bucket whether it is there."""
        session = _session(options)
        with on_s3("open", bucket.uri):
            region = session.region_name or os.environ.get("AWS_REGION") or "us-east-1"
            endpoint = options.endpoint or _endpoint_elsewhere(session, region)
            # A dot in the name does not fit the certificate of *.s3.amazonaws.com.
            by_path = endpoint is not None or "." in bucket.name
            path_style = by_path if options.path_style is None else options.path_style
            access = cls(session, bucket.name, endpoint, region, path_style)
            access._credentials()
            return access._in_the_region_of(bucket)

    def same_server(self, other: "Access") -> bool:
        """Whether the server copies from the other's bucket: one endpoint, one set of credentials."""
        return (self.endpoint, self._credentials()[0]) == (other.endpoint, other._credentials()[0])

    def client(self, attempts: int = ATTEMPTS) -> Any:
        """Make a boto3 client that sends a request at most `attempts` times."""
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
        """Make an obstore store of the whole bucket, which waits so long for each answer.

        It asks for credentials anew as they expire.
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
        """Hand on to Lance what was resolved here, with the credentials valid now."""
        with on_s3("get credentials for", f"s3://{self.bucket}"):
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
            raise StoreError(f"no AWS credentials found for s3://{self.bucket}", next_step=CHECK_RIGHTS)
        key, secret, token = found.get_frozen_credentials()[:3]
        return key, secret, token

    def _in_the_region_of(self, bucket: Bucket) -> Self:
        """See that the bucket answers, and ask AWS which region it lies in.

        boto3 finds its way from any region; obstore and Lance do not.
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
        """Return the endpoint as the Rust libraries want it: with the bucket, if that is a host."""
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


def _endpoint_elsewhere(session: Any, region: str) -> str | None:
    """Return the endpoint that the environment or a profile names, None for AWS itself."""
    configured, of_aws = (
        session.client(
            "s3", region_name=region, config=Config(ignore_configured_endpoint_urls=ignore)
        ).meta.endpoint_url
        for ignore in (False, True)
    )
    # The Rust libraries would take the last of these by themselves, boto3 would not.
    found = os.environ.get("AWS_ENDPOINT") if configured == of_aws else str(configured)
    return found.rstrip("/") if found else None
