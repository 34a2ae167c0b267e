"""Places to keep a catalog: a directory, moto's server, a real S3 server."""

import logging
import os
from collections.abc import Iterator

import pytest
import servers
from hypothesis import settings
from proxy import Proxy
from servers import NewPlace, Place

# The usual run tries the same examples each time; what it finds is due to the change that it is made for.
settings.register_profile("normal", derandomize=True, database=None, deadline=None, print_blob=True)
settings.register_profile("nightly", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "normal"))


@pytest.fixture(scope="session", autouse=True)
def aws_environment() -> Iterator[None]:
    """Credentials of the test servers and nothing else, so that no test ever reaches AWS."""
    with pytest.MonkeyPatch.context() as environment:
        for name in os.environ:
            if name.startswith("AWS_"):
                environment.delenv(name)
        environment.setenv("AWS_ACCESS_KEY_ID", servers.ACCESS_KEY)
        environment.setenv("AWS_SECRET_ACCESS_KEY", servers.SECRET_KEY)
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        environment.setenv("AWS_CONFIG_FILE", os.devnull)
        environment.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        environment.setenv("NO_PROXY", "127.0.0.1")
        yield


@pytest.fixture(scope="session")
def moto_endpoint(aws_environment: None) -> Iterator[str]:
    """moto's server, started when the first test wants it."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with servers.moto() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def seaweedfs_endpoint(aws_environment: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """SeaweedFS, started when the first test wants it; each worker has its own."""
    with servers.seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def new_place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> NewPlace:
    """Make an empty place of a kind: "local", "moto" or "seaweedfs"."""

    def new(kind: str) -> Place:
        if kind == "local":
            return Place(kind, str(tmp_path_factory.mktemp("store")))
        return servers.bucket_at(kind, request.getfixturevalue(f"{kind}_endpoint"))

    return new


@pytest.fixture(params=servers.PLACES)
def place(request: pytest.FixtureRequest, new_place: NewPlace) -> Place:
    """An empty store of each kind."""
    return new_place(request.param)


@pytest.fixture
def local_place(new_place: NewPlace) -> Place:
    """An empty directory."""
    return new_place("local")


@pytest.fixture
def s3_place(new_place: NewPlace) -> Place:
    """An empty bucket on moto: where one S3 server is enough."""
    return new_place("moto")


@pytest.fixture
def seaweedfs_place(new_place: NewPlace) -> Place:
    """An empty bucket on a real server."""
    return new_place("seaweedfs")


@pytest.fixture
def proxy(moto_endpoint: str) -> Iterator[Proxy]:
    """A proxy in front of moto, where requests and answers get lost as a test says."""
    with Proxy.before(moto_endpoint) as proxy:
        yield proxy
