"""Where a migration says that the proof before its flip need not be exact."""

from typing import Any

from pydantic import Field

from lancemig.catalog.value import Value


class Tolerance(Value):
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
