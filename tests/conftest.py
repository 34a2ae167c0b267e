"""Markers by folder, and places to keep a catalog: a directory, moto's server, a real S3 server."""

import logging
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import servers
from hypothesis import settings
from proxy import Proxy
from servers import NewPlace, Place

TESTS = Path(__file__).parent

# The marker of each test in a folder or file. Pages of the documents run commands of the example.
MARKERS = {
    "faults": "faults",
    "machine": "machine",
    "surface": "surface",
    "test_docs.py": "docs",
    "test_example.py": "docs",
    "test_lint_docs.py": "docs",
    "test_versions.py": "docs",
}
# A test that asks for one of these needs a server. One that asks `new_place` for a bucket is marked by hand.
SERVER_FIXTURES = {"moto_endpoint", "seaweedfs_endpoint", "s3_place", "seaweedfs_place", "proxy"}

# Hypothesis takes up to five minutes to make a failure of the state machine smaller; without them it is lost.
MACHINE_SECONDS = 15 * 60
NIGHTLY_SECONDS = 4 * 60 * 60
# Each of these makes usual tests as long as nightly ones.
LONGER_BY = {"HYPOTHESIS_PROFILE", "LANCEMIG_KILLS"}

# Every commit waits for the disk several times: a test takes up to three times as long if the disk is busy.
MEMORY = Path("/dev/shm")  # noqa: S108
BYTES_IN_MEMORY = 4 * 2**30

running = pytest.StashKey[pytest.Item]()

# The usual run tries the same examples each time; what it finds is due to the change that it is made for.
settings.register_profile("normal", derandomize=True, database=None, deadline=None, print_blob=True)
settings.register_profile("nightly", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "normal"))


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Run the whole suite on all cores, and a selection of files in this process."""
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    on_one_core = os.environ.get("PYTEST_XDIST_WORKER") or config.getoption("usepdb")
    if whole and not on_one_core and config.getoption("numprocesses", 0) is None:
        config.option.numprocesses = "auto"


def pytest_configure(config: pytest.Config) -> None:
    """Keep temporary files in memory if there is room, unless the caller names a folder."""
    chosen = "PYTEST_DEBUG_TEMPROOT" in os.environ or config.getoption("basetemp")
    if not chosen and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > BYTES_IN_MEMORY:
        os.environ["PYTEST_DEBUG_TEMPROOT"] = str(MEMORY)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test for the tier that it belongs to, before `-m` selects."""
    for item in items:
        marker = MARKERS.get(item.path.relative_to(TESTS).parts[0])
        if marker:
            item.add_marker(marker)
        if SERVER_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("s3")
        if item.get_closest_marker("nightly") or LONGER_BY & os.environ.keys():
            item.add_marker(pytest.mark.timeout(NIGHTLY_SECONDS))
        elif marker == "machine":
            item.add_marker(pytest.mark.timeout(MACHINE_SECONDS))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Remember which test runs, for fixtures that live longer than one."""
    item.config.stash[running] = item


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
        test = request.config.stash[running]
        assert test.get_closest_marker("s3"), f"{test.nodeid} needs a server: mark it with s3"
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


@pytest.fixture(autouse=True)
def import_path() -> Iterator[None]:
    """Each catalog of a test adds its folder to `sys.path`."""
    before = list(sys.path)
    yield
    sys.path[:] = before
