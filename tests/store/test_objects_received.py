"""Objects are received from any other store as they are there, and told apart from what is not the same."""

import os
from pathlib import Path

import pytest
from servers import NewPlace

from lancemig.errors import StoreError
from lancemig.store.objects import ObjectInfo, Objects, open_objects, same_content

MB = 1024**2
WAYS = [
    ("local", "local"),
    *(
        pytest.param(way, marks=pytest.mark.s3)
        for way in [
            ("local", "moto"),
            ("moto", "local"),
            ("moto", "moto"),
            ("moto", "seaweedfs"),
            ("seaweedfs", "seaweedfs"),
        ]
    ),
]


def pair(new_place: NewPlace, kinds: tuple[str, str]) -> tuple[Objects, Objects]:
    places = [new_place(kind) for kind in kinds]
    return open_objects(places[0].store, places[0].options), open_objects(places[1].store, places[1].options)


def written(objects: Objects, tmp_path: Path, **bodies: bytes) -> None:
    """Put there by way of a directory, so that large ones are uploaded in parts."""
    folder = tmp_path / "bodies"
    folder.mkdir(exist_ok=True)
    for name, body in bodies.items():
        (folder / name).write_bytes(body)
    objects.copy_from(open_objects(str(folder), {}), [(name, f"from/{name}") for name in bodies])


def listed(objects: Objects, prefix: str = "") -> dict[str, ObjectInfo]:
    return {item.key.rpartition("/")[2]: item for item in objects.list(prefix)}


@pytest.mark.parametrize("kinds", WAYS)
def test_what_is_received_is_the_same(kinds: tuple[str, str], new_place: NewPlace, tmp_path: Path) -> None:
    source, target = pair(new_place, kinds)
    bodies = {"small": b"small", "empty": b"", "large": os.urandom(40 * MB + 7)}
    written(source, tmp_path, **bodies)
    told: list[int] = []
    target.copy_from(source, [(f"from/{name}", f"to/here/{name}") for name in bodies], told.append)
    assert told == [1, 2, 3]
    here, there = listed(source, "from"), listed(target, "to")
    assert sorted(there) == sorted(bodies)
    for name, body in bodies.items():
        assert b"".join(target.stream(f"to/here/{name}")) == body
        assert same_content(source, here[name], target, there[name])
        assert same_content(target, there[name], source, here[name])


@pytest.mark.parametrize("kinds", WAYS)
def test_a_byte_that_differs_is_noticed(kinds: tuple[str, str], new_place: NewPlace, tmp_path: Path) -> None:
    source, target = pair(new_place, kinds)
    body = os.urandom(17 * MB)
    written(source, tmp_path, small=b"small", large=body, shorter=b"small")
    written(target, tmp_path, small=b"smell", large=body[:-1] + bytes([body[-1] ^ 1]), shorter=b"smal")
    here, there = listed(source), listed(target)
    assert [name for name in here if same_content(source, here[name], target, there[name])] == []


@pytest.mark.s3
def test_within_a_server_a_copy_has_the_etag_of_the_original(new_place: NewPlace, tmp_path: Path) -> None:
    source, target = pair(new_place, ("moto", "moto"))
    written(source, tmp_path, small=b"small", large=os.urandom(40 * MB + 7))
    target.copy_from(source, [(f"from/{name}", f"from/{name}") for name in ("small", "large")])
    etags = [{name: item.etag for name, item in listed(one).items()} for one in (source, target)]
    assert etags[0] == etags[1]
    assert "-" in str(etags[0]["large"])


@pytest.mark.parametrize("kinds", WAYS)
def test_what_is_not_there_is_named(kinds: tuple[str, str], new_place: NewPlace, tmp_path: Path) -> None:
    source, target = pair(new_place, kinds)
    with pytest.raises(StoreError, match="from/gone"):
        target.copy_from(source, [("from/gone", "to/gone")])
    assert listed(target) == {}


@pytest.mark.parametrize("kinds", WAYS[:4])
def test_what_is_there_is_replaced(kinds: tuple[str, str], new_place: NewPlace, tmp_path: Path) -> None:
    source, target = pair(new_place, kinds)
    written(source, tmp_path, one=b"new")
    written(target, tmp_path, one=b"old one")
    target.copy_from(source, [("from/one", "from/one")])
    assert b"".join(target.stream("from/one")) == b"new"


def test_a_file_that_is_received_is_no_link(new_place: NewPlace, tmp_path: Path) -> None:
    source, target = pair(new_place, ("local", "local"))
    written(source, tmp_path, one=b"one")
    target.copy_from(source, [("from/one", "to/one")])
    (Path(source.uri) / "from" / "one").write_bytes(b"two")
    assert (Path(target.uri) / "to" / "one").read_bytes() == b"one"
