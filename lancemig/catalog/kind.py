"""The kinds of a migration: what each promises; apart, so that headers are read without Arrow."""

from enum import StrEnum


class Kind(StrEnum):
    """What a migration promises to the programs that use the catalog; later words promise less."""

    DATA_ONLY = "data-only"
    ADDITIVE = "additive"
    REBUILD = "rebuild"

    @property
    def rank(self) -> int:
        """0, 1, 2: the strongest promise first."""
        return list(Kind).index(self)

    @classmethod
    def weakest(cls, kinds: "list[Kind]") -> "Kind":
        """The kind of a migration made of operations of these kinds; `data-only` for none."""
        return max(kinds, key=lambda kind: kind.rank, default=cls.DATA_ONLY)
