"""Where the columns of a staged table come from, as the declared operations tell."""

from collections.abc import Callable
from dataclasses import dataclass, field

from lancemig.apply.steps.transform import Passage
from lancemig.catalog.operations import (
    AddColumn,
    BackfillColumns,
    BuildTable,
    CreateIndex,
    CreateTable,
    DeleteRows,
    DropColumn,
    DropIndex,
    DropTable,
    Operation,
    RelaxColumn,
    RenameColumn,
    RenameTable,
    RequireColumn,
    RetypeColumn,
    RewriteTable,
    SetKey,
    SetMetadata,
    TransformTable,
    UndoRows,
    UpdateRows,
    UpsertRows,
)
from lancemig.catalog.schema import TableSchema


@dataclass
class Flow:
    """Where the columns of a staged table come from: `kept` have the name they had; `changed`, the reason.

    `cast` are those that were only cast, losing nothing, with the name they had. `asked` are columns that a
    function was asked for.
    """

    kept: dict[str, str]
    changed: dict[str, str] = field(default_factory=dict)
    cast: dict[str, str] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)

    @property
    def came(self) -> dict[str, str]:
        """The columns whose values tell one row from another as they did before, with the name they had."""
        return {**self.kept, **self.cast}

    def change(self, path: str, why: str, *, asked: bool = False) -> None:
        """The column at `path`, or a field of it, is not what it was."""
        head = path.partition(".")[0]
        self.kept.pop(head, None)
        self.cast.pop(head, None)
        self.changed[head] = why
        if asked:
            self.asked.add(head)

    def rename(self, old: str, new: str) -> None:
        """A whole column has another name; one of a struct's fields changes no value."""
        if "." in old:
            return
        for known in (self.kept, self.changed, self.cast):
            if old in known:
                known[new] = known.pop(old)
        if old in self.asked:
            self.asked.add(new)

    def drop(self, path: str) -> None:
        """A column is gone; without a field, a struct is another."""
        if "." in path:
            self.change(path, "lost a field")
            return
        for known in (self.kept, self.changed, self.cast):
            known.pop(path, None)

    def retype(self, operation: RetypeColumn) -> None:
        """A whole column that is only cast can still be told where it is the key."""
        name = operation.column
        old = self.kept.get(name) or self.cast.get(name)
        self.change(name, operation.describe())
        if old is not None and operation.using is None and "." not in name:
            self.cast[name] = old


def flow_of(passage: Passage, start: TableSchema) -> Flow:
    """What the declared operations do to each column, whatever the values are.

    An operation that has no entry in the registry is left out; `unfollowed` names it.
    """
    flow = Flow({name: name for name in start.columns.names})
    for step in passage.steps:
        follow = _FOLLOWED.get(type(step.operation))
        if follow is not None:
            follow(flow, step.operation, step.after or start)
    return flow


def unfollowed(passage: Passage) -> tuple[str, ...]:
    """The operations of which this module does not know what they do to columns, as `op: description`.

    No column counts as left alone because of them: the coverage gate asks for a comparison of each.
    """
    unknown = [step.operation for step in passage.steps if type(step.operation) not in _FOLLOWED]
    return tuple(dict.fromkeys(f"{operation.op}: {operation.describe()}" for operation in unknown))


def _untouched(_flow: Flow, _operation: Operation, _after: TableSchema) -> None:
    """The operation changes rows, indices, metadata or names of tables; no value of a row that stays."""


def _computed(flow: Flow, operation: Operation, _after: TableSchema) -> None:
    if isinstance(operation, UpdateRows | BackfillColumns):
        asked = isinstance(operation, BackfillColumns)
        for path in (*operation.targets, *([operation.flag] if operation.flag else [])):
            flow.change(path, operation.describe(), asked=asked)


def _added(flow: Flow, operation: Operation, _after: TableSchema) -> None:
    if isinstance(operation, AddColumn):
        flow.change(operation.column.name, operation.describe(), asked=operation.using is not None)


def _upserted(flow: Flow, operation: Operation, after: TableSchema) -> None:
    if not isinstance(operation, UpsertRows) or operation.when_exists in ("keep", "error"):
        return
    names = operation.extend or [name for name in after.columns.names if name not in operation.on]
    for name in names:
        flow.change(name, operation.describe())


def _all(flow: Flow, operation: Operation, after: TableSchema) -> None:
    flow.kept, flow.cast = {}, {}
    flow.changed = {name: operation.describe() for name in after.columns.names}


def _renamed(flow: Flow, operation: Operation, _after: TableSchema) -> None:
    if isinstance(operation, RenameColumn):
        flow.rename(operation.column, operation.to)


def _dropped(flow: Flow, operation: Operation, _after: TableSchema) -> None:
    if isinstance(operation, DropColumn):
        flow.drop(operation.column)


def _retyped(flow: Flow, operation: Operation, _after: TableSchema) -> None:
    if isinstance(operation, RetypeColumn):
        flow.retype(operation)


_FOLLOWED: dict[type[Operation], Callable[[Flow, Operation, TableSchema], None]] = {
    UpdateRows: _computed,
    BackfillColumns: _computed,
    AddColumn: _added,
    UpsertRows: _upserted,
    DeleteRows: _untouched,
    UndoRows: _all,
    SetKey: _untouched,
    SetMetadata: _untouched,
    CreateTable: _all,
    CreateIndex: _untouched,
    DropIndex: _untouched,
    TransformTable: _all,
    BuildTable: _all,
    RewriteTable: _untouched,
    RenameTable: _untouched,
    DropTable: _untouched,
    RenameColumn: _renamed,
    DropColumn: _dropped,
    RetypeColumn: _retyped,
    RequireColumn: _untouched,
    RelaxColumn: _untouched,
}
"""What each operation does to columns. One that is missing here is unknown, not harmless."""
