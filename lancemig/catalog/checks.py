"""What must hold of a catalog, as SQL and what it is expected to give."""

from typing import Annotated, Any, Literal

from pydantic import Field, PlainSerializer, PlainValidator, field_validator

from lancemig.catalog.value import FrozenModel

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


class Check(FrozenModel):
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


class Tolerance(FrozenModel):
    """How far a rebuilt `table` (or one `column` of it), as it is called in the end, may be from exact.

    `relative` and `absolute` are for numbers that are computed again: they agree when they differ by no more
    than either. `recompute=False` computes nothing again, for values that are not the same twice. `recall` is
    what a vector index must find of the nearest neighbours, from 0 to 1; `unindexed`, how many rows an index
    may leave out.
    """

    table: str
    column: str | None = None
    relative: float | None = Field(default=None, ge=0)
    absolute: float | None = Field(default=None, ge=0)
    recompute: bool = True
    recall: float | None = Field(default=None, ge=0, le=1)
    unindexed: int | None = Field(default=None, ge=0)

    def model_post_init(self, _context: Any) -> None:
        """Refuse a tolerance that tolerates nothing."""
        given = (self.relative, self.absolute, self.recall, self.unindexed)
        if self.recompute and all(one is None for one in given):
            raise ValueError("set at least one of relative, absolute, recompute=False, recall, unindexed")

    def holds_for(self, table: str, column: str) -> bool:
        """Whether it is about this column."""
        return self.table == table and self.column in (None, column)

    def describe(self) -> str:
        """`recordings.gain: relative 1e-09`."""
        said = [
            f"{name} {value:g}"
            for name, value in self.model_dump(
                include={"relative", "absolute", "recall", "unindexed"}, exclude_none=True
            ).items()
        ]
        said += [] if self.recompute else ["not recomputed"]
        return f"{self.table}{f'.{self.column}' if self.column else ''}: {', '.join(said)}"
