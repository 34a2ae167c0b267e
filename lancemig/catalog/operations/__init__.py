"""The operations a migration file declares, as one discriminated union."""

from typing import Annotated

from pydantic import Field

from lancemig.catalog.operations.base import FunctionCall, Operation, Strategy
from lancemig.catalog.operations.columns import (
    AddColumn,
    DropColumn,
    RelaxColumn,
    RenameColumn,
    RequireColumn,
    RetypeColumn,
)
from lancemig.catalog.operations.duplicates import DeduplicateRows
from lancemig.catalog.operations.indices import CreateIndex, DropIndex
from lancemig.catalog.operations.maintenance import Compact, Maintenance, OptimizeIndices
from lancemig.catalog.operations.rows import (
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
from lancemig.catalog.operations.tables import (
    BuildTable,
    CreateTable,
    DropTable,
    RenameTable,
    RewriteTable,
    TransformTable,
)
from lancemig.catalog.value import Kind

AnyOperation = Annotated[
    UpdateRows
    | BackfillColumns
    | UpsertRows
    | DeleteRows
    | DeduplicateRows
    | UndoRows
    | SetKey
    | SetMetadata
    | CreateTable
    | AddColumn
    | CreateIndex
    | DropIndex
    | OptimizeIndices
    | Compact
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
    "Compact",
    "CreateIndex",
    "CreateTable",
    "DeduplicateRows",
    "DeleteRows",
    "DropColumn",
    "DropIndex",
    "DropTable",
    "FunctionCall",
    "Kind",
    "Maintenance",
    "Operation",
    "OptimizeIndices",
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
