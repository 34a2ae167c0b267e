"""The same is done for many tables at once: each of them is a few requests to a store."""

from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")


def parallel_map(do: Callable[[S], T], items: Collection[S]) -> list[T]:
    """What `do` gives for each, in their order; what the first of them raises, and no more are begun then."""
    if len(items) < 2:
        return [do(item) for item in items]
    with ThreadPoolExecutor(max_workers=16) as threads:
        return list(threads.map(do, items))
