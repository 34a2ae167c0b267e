"""The JSON documents that lancemig stores: parsing, the format gate, and serialisation.

There are nine: the pointer, a lineage entry, a verification report, a saved plan, the sidecar of a run, the
lock, a reader lease, the record of a copy, and the owner of a staged root. Each declares a `DocumentType`;
`store/documents.py` reads and writes the documents in a store.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from lancemig.catalog.value import FrozenModel
from lancemig.errors import ConfigError, LancemigError, StoreError

UPGRADE = "upgrade lancemig: pip install -U lancemig"
_NAMED_FIELDS = 3
_LONGEST_VALUE = 40


class StoredModel(FrozenModel):
    """The content of a stored document."""

    def document(self) -> dict[str, Any]:
        """The JSON object that is stored; its values are JSON values."""
        return self.model_dump(mode="json")


T = TypeVar("T", bound=StoredModel)


@dataclass(frozen=True)
class DocumentType(Generic[T]):
    """One kind of document: how it is parsed and written, and what its errors say."""

    model: type[T]
    name: str
    """What messages call it: `is not a valid <name>`."""
    format: int
    """The newest format that this version of lancemig reads, and the one it writes."""
    next_step: str
    """The next step if a document is damaged; `{where}` stands for the document."""
    newer: str = UPGRADE
    """The next step if a document has a newer format."""
    error: type[LancemigError] = StoreError
    """Raised if a document is damaged."""
    newer_error: type[LancemigError] = ConfigError
    """Raised if a document has a newer format."""
    ensure_ascii: bool = True
    """Whether characters outside ASCII are escaped in the stored text."""

    def decode(self, body: bytes | str, where: str) -> T:
        """Parse a stored document; `where` names it in errors.

        Raises:
            LancemigError: `error` for a damaged document, `newer_error` for a newer format.
        """
        try:
            document = json.loads(body)
        except UnicodeDecodeError as error:
            raise self.damaged(where, "is not UTF-8 text") from error
        except (ValueError, RecursionError) as error:
            raise self.damaged(where, f"is not valid JSON: {error}") from error
        return self.parse(document, where)

    def parse(self, document: Any, where: str) -> T:
        """Parse a document that has been read as JSON; raises as `decode` does."""
        self.check_format(document, where)
        return self.validate(document, where)

    def check_format(self, document: Any, where: str) -> None:
        """Refuse what is not a JSON object, and formats newer than this version of lancemig."""
        if not isinstance(document, Mapping):
            raise self.damaged(where, "is not a JSON object")
        found = document.get("format", 1)
        if not isinstance(found, int) or isinstance(found, bool):
            raise self.damaged(
                where, f"is not a valid {self.name}: field format must be an integer, not {_shown(found)}"
            )
        if found > self.format:
            raise self.newer_error(
                f"{where} has format {found}; this version of lancemig supports formats up to {self.format}",
                next_step=self.newer,
            )

    def validate(self, content: Mapping[str, Any], where: str) -> T:
        """The model with the fields in `content`; `error` names the fields that are wrong."""
        try:
            return self.model.model_validate(content)
        except ValidationError as error:
            raise self.damaged(where, f"is not a valid {self.name}: {field_problems(error)}") from error

    def encode(self, value: T) -> bytes:
        """The text that is stored."""
        return json.dumps(value.document(), indent=1, ensure_ascii=self.ensure_ascii).encode()

    def damaged(self, where: str, problem: str) -> LancemigError:
        """The error for a document that cannot be read: `<where> <problem>`."""
        return self.error(f"{where} {problem}", next_step=self.next_step.format(where=where))


def field_problems(error: ValidationError) -> str:
    """Which fields of a document are wrong, and how: `field origin.prefix must be text, not 7`."""
    problems = error.errors(include_url=False)
    texts = [_problem(problem) for problem in problems[:_NAMED_FIELDS]]
    more = len(problems) - len(texts)
    return "; ".join([*texts, *([f"and {more} more"] if more else [])])


_EXPECTED = {
    "string": "text",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "dict": "an object",
    "model": "an object",
    "tuple": "a list",
    "list": "a list",
    "datetime": "a time such as 2026-05-20T19:42:10Z",
    "timezone": "a time such as 2026-05-20T19:42:10Z",
}
"""What a field must be, by the first word of pydantic's error type (`string_type`, `int_parsing`, ...)."""


def _problem(problem: Any) -> str:
    kind, context = problem["type"], problem.get("ctx", {})
    field = _path(problem["loc"])
    if kind == "missing":
        return f"{field} is missing"
    if kind == "extra_forbidden":
        return f"{field} is unknown"
    if kind in ("value_error", "assertion_error"):
        return f"{field}: {context['error']}"
    expected = _EXPECTED.get(kind.partition("_")[0])
    if kind in ("enum", "literal_error"):
        expected = f"one of {context['expected']}"
    shown = _shown(problem["input"])
    return f"{field} must be {expected}, not {shown}" if expected else f"{field} has no valid value: {shown}"


def _path(parts: tuple[int | str, ...]) -> str:
    """`field migrations[0].steps[1].kind`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return f"field {text.removeprefix('.')}" if text else "the document"


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"
