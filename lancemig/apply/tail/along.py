"""What others did to a live table besides writing rows while it was staged: indices and metadata."""

from collections.abc import Iterator

from lancemig.apply.steps.transform import Passage
from lancemig.catalog.operations import CreateIndex, Operation, RenameColumn, SetMetadata
from lancemig.catalog.schema import Index, TableSchema, has_column
from lancemig.errors import VerifyFailed

_AGAIN = "lancemig recover --undo, then upgrade again, which includes the change"


def others_did(
    passage: Passage, before: TableSchema, now: TableSchema, target: TableSchema
) -> list[Operation]:
    """The operations that bring `target` what became of its source since it was pinned as `before`.

    An index that is gone from the source stays in the target, where the gates look for it. VerifyFailed for
    what cannot be brought: other columns, another key, an index that no operation makes.
    """
    name = passage.source or ""
    if before.columns != now.columns:
        raise VerifyFailed(f"the columns of {name} were changed during the rebuild", next_step=_AGAIN)
    if before.key != now.key:
        raise VerifyFailed(f"the key of {name} was changed during the rebuild", next_step=_AGAIN)
    return [*_indices(passage, before, now, target), *_metadata(passage, before, now)]


def _indices(
    passage: Passage, before: TableSchema, now: TableSchema, target: TableSchema
) -> Iterator[Operation]:
    table, there = passage.target or "", {index.name: index for index in target.indices}
    for index in now.indices:
        wanted = _called(passage, index)
        if index in before.indices or wanted is None or not has_column(target.columns, wanted.column):
            continue
        if there.get(wanted.name) == wanted:
            continue
        try:
            yield CreateIndex(table=table, **wanted.model_dump())
        except ValueError as error:
            raise VerifyFailed(
                f"the index {index.name} ({index.type}) of {passage.source} was built during the "
                "rebuild, and no operation can create this type of index",
                next_step=_AGAIN,
            ) from error


def _called(passage: Passage, index: Index) -> Index | None:
    """The index with its column called as at the end of the way."""
    column = index.column
    for step in passage.steps:
        if isinstance(step.operation, RenameColumn) and step.operation.column == column:
            column = step.operation.to
    return index.model_copy(update={"column": column})


def _metadata(passage: Passage, before: TableSchema, now: TableSchema) -> Iterator[Operation]:
    own = {
        name
        for step in passage.steps
        if isinstance(step.operation, SetMetadata) and step.operation.column is None
        for name in step.operation.metadata
    }
    names = sorted({*before.metadata, *now.metadata} - own)
    changed = {n: now.metadata.get(n) for n in names if now.metadata.get(n) != before.metadata.get(n)}
    if changed:
        yield SetMetadata(table=passage.target or "", metadata=changed)
