"""One function over many tables in parallel: each takes a few requests to a store."""

from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")


def parallel_map(do: Callable[[S], T], items: Collection[S]) -> list[T]:
    """Apply `do` to all items in threads; results in the order of the items. The first error is raised."""
    if len(items) < 2:
        return [do(item) for item in items]
    with ThreadPoolExecutor(max_workers=16) as threads:
        return list(threads.map(do, items))
