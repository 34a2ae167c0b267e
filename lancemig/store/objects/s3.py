"""Objects in a bucket: boto3 for reads and conditional writes, obstore for bulk requests."""

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import obstore
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError, IncompleteReadError, ResponseStreamingError

from lancemig.errors import LancemigError, OutcomeUnknown, StoreError
from lancemig.events import log_event
from lancemig.store.objects.base import (
    Names,
    ObjectBody,
    ObjectInfo,
    Objects,
    PreconditionFailed,
    WriteOk,
    checked,
    folder_of,
    ignore_progress,
    logged_write,
    wait_for_all,
)
from lancemig.store.objects.location import Bucket, S3Options, s3_uri
from lancemig.store.objects.s3_client import (
    ASK_DOCTOR,
    BOTO_ERRORS,
    COPY_SECONDS,
    Access,
    Answer,
    answer_of,
    failure,
    is_missing,
    on_s3,
)

if TYPE_CHECKING:
    from obstore import ObjectMeta


_log = logging.getLogger(__name__)

# Seconds between attempts. It is safe to send the same write again under the same condition: if an earlier
# one still lands, the condition refuses all others.
PAUSES = (0.2, 1.0, 3.0, 10.0)

BROKEN_OFF = (ResponseStreamingError, IncompleteReadError)
READS_AGAIN = 2


def get(client: Any, bucket: str, key: str) -> ObjectBody | None:
    """Read one object; None if it does not exist. Raises what boto3 raises.

    A response that breaks off is requested again, which boto3 does not do by itself.
    """
    for _ in range(READS_AGAIN):
        with suppress(*BROKEN_OFF):
            return _get(client, bucket, key)
        log_event(_log, "read_retried", "reading %s again: its answer broke off", key, key=key)
    return _get(client, bucket, key)


def _get(client: Any, bucket: str, key: str) -> ObjectBody | None:
    try:
        answer = client.get_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if is_missing(error):
            return None
        raise
    return ObjectBody(answer["Body"].read(), answer["ETag"])


def same_etag(one: str | None, other: str | None) -> bool:
    """Whether two ETags are equal, apart from quotes and the mark of a weak one, which proxies change."""
    return bare_etag(one) == bare_etag(other)


def bare_etag(etag: str | None) -> str | None:
    """The ETag without quotes and the mark of a weak one."""
    return None if etag is None else etag.removeprefix("W/").strip('"')


@dataclass(slots=True)
class ConditionalWrite:
    """One conditional write, attempted until its outcome is known.

    `client` must send each request once: a retry by boto3 of a write that landed fails against that write
    (tests/surface/test_s3.py::test_a_retry_fails_on_our_own_write).
    """

    client: Any
    bucket: str
    key: str
    body: bytes
    expected: str | None
    lost: bool = False

    def run(self, sleep: Callable[[float], None]) -> WriteOk | PreconditionFailed:
        """Write; OutcomeUnknown if it may have landed and the object cannot be read back."""
        outcome = self._attempt()
        for pause in PAUSES:
            if not isinstance(outcome, Exception):
                return outcome
            about = {"key": self.key, "cause": type(outcome).__name__, "pause": pause}
            log_event(_log, "write_retried", "writing %s again after %s in %.1f s", *about.values(), **about)
            sleep(pause)
            outcome = self._attempt()
        if isinstance(outcome, Exception):
            raise self._unsettled(outcome) from outcome
        return outcome

    def _attempt(self) -> WriteOk | PreconditionFailed | Exception:
        """Write once, and read back unless the write was acknowledged.

        Returns the error if another attempt may find out more; raises if it cannot.
        """
        try:
            return WriteOk(self._put())
        except BOTO_ERRORS as error:
            answer, refusal = answer_of(error), error
        if answer is Answer.FAILED:
            raise self._failed(refusal) from refusal
        self.lost = self.lost or answer is Answer.LOST
        try:
            found = get(self.client, self.bucket, self.key)
        except BOTO_ERRORS as error:
            if answer_of(error) is Answer.LOST:
                return error
            raise self._unknown(error) from error
        judged = self._judge(found)
        told = "unchanged" if judged is None else "written" if isinstance(judged, WriteOk) else "changed"
        log_event(_log, "written_read_back", "%s read back: %s", self.key, told, key=self.key, outcome=told)
        return judged or refusal

    def _put(self) -> str:
        # Quoted as received; what is compared here is compared without the quotes.
        condition = {"IfNoneMatch": "*"} if self.expected is None else {"IfMatch": self.expected}
        answer = self.client.put_object(Bucket=self.bucket, Key=self.key, Body=self.body, **condition)
        return str(answer["ETag"])

    def _judge(self, found: ObjectBody | None) -> WriteOk | PreconditionFailed | None:
        """The outcome, from the object read back; None if it is unchanged, as if nothing had been sent."""
        if found is not None and found.body == self.body:
            return WriteOk(found.version_token)
        if not same_etag(found.version_token if found else None, self.expected):
            return PreconditionFailed(found, answer_lost=self.lost)
        return None

    def _failed(self, error: Exception) -> LancemigError:
        return self._unknown(error) if self.lost else failure(error, "write", self._uri)

    def _unsettled(self, error: Exception) -> LancemigError:
        if self.lost or answer_of(error) is Answer.LOST:
            return self._unknown(error)
        return StoreError(
            f"the server refuses every conditional write of {self._uri}, although the object is "
            "unchanged: it does not implement conditional writes as S3 does",
            next_step=ASK_DOCTOR,
        )

    def _unknown(self, error: Exception) -> OutcomeUnknown:
        return OutcomeUnknown(
            f"it is unknown whether {self._uri} was written: {failure(error, 'reach', 'it').message}",
            next_step="run lancemig status before any other command",
        )

    @property
    def _uri(self) -> str:
        return s3_uri(self.bucket, self.key)


