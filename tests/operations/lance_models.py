"""A LanceDB model, as a consumer declares it."""

from lancedb.pydantic import LanceModel, Vector


class Embedded(LanceModel):
    """A row with a vector."""

    id: int
    v: Vector(2)  # type: ignore[valid-type]
    name: str | None = None
