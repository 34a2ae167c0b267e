"""Small objects with conditional writes, and bulk copies, in a bucket or a local directory.

The `storage_options.*` of lancemig.ini (without that prefix) are:

    endpoint    http(s) address of the S3 server; default: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL,
                the profile's endpoint_url, AWS_ENDPOINT, else AWS itself
    region      default: as AWS tools find it, else us-east-1; on AWS, the bucket's own prevails
    path_style  true or false; default: true where there is an endpoint
    profile     a profile of ~/.aws/config; default: AWS_PROFILE

Credentials are never options: they come from the usual AWS sources, in boto3's order. A local
directory needs none of these and ignores them.
"""

import time
from collections.abc import Callable, Mapping

from lancemig.store.objects.base import (
    ObjectBody,
    ObjectInfo,
    Objects,
    PreconditionFailed,
    WriteOk,
    has_checksum,
    same_content,
)
from lancemig.store.objects.confined import Confined, out_of_bounds
from lancemig.store.objects.location import Bucket, S3Options, location

__all__ = [
    "Confined",
    "ObjectBody",
    "ObjectInfo",
    "Objects",
    "PreconditionFailed",
    "WriteOk",
    "has_checksum",
    "open_objects",
    "out_of_bounds",
    "same_content",
]


def open_objects(
    store: str, options: Mapping[str, str], *, sleep: Callable[[float], None] = time.sleep
) -> Objects:
    """Open a store, and check that it exists.

    Args:
        store: `s3://bucket[/sub/prefix]`, `file://…` or a local path.
        options: The storage options; a directory needs none, and ignores them.
        sleep: For the pauses between attempts at a conditional write.

    Raises:
        ConfigError: The address or an option is not valid.
        StoreError: The bucket or directory does not exist or does not answer. A disk that is not mounted is
            not an empty catalog.
    """
    s3_options = S3Options.read(options)
    where = location(store)
    # Imported here, so that verbs on files load neither, and a local catalog is opened without boto3.
    if not isinstance(where, Bucket):
        from lancemig.store.objects.local import open_directory

        return open_directory(where)
    from lancemig.store.objects.s3 import open_bucket

    return open_bucket(where, s3_options, sleep=sleep)