PIECE = 16 * 1024**2
"""The size of a read and of an uploaded part; 10,000 parts are 160 GiB."""

UPLOADED_AT_ONCE = 4
LARGEST_COPY = 5 * 1024**3
_LEAST_PART = 5 * 1024**2


def copy_across(client: Any, origin: str, info: ObjectInfo, bucket: str, key: str) -> None:
    """Copy an object from another bucket of the server, in the parts in which it was uploaded.

    The copy then has the ETag of the original, and the two are compared without reading them.
    """
    source = {"Bucket": origin, "Key": info.key}
    part = _part_size(client, source, info)
    if part is None and info.size <= LARGEST_COPY:
        client.copy_object(Bucket=bucket, Key=key, CopySource=source)
        return
    size = part or 128 * 1024**2
    client.copy(source, bucket, key, Config=TransferConfig(multipart_threshold=1, multipart_chunksize=size))


def _part_size(client: Any, source: dict[str, str], info: ObjectInfo) -> int | None:
    """The part size of an object that was uploaded in parts of one size; None for any other object."""
    _, dash, count = (info.etag or "").partition("-")
    if not dash or not count.isdigit():
        return None
    part = int(client.head_object(**source, PartNumber=1)["ContentLength"])
    fits = part * (int(count) - 1) < info.size <= part * int(count)
    return part if fits and (part >= _LEAST_PART or count == "1") else None


def upload(client: Any, bucket: str, key: str, pieces: Iterator[bytes]) -> None:
    """Write an object from a stream; a small one in one request, so that its ETag is the content's digest.

    Uses boto3: obstore cannot read one object while it writes another from the same thread.
    """
    first, second = next(pieces, b""), next(pieces, None)
    if second is None:
        client.put_object(Bucket=bucket, Key=key, Body=first)
        return
    name = {"Bucket": bucket, "Key": key}
    name["UploadId"] = client.create_multipart_upload(**name)["UploadId"]
    try:
        parts = [
            {"PartNumber": number, "ETag": client.upload_part(**name, PartNumber=number, Body=body)["ETag"]}
            for number, body in enumerate(_parts(chain((first, second), pieces)), 1)
        ]
        client.complete_multipart_upload(**name, MultipartUpload={"Parts": parts})
    except BaseException:
        with suppress(*BOTO_ERRORS):
            client.abort_multipart_upload(**name)
        raise


