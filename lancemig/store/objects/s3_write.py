"""A conditional write to S3 that ends in one of: written, moved, or not known."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError, IncompleteReadError, ResponseStreamingError

from lancemig.errors import LancemigError, OutcomeUnknown, StoreError
from lancemig.store.objects.s3_errors import (
    ASK_DOCTOR,
    BOTO_ERRORS,
    Answer,
    answer_of,
    failure,
    is_missing,
)
from lancemig.store.objects.values import Found, Moved, Written

# Between attempts, in seconds. To send the same write again under the same condition is safe:
# whenever an earlier one still lands, the condition keeps all but one of them out.
PAUSES = (0.2, 1.0, 3.0, 10.0)

BROKEN_OFF = (ResponseStreamingError, IncompleteReadError)
READS_AGAIN = 2


def get(client: Any, bucket: str, key: str) -> Found | None:
    """Read one object, None where there is none; raises what boto3 raises.

    An answer that breaks off is asked for again, which boto3 does not do by itself.
    """
    for _ in range(READS_AGAIN):
        with suppress(*BROKEN_OFF):
            return _get(client, bucket, key)
    return _get(client, bucket, key)


def _get(client: Any, bucket: str, key: str) -> Found | None:
    try:
        answer = client.get_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if is_missing(error):
            return None
        raise
    return Found(answer["Body"].read(), answer["ETag"])


def same(one: str | None, other: str | None) -> bool:
    """Compare ETags; servers and proxies differ in quotes and in the mark of a weak one."""
    return bare(one) == bare(other)


def bare(etag: str | None) -> str | None:
    """The ETag without quotes and the mark of a weak one."""
    return None if etag is None else etag.removeprefix("W/").strip('"')


@dataclass(slots=True)
class ConditionalWrite:
    """One write, attempted until its outcome is known.

    `client` must send each request once: boto3's own retry of a landed write fails against that
    very write (tests/surface/test_s3.py::test_a_retry_fails_on_our_own_write).
    """

    client: Any
    bucket: str
    key: str
    body: bytes
    expected: str | None
    lost: bool = False

    def run(self, sleep: Callable[[float], None]) -> Written | Moved:
        """Write; raises OutcomeUnknown where it may have landed and nobody can tell."""
        outcome = self._attempt()
        for pause in PAUSES:
            if not isinstance(outcome, Exception):
                return outcome
            sleep(pause)
            outcome = self._attempt()
        if isinstance(outcome, Exception):
            raise self._unsettled(outcome) from outcome
        return outcome

    def _attempt(self) -> Written | Moved | Exception:
        """Write once, and read back unless told that it is written.

        Returns the error where another attempt may tell more, raises where it cannot.
        """
        try:
            return Written(self._put())
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
        return self._judge(found) or refusal

    def _put(self) -> str:
        # Quoted as received; what is compared here is compared without the quotes.
        condition = {"IfNoneMatch": "*"} if self.expected is None else {"IfMatch": self.expected}
        answer = self.client.put_object(Bucket=self.bucket, Key=self.key, Body=self.body, **condition)
        return str(answer["ETag"])

    def _judge(self, found: Found | None) -> Written | Moved | None:
        """Say what the object, read back, tells; None: it is as if nothing had been sent."""
        if found is not None and found.body == self.body:
            return Written(found.etag)
        if not same(found.etag if found else None, self.expected):
            return Moved(found, answer_lost=self.lost)
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
        return f"s3://{self.bucket}/{self.key}"
