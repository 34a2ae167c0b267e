"""What must hold of a catalog, as SQL and what it is expected to give."""

from typing import Annotated, Any, Literal

from pydantic import PlainSerializer, PlainValidator, field_validator

from lancemig.catalog.value import Value

When = Literal["before", "after"]
Expected = bool | int | float | str | tuple[()] | None
"""A single value, or an empty tuple: no row."""

_LONGEST = 60


def _as_expected(given: Any) -> Expected:
    if given is None or isinstance(given, bool | int | float | str):
        return given
    if isinstance(given, list | tuple):
        if given:
            raise ValueError("a list must be empty: [] means that the query must return no row")
        return ()
    raise ValueError(
        f"expected a number, text, True, False, None or [], not a {type(given).__name__}; write dates "
        "and decimals as text"
    )


class Check(Value):
    """An SQL query over the tables of a catalog, and what it gives while all is well.

    `expect` is `[]`, and then no row may come: those that come are the offenders. Or it is the value of the
    single cell that the query gives. `when` says whether a migration's check is made before it, after it,
    or both. The SQL is DuckDB's; it only reads.
    """

    sql: str
    expect: Annotated[Expected, PlainValidator(_as_expected), PlainSerializer(lambda found: found)] = ()
    name: str | None = None
    when: Literal["before", "after", "both"] = "both"

    @field_validator("sql")
    @classmethod
    def _not_empty(cls, given: str) -> str:
        if not given.strip():
            raise ValueError("an SQL query is required")
        return given

    @property
    def title(self) -> str:
        """What results call it: its name, or the head of its SQL."""
        if self.name:
            return self.name
        line = " ".join(self.sql.split())
        return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"

    def due(self, when: When) -> bool:
        """Whether it is to be made then."""
        return self.when in (when, "both")
