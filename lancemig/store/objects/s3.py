"""Objects in a bucket: boto3 for reads and conditional writes, obstore for whatever is many."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import obstore
from boto3.s3.transfer import TransferConfig

from lancemig.errors import StoreError
from lancemig.store.objects.keys import checked, folder_of
from lancemig.store.objects.options import Bucket, S3Options
from lancemig.store.objects.s3_access import COPY_SECONDS, Access
from lancemig.store.objects.s3_errors import on_s3
from lancemig.store.objects.s3_receive import PIECE, UPLOADED_AT_ONCE, copy_across, upload
from lancemig.store.objects.s3_write import ConditionalWrite, bare, get
from lancemig.store.objects.values import (
    Found,
    Listed,
    Moved,
    Names,
    Objects,
    Written,
    finished,
    nobody,
)

if TYPE_CHECKING:
    from obstore import ObjectMeta

# The most that one CopyObject copies.
MULTIPART_ABOVE = 5 * 1024**3
PART = 128 * 1024**2
IN_FLIGHT = 64
LISTED_AT_ONCE = 1000


def open_bucket(
    bucket: Bucket,
    options: S3Options,
    *,
    sleep: Callable[[float], None],
    multipart_above: int = MULTIPART_ABOVE,
) -> "S3Objects":
    """Open a bucket; StoreError if it is not there, refuses us or does not answer."""
    return S3Objects(bucket, Access.to(bucket, options), sleep, multipart_above)


class S3Objects:
    """The objects of a bucket below one folder, or all of them."""

    def __init__(
        self, bucket: Bucket, access: Access, sleep: Callable[[float], None], multipart_above: int
    ) -> None:
        self._bucket = bucket
        self._access = access
        self._sleep = sleep
        self._multipart_above = multipart_above
        self._client = access.client()
        self._once = access.client(attempts=1)
        self._bulk = access.bulk()
        self._copier = access.bulk(COPY_SECONDS)

    def __repr__(self) -> str:
        return f"S3Objects({self.uri!r})"

    @property
    def uri(self) -> str:
        """The bucket, and the folder in it."""
        return self._bucket.uri

    def lance_options(self) -> dict[str, str]:
        """Endpoint, region and credentials; the latter are secrets, and expire."""
        return self._access.lance_options()

    def read(self, key: str) -> Found | None:
        """GetObject."""
        with on_s3("read", self._uri(key)):
            return get(self._client, self._bucket.name, self._key(key))

    def write_if(self, key: str, body: bytes, expected: str | None) -> Written | Moved:
        """PutObject with If-Match or If-None-Match, and what it takes to know the outcome."""
        name = self._bucket.name
        return ConditionalWrite(self._once, name, self._key(key), body, expected).run(self._sleep)

    def folders(self, prefix: str) -> Names:
        """Common prefixes below `prefix`, up to the next slash, that hold an object at any depth.

        SeaweedFS shows a folder for a while after its last object is gone, and other tools leave
        markers of empty ones.
        """
        folder = self._folder(prefix)
        with on_s3("list", self._uri(prefix)):
            found = obstore.list_with_delimiter(self._bulk, folder or None)
        names = sorted(path.rpartition("/")[2] for path in found["common_prefixes"])
        within = prefix.removesuffix("/")
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            filled = pool.map(lambda name: any(self.list(f"{within}/{name}" if within else name)), names)
            return [name for name, is_filled in zip(names, filled, strict=True) if is_filled]

    def list(self, prefix: str) -> Iterator[Listed]:
        """All pages of ListObjectsV2; not in byte order on every server.

        Markers of empty folders, which other tools leave (keys that end in a slash), are no
        objects.
        """
        with on_s3("list", self._uri(prefix)):
            pages = obstore.list(self._bulk, self._folder(prefix) or None, chunk_size=LISTED_AT_ONCE)
            for page in pages:
                for found in page:
                    # obstore drops the slash of a marker
                    # (tests/surface/test_s3.py::test_obstore_lists_a_folder_marker_as_an_object).
                    if found["size"] or self._is_there(found["path"]):
                        key = found["path"].removeprefix(self._bucket.folder)
                        yield _listed(key, found)

    def delete(self, keys: Sequence[str]) -> None:
        """DeleteObjects, a thousand at once."""
        with on_s3("delete objects of", self.uri):
            if keys:
                obstore.delete(self._bulk, [self._key(key) for key in keys])

    def copy(self, pairs: Sequence[tuple[str, str]], on_copied: Callable[[int], None] = nobody) -> None:
        """CopyObject, many at once; in parts where an object is too large for one."""
        wanted = [(self._key(source), self._key(destination)) for source, destination in pairs]
        known = self._known({source for source, _ in wanted})
        # Threads, not asyncio: as fast, and they work below a running event loop.
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            copies = [
                pool.submit(self._copy, source, destination, known[source].size)
                for source, destination in wanted
            ]
            finished(pool, copies, on_copied)

    def stream(self, key: str) -> Iterator[bytes]:
        """Ranges, one after the other: each is a request of its own, however slow the whole is."""
        with on_s3("read", self._uri(key)):
            path = self._key(key)
            size = obstore.head(self._bulk, path)["size"]
            for start in range(0, size, PIECE):
                yield bytes(obstore.get_range(self._bulk, path, start=start, end=min(start + PIECE, size)))

    def receive(
        self, source: Objects, pairs: Sequence[tuple[str, str]], on_received: Callable[[int], None] = nobody
    ) -> None:
        """UploadPartCopy and CopyObject within one server, PutObject and UploadPart from elsewhere."""
        wanted = [(key, self._key(destination)) for key, destination in pairs]
        if isinstance(source, S3Objects) and source._access.same_server(self._access):
            known = source._known({source._key(key) for key, _ in wanted})
            origin = source._bucket.name
            across = [
                partial(copy_across, self._client, origin, known[source._key(key)], self._bucket.name, path)
                for key, path in wanted
            ]
            at_once = IN_FLIGHT
        else:
            name = self._bucket.name
            across = [partial(upload, self._client, name, path, source.stream(key)) for key, path in wanted]
            at_once = UPLOADED_AT_ONCE
        with ThreadPoolExecutor(at_once) as pool, on_s3("copy to", self.uri):
            finished(pool, [pool.submit(each) for each in across], on_received)

    def _copy(self, source: str, destination: str, size: int) -> None:
        with on_s3("copy", f"s3://{self._bucket.name}/{source}"):
            if size <= self._multipart_above:
                obstore.copy(self._copier, source, destination, overwrite=True)
                return
            self._client.copy(
                {"Bucket": self._bucket.name, "Key": source},
                self._bucket.name,
                destination,
                Config=TransferConfig(
                    multipart_threshold=self._multipart_above,
                    multipart_chunksize=min(PART, self._multipart_above),
                ),
            )

    def _known(self, keys: set[str]) -> dict[str, Listed]:
        """Sizes and ETags of the objects, by one listing of each folder instead of a request for each."""
        known: dict[str, Listed] = {}
        for folder in sorted({key.rpartition("/")[0] for key in keys}):
            with on_s3("list", f"s3://{self._bucket.name}/{folder}"):
                found = obstore.list_with_delimiter(self._bulk, folder or None)
            known |= {each["path"]: _listed(each["path"], each) for each in found["objects"]}
        for key in sorted(keys - known.keys())[:1]:
            raise StoreError(
                f"cannot copy s3://{self._bucket.name}/{key}: the object does not exist",
                next_step="lancemig status",
            )
        return known

    def _is_there(self, path: str) -> bool:
        try:
            obstore.head(self._bulk, path)
        except FileNotFoundError:
            return False
        return True

    def _key(self, key: str) -> str:
        return self._bucket.folder + checked(key)

    def _folder(self, prefix: str) -> str:
        return self._bucket.folder + folder_of(prefix)

    def _uri(self, key: str) -> str:
        return f"{self.uri}/{key}"


def _listed(key: str, meta: "ObjectMeta") -> Listed:
    return Listed(key, meta["size"], bare(meta["e_tag"]), meta["last_modified"])
