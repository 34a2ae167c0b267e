"""Checks: SQL queries with an expected result; and tolerances of the verification."""

from typing import Annotated, Any, Literal

from pydantic import Field, PlainSerializer, PlainValidator, field_validator

from lancemig.catalog.value import FrozenModel

When = Literal["before", "after"]
Expected = bool | int | float | str | tuple[()] | None
"""A single value; or an empty tuple, if the query must return no row."""

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


class Check(FrozenModel):
    """An SQL query over the tables of a catalog, and its expected result.

    `expect` is `[]` if the query must return no row, or the value of the single cell that it returns. `when`
    says whether a migration's check runs before it, after it, or both. The SQL is DuckDB's; it only reads.
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
        """Its name, or the beginning of its SQL, as results show it."""
        if self.name:
            return self.name
        line = " ".join(self.sql.split())
        return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"

    def due(self, when: When) -> bool:
        """Whether it runs before, or after, the migration."""
        return self.when in (when, "both")


class Tolerance(FrozenModel):
    """How far a rebuilt table, or one column of it, may differ from exact; both by their final names.

    `relative` and `absolute` are for recomputed numbers, which may differ by no more than either.
    `recompute=False` skips recomputation, for functions that are not deterministic. `recall`, from 0 to 1, is
    the share of the nearest neighbours that a vector index must find; `unindexed`, the number of rows that an
    index may leave out.
    """

    table: str
    column: str | None = None
    relative: float | None = Field(default=None, ge=0)
    absolute: float | None = Field(default=None, ge=0)
    recompute: bool = True
    recall: float | None = Field(default=None, ge=0, le=1)
    unindexed: int | None = Field(default=None, ge=0)

    def model_post_init(self, _context: Any) -> None:
        """Refuse a tolerance without any limit."""
        given = (self.relative, self.absolute, self.recall, self.unindexed)
        if self.recompute and all(one is None for one in given):
            raise ValueError("set at least one of relative, absolute, recompute=False, recall, unindexed")

    def holds_for(self, table: str, column: str) -> bool:
        """Whether it applies to this column."""
        return self.table == table and self.column in (None, column)

    def describe(self) -> str:
        """`recordings.gain: relative 1e-09`."""
        limits = [
            f"{name} {value:g}"
            for name, value in self.model_dump(
                include={"relative", "absolute", "recall", "unindexed"}, exclude_none=True
            ).items()
        ]
        limits += [] if self.recompute else ["not recomputed"]
        return f"{self.table}{f'.{self.column}' if self.column else ''}: {', '.join(limits)}"
