"""What S3, boto3 and obstore raise, in lancemig's words; nowhere else is it translated."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
)
from obstore.exceptions import BaseError, InvalidPathError
from s3transfer.exceptions import S3CopyFailedError  # type: ignore[import-untyped]

from lancemig.errors import StoreError

BOTO_ERRORS: tuple[type[Exception], ...] = (BotoCoreError, ClientError)
ALL_ERRORS: tuple[type[Exception], ...] = (
    *BOTO_ERRORS,
    BaseError,
    FileNotFoundError,
    S3CopyFailedError,
    ValueError,
)

NO_CREDENTIALS = (
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
)
MALFORMED = (InvalidPathError, ParamValidationError, ValueError)
NEVER_SENT = (*NO_CREDENTIALS, *MALFORMED)

TRY_LATER = "run the same command again later"
MEND_THE_STORE = "create the bucket, or fix `store` and `storage_options` in lancemig.ini"
CHECK_RIGHTS = (
    "check the credentials (AWS_ACCESS_KEY_ID, AWS_PROFILE or storage_options.profile) and their "
    "permissions on the bucket, then run the same command again"
)
CHECK_NETWORK = "check storage_options.endpoint and region, and the network, then run the same command again"
ASK_DOCTOR = "lancemig doctor"


class Answer(Enum):
    """What an error says of a request that would have changed something."""

    CONDITION = "the request was not executed: its condition does not hold"
    LOST = "the request may or may not have been executed, and may still be executed"
    FAILED = "the request was refused; a retry does not help"


def answer_of(error: Exception) -> Answer:
    """Sort the error of a conditional write, or of reading back."""
    if not isinstance(error, ClientError):
        return Answer.FAILED if isinstance(error, NEVER_SENT) else Answer.LOST
    status = status_of(error) or 0
    # If-Match on a missing key is 412 or 404, by server (tests/surface/test_s3.py::
    # test_if_match_on_a_missing_key_is_412_or_404); 409 is a conflict of two such writes.
    if status in (409, 412) or is_missing(error):
        return Answer.CONDITION
    if status == 501 or (status < 500 and status != 429 and code_of(error) != "RequestTimeout"):
        return Answer.FAILED
    return Answer.LOST


def is_missing(error: Exception) -> bool:
    """Say whether it is the object that is not there, and not the bucket."""
    return status_of(error) == 404 and code_of(error) != "NoSuchBucket"


def status_of(error: Exception) -> int | None:
    """Return the HTTP status, None where there was no answer."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return int(status) if status else None
    found = re.search(r"status code: (\d{3})", str(error))
    return int(found[1]) if found else None


def code_of(error: Exception) -> str:
    """Return S3's own word for the error, empty where it gave none."""
    if isinstance(error, ClientError):
        code = str(error.response.get("Error", {}).get("Code", ""))
    else:
        found = re.search(r"<Code>(\w+)</Code>", str(error))
        code = found[1] if found else ""
    return "" if code.isdigit() else code


def failure(error: Exception, what: str, uri: str) -> StoreError:
    """Say what failed, where, how, and what to do; no secret is among it.

    The libraries' own texts are not repeated: they quote requests and the server's answers.
    """
    return StoreError(f"cannot {what} {uri}: {_how(error)}", next_step=_next_step(error))


def _how(error: Exception) -> str:
    status = status_of(error)
    if status is not None:
        return f"HTTP {status} {code_of(error)}".rstrip()
    if isinstance(error, MALFORMED):
        return str(error).partition("\n")[0]
    if isinstance(error, NO_CREDENTIALS):
        return f"no credentials ({type(error).__name__})"
    return f"no response ({type(error).__name__})"


def _next_step(error: Exception) -> str:
    status = status_of(error)
    if code_of(error) == "NoSuchBucket" or isinstance(error, MALFORMED):
        return MEND_THE_STORE
    if status in (401, 403) or isinstance(error, NO_CREDENTIALS):
        return CHECK_RIGHTS
    if status is None or 300 <= status < 400:
        return CHECK_NETWORK
    return TRY_LATER if status in (429, 500, 502, 503, 504) else ASK_DOCTOR


@contextmanager
def on_s3(what: str, uri: str) -> Iterator[None]:
    """Turn what boto3 and obstore raise into a StoreError that names the object."""
    try:
        yield
    except ALL_ERRORS as error:
        raise failure(error, what, uri) from error
