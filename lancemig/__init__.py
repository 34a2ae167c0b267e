"""Versioned, reviewed, crash-safe migrations for Lance and LanceDB catalogs.

The public names: operations, checks and tolerances for migration files, `Table` and `Index` for models, and
`connect` for programs that read the catalog. Each is loaded when it is first used, so that `import lancemig`,
and commands that need no store, start fast.
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lancemig.catalog.checks import Check, Tolerance
    from lancemig.catalog.models import Table
    from lancemig.catalog.operations import (
        AddColumn,
        BackfillColumns,
        BuildTable,
        Compact,
        CreateIndex,
        CreateTable,
        DeduplicateRows,
        DeleteRows,
        DropColumn,
        DropIndex,
        DropTable,
        OptimizeIndices,
        RelaxColumn,
        RenameColumn,
        RenameTable,
        RequireColumn,
        RetypeColumn,
        RewriteTable,
        SetKey,
        SetMetadata,
        TransformTable,
        UpdateRows,
        UpsertRows,
    )
    from lancemig.catalog.schema import Index
    from lancemig.commands.connect import connect
    from lancemig.errors import LancemigError

# A program that configures no logging sees none of lancemig's warnings on stderr.
logging.getLogger(__name__).addHandler(logging.NullHandler())

_OPERATIONS = "lancemig.catalog.operations"
_ELSEWHERE = {
    "Check": "lancemig.catalog.checks",
    "Index": "lancemig.catalog.schema",
    "LancemigError": "lancemig.errors",
    "Table": "lancemig.catalog.models",
    "Tolerance": "lancemig.catalog.checks",
    "connect": "lancemig.commands.connect",
}

__all__ = [
    "AddColumn",
    "BackfillColumns",
    "BuildTable",
    "Check",
    "Compact",
    "CreateIndex",
    "CreateTable",
    "DeduplicateRows",
    "DeleteRows",
    "DropColumn",
    "DropIndex",
    "DropTable",
    "Index",
    "LancemigError",
    "OptimizeIndices",
    "RelaxColumn",
    "RenameColumn",
    "RenameTable",
    "RequireColumn",
    "RetypeColumn",
    "RewriteTable",
    "SetKey",
    "SetMetadata",
    "Table",
    "Tolerance",
    "TransformTable",
    "UpdateRows",
    "UpsertRows",
    "connect",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'lancemig' has no attribute {name!r}")
    return getattr(import_module(_ELSEWHERE.get(name, _OPERATIONS)), name)
