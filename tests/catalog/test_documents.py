"""Stored documents: what is refused, in which words, and which bytes are written."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import Field, ValidationError

from lancemig.apply.environment import Progress
from lancemig.apply.lock import LOCK, Lock
from lancemig.apply.retention.copy import COPY_RECORD
from lancemig.apply.retention.readers import READER_LEASE, ReaderLease
from lancemig.apply.root_owner import ROOT_OWNER
from lancemig.apply.sidecar import SIDECAR
from lancemig.catalog.checks import Tolerance
from lancemig.catalog.documents import DocumentType, StoredModel, field_problems
from lancemig.catalog.lineage import LINEAGE_ENTRY, POINTER, VERIFICATION_REPORT, AppliedMigration
from lancemig.errors import LancemigError, StoreError
from lancemig.plan.plan import PLAN

TYPES: list[DocumentType[Any]] = [
    POINTER, LINEAGE_ENTRY, VERIFICATION_REPORT, PLAN, SIDECAR, LOCK, READER_LEASE, COPY_RECORD, ROOT_OWNER,
]  # fmt: skip
NOON = datetime(2026, 5, 20, 12, tzinfo=UTC)


class Part(StoredModel):
    at: datetime
    sizes: tuple[int, ...] = ()


class Whole(StoredModel):
    format: int = 1
    name: str
    parts: dict[str, Part] = Field(default_factory=dict)
    done: bool = False


WHOLE = DocumentType(Whole, "whole", 1, next_step="look at {where}")


def refused(kind: DocumentType[Any], body: bytes, where: str = "a/b.json") -> LancemigError:
    with pytest.raises(LancemigError) as error:
        kind.decode(body, where)
    return error.value


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.name)
@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[]", b"7", b"{}", b'{"format": "1"}', b"[" * 100_000])
def test_a_damaged_document_is_named_and_has_one_next_step(kind: DocumentType[Any], body: bytes) -> None:
    error = refused(kind, body)
    assert isinstance(error, kind.error)
    assert error.message.startswith("a/b.json ")
    assert error.next_step
    assert error.next_step == kind.next_step.format(where="a/b.json")
    assert "pydantic" not in error.message
    assert "Input should" not in error.message


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.name)
def test_a_newer_format_is_refused_with_one_next_step(kind: DocumentType[Any]) -> None:
    error = refused(kind, json.dumps({"format": kind.format + 1, "later": "field"}).encode())
    assert isinstance(error, kind.newer_error)
    assert error.message == (
        f"a/b.json has format {kind.format + 1}; "
        f"this version of lancemig supports formats up to {kind.format}"
    )
    assert error.next_step == kind.newer


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({}, "field name is missing"),
        ({"name": 7}, "field name must be text, not 7"),
        ({"name": "x", "more": 1}, "field more is unknown"),
        ({"name": "x", "done": "perhaps"}, 'field done must be true or false, not "perhaps"'),
        ({"name": "x", "parts": []}, "field parts must be an object, not a list"),
        ({"name": "x", "parts": {"a": 1}}, "field parts.a must be an object, not 1"),
        (
            {"name": "x", "parts": {"a": {"at": "noon"}}},
            'field parts.a.at must be a time such as 2026-05-20T19:42:10Z, not "noon"',
        ),
        (
            {"name": "x", "parts": {"a": {"at": NOON.isoformat(), "sizes": [1, "two"]}}},
            'field parts.a.sizes[1] must be an integer, not "two"',
        ),
        ({"name": "x", "format": True}, "field format must be an integer, not true"),
        ({"name": "x", "format": None}, "field format must be an integer, not null"),
        (
            {"a": 1, "b": 1, "c": 1},
            "field name is missing; field a is unknown; field b is unknown; and 1 more",
        ),
    ],
    ids=str,
)
def test_the_wrong_fields_are_named_in_words_of_the_format(document: Any, problem: str) -> None:
    with pytest.raises(StoreError) as error:
        WHOLE.parse(document, "w.json")
    assert error.value.message == f"w.json is not a valid whole: {problem}"


def test_an_enumeration_lists_its_values() -> None:
    with pytest.raises(ValidationError) as error:
        AppliedMigration(revision="1", kind="none", sha256="")  # type: ignore[arg-type]
    assert field_problems(error.value) == (
        "field kind must be one of 'data-only', 'additive' or 'rebuild', not \"none\""
    )


def test_a_validator_speaks_for_itself() -> None:
    with pytest.raises(ValidationError) as error:
        Tolerance(table="t")
    assert field_problems(error.value) == (
        "the document: set at least one of relative, absolute, recompute=False, recall, unindexed"
    )


def test_a_long_value_is_shortened() -> None:
    error = refused(WHOLE, json.dumps({"name": "x", "done": "y" * 500}).encode())
    assert error.message.endswith(f'not "{"y" * 39}…')


def test_the_bytes_of_a_lock_and_of_a_lease_are_those_of_release_0_1_0() -> None:
    """That release wrote them with pydantic, and neither escapes what is not ASCII."""
    lock = Lock(
        id="056abe53af2e", run="r", actor="jürgen", host="größe", machine="m", pid=1, taken_at=NOON,
        heartbeat_at=NOON.replace(microsecond=1200), ttl_seconds=60.0,
        doing=Progress("step", "töne", rows=3),
    )  # fmt: skip
    lease = ReaderLease(
        id="056abe53af2e", root="", owner="jürgen", host="h", pid=1, taken_at=NOON, expires_at=NOON
    )
    assert LOCK.encode(lock) == lock.model_dump_json(indent=1).encode()
    assert READER_LEASE.encode(lease) == lease.model_dump_json(indent=1).encode()


def test_other_documents_are_escaped() -> None:
    assert WHOLE.encode(Whole(name="ü")) == (
        b'{\n "format": 1,\n "name": "\\u00fc",\n "parts": {},\n "done": false\n}'
    )