def _parts(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of one size."""
    buffer = b""
    for piece in pieces:
        buffer += piece
        while len(buffer) >= PIECE:
            yield buffer[:PIECE]
            buffer = buffer[PIECE:]
    if buffer:
        yield buffer


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
    """Open a bucket; StoreError if it does not exist, denies access or does not answer."""
    return S3Objects(bucket, Access.to(bucket, options), sleep, multipart_above)


class S3Objects:
    """The objects of a bucket, or those below one folder."""

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
        """The address of the bucket, and of the folder in it."""
        return self._bucket.uri

    def lance_options(self) -> dict[str, str]:
        """Endpoint, region and credentials; credentials are secrets, and expire."""
        return self._access.lance_options()

    def read(self, key: str) -> ObjectBody | None:
        """Read the object with GetObject."""
        with on_s3("read", self._uri(key)):
            return get(self._client, self._bucket.name, self._key(key))

    def info(self, key: str) -> ObjectInfo | None:
        """Size, time and owner of the object, from ListObjectsV2; not every server knows owners."""
        wanted = {"Bucket": self._bucket.name, "Prefix": self._key(key), "MaxKeys": 1, "FetchOwner": True}
        with on_s3("list", self._uri(key)):
            found = self._client.list_objects_v2(**wanted).get("Contents", [])
        if not found or found[0]["Key"] != self._key(key):
            return None
        owner = found[0].get("Owner", {})
        return ObjectInfo(
            key,
            found[0]["Size"],
            etag=found[0]["ETag"].strip('"'),
            modified=found[0]["LastModified"],
            owner=owner.get("DisplayName") or owner.get("ID"),
        )

    @logged_write
    def write_if(self, key: str, body: bytes, expected: str | None) -> WriteOk | PreconditionFailed:
        """PutObject with If-Match or If-None-Match, repeated until the outcome is known."""
        name = self._bucket.name
        return ConditionalWrite(self._once, name, self._key(key), body, expected).run(self._sleep)

    def folders(self, prefix: str) -> Names:
        """Common prefixes below `prefix` that have an object at any depth.

        SeaweedFS lists a folder for a while after its last object is gone, and other tools leave markers of
        empty folders.
        """
        folder = self._folder(prefix)
        with on_s3("list", self._uri(prefix)):
            found = obstore.list_with_delimiter(self._bulk, folder or None)
        names = sorted(path.rpartition("/")[2] for path in found["common_prefixes"])
        within = prefix.removesuffix("/")
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            filled = pool.map(lambda name: any(self.list(f"{within}/{name}" if within else name)), names)
            return [name for name, is_filled in zip(names, filled, strict=True) if is_filled]

    def entries(self, prefix: str) -> tuple[Names, Names]:
        """Names of the objects and common prefixes directly below `prefix`, without markers of folders."""
        folder = self._folder(prefix)
        with on_s3("list", self._uri(prefix)):
            found = obstore.list_with_delimiter(self._bulk, folder or None)
        folders = [path.rpartition("/")[2] for path in found["common_prefixes"]]
        files = [each["path"].rpartition("/")[2] for each in found["objects"] if each["size"]]
        return sorted(files), sorted(folders)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """All pages of ListObjectsV2; not in byte order on every server.

        Markers of empty folders, which other tools leave (keys that end in a slash), are left out.
        """
        with on_s3("list", self._uri(prefix)):
            pages = obstore.list(self._bulk, self._folder(prefix) or None, chunk_size=LISTED_AT_ONCE)
            for page in pages:
                for found in page:
                    # obstore drops the slash of a marker
                    # (tests/surface/test_s3.py::test_obstore_lists_a_folder_marker_as_an_object).
                    if found["size"] or self._exists(found["path"]):
                        key = found["path"].removeprefix(self._bucket.folder)
                        yield _info(key, found)

    def delete(self, keys: Sequence[str]) -> None:
        """DeleteObjects, a thousand keys a request."""
        with on_s3("delete objects of", self.uri):
            if keys:
                obstore.delete(self._bulk, [self._key(key) for key in keys])

    def copy(
        self, pairs: Sequence[tuple[str, str]], on_copied: Callable[[int], None] = ignore_progress
    ) -> None:
        """CopyObject, many at a time; in parts if an object is too large for one request."""
        wanted = [(self._key(source), self._key(destination)) for source, destination in pairs]
        known = self._infos({source for source, _ in wanted})
        # Threads, not asyncio: as fast, and they work below a running event loop.
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            copies = [
                pool.submit(self._copy, source, destination, known[source].size)
                for source, destination in wanted
            ]
            wait_for_all(pool, copies, on_copied)

    def stream(self, key: str) -> Iterator[bytes]:
        """Read the object range by range, each with a request of its own."""
        with on_s3("read", self._uri(key)):
            path = self._key(key)
            size = obstore.head(self._bulk, path)["size"]
            for start in range(0, size, PIECE):
                yield bytes(obstore.get_range(self._bulk, path, start=start, end=min(start + PIECE, size)))

    def copy_from(
        self,
        source: Objects,
        pairs: Sequence[tuple[str, str]],
        on_copied: Callable[[int], None] = ignore_progress,
    ) -> None:
        """UploadPartCopy and CopyObject within one server, PutObject and UploadPart from other stores."""
        wanted = [(key, self._key(destination)) for key, destination in pairs]
        if isinstance(source, S3Objects) and source._access.same_server(self._access):
            known = source._infos({source._key(key) for key, _ in wanted})
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
            wait_for_all(pool, [pool.submit(each) for each in across], on_copied)

    def _copy(self, source: str, destination: str, size: int) -> None:
        with on_s3("copy", s3_uri(self._bucket.name, source)):
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

    def _infos(self, keys: set[str]) -> dict[str, ObjectInfo]:
        """Sizes and ETags of the objects, from one listing of each folder instead of a request for each."""
        known: dict[str, ObjectInfo] = {}
        for folder in sorted({key.rpartition("/")[0] for key in keys}):
            with on_s3("list", s3_uri(self._bucket.name, folder)):
                found = obstore.list_with_delimiter(self._bulk, folder or None)
            known |= {each["path"]: _info(each["path"], each) for each in found["objects"]}
        for key in sorted(keys - known.keys())[:1]:
            raise StoreError(
                f"cannot copy {s3_uri(self._bucket.name, key)}: the object does not exist",
                next_step="lancemig status",
            )
        return known

    def _exists(self, path: str) -> bool:
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


def _info(key: str, meta: "ObjectMeta") -> ObjectInfo:
    return ObjectInfo(key, meta["size"], bare_etag(meta["e_tag"]), meta["last_modified"])
