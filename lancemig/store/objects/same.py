"""Whether two objects hold the same bytes: by their ETags where these tell, otherwise by reading."""

import hashlib
import re
from collections.abc import Iterator

from lancemig.store.objects.values import Listed, Objects

# The digest of the content, or that of the digests of so many parts: what S3 gives an object that is not
# encrypted with a key of its own. Others are random, and then equal ones do not happen.
_DIGEST = re.compile(r"(?P<digest>[0-9a-f]{32})(-(?P<parts>\d+))?")
_MIB = 1024**2
# Of Lance, of AWS's tools, of others, and of this program.
_PART_SIZES = tuple(size * _MIB for size in (5, 8, 10, 16, 32, 64, 128))


def same_content(one: Objects, this: Listed, other: Objects, that: Listed) -> str | None:
    """The checksum that two objects, as they were listed, have in common; None where their bytes differ.

    An ETag can prove that they are the same, never that they are not: then both are read.
    """
    if this.size != that.size:
        return None
    if this.etag and that.etag:
        if this.etag == that.etag and _DIGEST.fullmatch(this.etag):
            return f"etag:{this.etag}"
    elif that.etag and _has(one, this, that.etag):
        return f"etag:{that.etag}"
    elif this.etag and _has(other, that, this.etag):
        return f"etag:{this.etag}"
    checksum = sha256_of(one, this.key)
    return f"sha256:{checksum}" if checksum == sha256_of(other, that.key) else None


def has_checksum(objects: Objects, found: Listed, checksum: str) -> bool:
    """Whether an object, as it was listed, still has the checksum that `same_content` found."""
    method, _, digest = checksum.partition(":")
    if method == "sha256":
        return sha256_of(objects, found.key) == digest
    return found.etag == digest if found.etag else _has(objects, found, digest)


def sha256_of(objects: Objects, key: str) -> str:
    """The digest of an object's content, in hex."""
    digest = hashlib.sha256()
    for piece in objects.stream(key):
        digest.update(piece)
    return digest.hexdigest()


def _has(objects: Objects, found: Listed, etag: str) -> bool:
    """Whether an object without an ETag has the content that `etag` stands for."""
    told = _DIGEST.fullmatch(etag)
    if told is None:
        return False
    if told["parts"] is None:
        return next(_part_digests(objects.stream(found.key), found.size), _md5(b"")).hex() == told["digest"]
    count = int(told["parts"])
    return any(
        _md5(b"".join(_part_digests(objects.stream(found.key), size))).hex() == told["digest"]
        for size in _PART_SIZES
        if size * (count - 1) < found.size <= size * count
    )


def _part_digests(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    """The digest of each part of so many bytes."""
    digest, left = hashlib.md5(usedforsecurity=False), size
    for piece in pieces:
        rest = piece
        while len(rest) > left:
            digest.update(rest[:left])
            yield digest.digest()
            rest, digest, left = rest[left:], hashlib.md5(usedforsecurity=False), size
        digest.update(rest)
        left -= len(rest)
    if left < size:
        yield digest.digest()


def _md5(body: bytes) -> bytes:
    return hashlib.md5(body, usedforsecurity=False).digest()
