"""Objects of elsewhere, put into a bucket: by the server itself where it has them, streamed where not."""

from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from typing import Any

from boto3.s3.transfer import TransferConfig

from lancemig.store.objects.s3_errors import BOTO_ERRORS
from lancemig.store.objects.values import Listed

PIECE = 16 * 1024**2
"""What is read, and uploaded, at once: 10,000 parts are 160 GiB."""

UPLOADED_AT_ONCE = 4
LARGEST_COPY = 5 * 1024**3
_LEAST_PART = 5 * 1024**2


def copy_across(client: Any, origin: str, found: Listed, bucket: str, key: str) -> None:
    """Copy an object from another bucket of the server, in the parts in which it was uploaded.

    So the copy has the ETag of the original, and the two are compared without being read.
    """
    source = {"Bucket": origin, "Key": found.key}
    part = _part_size(client, source, found)
    if part is None and found.size <= LARGEST_COPY:
        client.copy_object(Bucket=bucket, Key=key, CopySource=source)
        return
    size = part or 128 * 1024**2
    client.copy(source, bucket, key, Config=TransferConfig(multipart_threshold=1, multipart_chunksize=size))


def _part_size(client: Any, source: dict[str, str], found: Listed) -> int | None:
    """The size of the parts of an object that was uploaded in parts of one size; None for any other."""
    _, dash, count = (found.etag or "").partition("-")
    if not dash or not count.isdigit():
        return None
    part = int(client.head_object(**source, PartNumber=1)["ContentLength"])
    fits = part * (int(count) - 1) < found.size <= part * int(count)
    return part if fits and (part >= _LEAST_PART or count == "1") else None


def upload(client: Any, bucket: str, key: str, pieces: Iterator[bytes]) -> None:
    """Write an object from a stream; a small one at once, so that its ETag is the digest of its content.

    By boto3: obstore cannot read one object while it writes another from the same thread.
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
    waiting = b""
    for piece in pieces:
        waiting += piece
        while len(waiting) >= PIECE:
            yield waiting[:PIECE]
            waiting = waiting[PIECE:]
    if waiting:
        yield waiting
