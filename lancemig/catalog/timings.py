"""How long the phases of a run took: kept in the lineage, and what the next plan is estimated from."""

from typing import Literal

from lancemig.catalog.value import Value

Phase = Literal["step", "stage", "catch-up", "verify", "flip", "reconcile"]


class Timing(Value):
    """How long one phase took, of one table or of all.

    `way` is the strategy of a step, or how a table was carried; `operation` and `step` are the step's. `rows`
    and `bytes` are what the plan knew of it, so that another plan's can be set against them; where rows were
    brought over, how many, in so many `rounds`.
    """

    phase: Phase
    seconds: float
    table: str | None = None
    way: str | None = None
    operation: str | None = None
    step: str | None = None
    rows: int | None = None
    bytes: int | None = None
    rounds: int | None = None
