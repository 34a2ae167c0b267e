"""The base of every value: a frozen pydantic model that refuses unknown fields."""

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict


class Value(BaseModel):
    """Frozen, keyword-only, equal by content; an unknown field is refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        arbitrary_types_allowed=True,
        validate_default=True,
        serialize_by_alias=True,
    )


def canonical_json(document: Any) -> bytes:
    """The one spelling of `document` that digests are made from: sorted keys, no blanks, UTF-8."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def digest(document: Any) -> str:
    """The sha256 of the canonical JSON of `document`, in hex."""
    return hashlib.sha256(canonical_json(document)).hexdigest()
