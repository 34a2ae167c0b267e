"""The operations a migration file declares, as one discriminated union."""

from typing import Annotated

from pydantic import Field

from lancemig.catalog.kind import Kind
from lancemig.catalog.operations.additive import AddColumn, CreateIndex, CreateTable, DropIndex
from lancemig.catalog.operations.base import Operation, Strategy
from lancemig.catalog.operations.data import (
    BackfillColumns,
    Brakes,
    DeleteRows,
    Recomputation,
    RowBrake,
    SetKey,
    SetMetadata,
    UndoRows,
    UpdateRows,
    UpsertRows,
    ValueChange,
)
from lancemig.catalog.operations.drops import DropColumn, DropTable
from lancemig.catalog.operations.rebuild import (
    BuildTable,
    RelaxColumn,
    RenameColumn,
    RenameTable,
    RequireColumn,
    RetypeColumn,
    RewriteTable,
    TransformTable,
)

AnyOperation = Annotated[
    UpdateRows
    | BackfillColumns
    | UpsertRows
    | DeleteRows
    | UndoRows
    | SetKey
    | SetMetadata
    | CreateTable
    | AddColumn
    | CreateIndex
    | DropIndex
    | RenameColumn
    | RetypeColumn
    | DropColumn
    | RequireColumn
    | RelaxColumn
    | RenameTable
    | DropTable
    | TransformTable
    | BuildTable
    | RewriteTable,
    Field(discriminator="op"),
]

__all__ = [
    "AddColumn",
    "AnyOperation",
    "BackfillColumns",
    "Brakes",
    "BuildTable",
    "CreateIndex",
    "CreateTable",
    "DeleteRows",
    "DropColumn",
    "DropIndex",
    "DropTable",
    "Kind",
    "Operation",
    "Recomputation",
    "RelaxColumn",
    "RenameColumn",
    "RenameTable",
    "RequireColumn",
    "RetypeColumn",
    "RewriteTable",
    "RowBrake",
    "SetKey",
    "SetMetadata",
    "Strategy",
    "TransformTable",
    "UndoRows",
    "UpdateRows",
    "UpsertRows",
    "ValueChange",
]
