"""The renames that a user gives: `--rename table.old=new`, `--rename old_table=new_table`."""

from collections.abc import Iterable, Mapping

from pydantic import Field

from lancemig.catalog.models import Model
from lancemig.catalog.schema import CatalogSchema, has_column
from lancemig.catalog.value import FrozenModel
from lancemig.errors import PlanError
from lancemig.revisions.header import did_you_mean

_USAGE = "lancemig revision --autogenerate --rename TABLE.OLD=NEW, or OLD_TABLE=NEW_TABLE"


class Renames(FrozenModel):
    """Renamed tables and columns."""

    tables: dict[str, str] = Field(default_factory=dict)
    """The old name of each table, with its new name."""
    columns: dict[tuple[str, str], str] = Field(default_factory=dict)
    """The new name of the table and the old path of the column, with the new name of the column."""

    def of(self, table: str) -> dict[str, str]:
        """The renamed columns of a table, given its new name: `{old path: new name}`."""
        return {path: new for (name, path), new in self.columns.items() if name == table}


def read_renames(texts: Iterable[str], models: Mapping[str, Model], current: CatalogSchema) -> Renames:
    """Parse the values of `--rename`, and check them against the models and the catalog.

    Args:
        texts: The values; a column may be given with the old or the new name of its table.
        models: The models, by the names of their tables.
        current: The catalog.

    Raises:
        PlanError: A table or a column does not exist in the catalog or in the models, or two renames
            conflict.
    """
    pairs = [_parse_rename(text) for text in texts]
    tables = {old: new for old, new in pairs if old in current.tables}
    for old, new in tables.items():
        _check_table(old, new, models, current)
    columns = {}
    for old, new in pairs:
        if old not in tables:
            table, path = _resolve_column(old, tables, current)
            _refuse_taken(table, path, new, current)
            columns[_new_table_name(table, tables), path] = _checked_column(table, path, new, models, tables)
    _refuse_conflicts(pairs)
    return Renames(tables=tables, columns=columns)


def _parse_rename(text: str) -> tuple[str, str]:
    old, equals, new = (part.strip() for part in text.partition("="))
    if not (old and equals and new):
        raise PlanError(f"--rename {text}: expected OLD=NEW", next_step=_USAGE)
    return old, new


def _resolve_column(old: str, tables: Mapping[str, str], current: CatalogSchema) -> tuple[str, str]:
    """The current name of the table, and the path of the column, that `old` gives."""
    current_names = {name: name for name in current.tables} | {new: name for name, new in tables.items()}
    matching = [name for name in current_names if old.startswith(f"{name}.")]
    if not matching:
        suggestion = did_you_mean(old.partition(".")[0], current.tables)
        raise PlanError(f"--rename {old}=…: no such table{suggestion}", next_step=_USAGE)
    # The name of a table may contain periods.
    name = max(matching, key=len)
    path = old[len(name) + 1 :]
    columns = current.table(current_names[name]).columns
    if not has_column(columns, path):
        suggestion = did_you_mean(path, columns.names)
        raise PlanError(f"--rename {old}=…: {name} has no column {path!r}{suggestion}", next_step=_USAGE)
    return current_names[name], path


def _checked_column(
    table: str, path: str, new: str, models: Mapping[str, Model], tables: Mapping[str, str]
) -> str:
    model = models.get(_new_table_name(table, tables))
    parent, dot, _ = path.rpartition(".")
    # Only top-level columns are checked: a struct around a field may be renamed as well.
    if model is None or (not dot and new not in model.columns.names):
        suggestion = did_you_mean(new, model.columns.names if model else ())
        message = (
            f"the model of {_new_table_name(table, tables)!r} has no column {parent}{dot}{new}{suggestion}"
        )
        raise PlanError(f"--rename {table}.{path}={new}: {message}", next_step=_USAGE)
    if not dot and path in model.columns.names:
        raise PlanError(f"--rename {table}.{path}={new}: the model still has {path!r}", next_step=_USAGE)
    return new


def _new_table_name(table: str, tables: Mapping[str, str]) -> str:
    return tables.get(table, table)


def _check_table(old: str, new: str, models: Mapping[str, Model], current: CatalogSchema) -> None:
    if new in current.tables:
        raise PlanError(f"--rename {old}={new}: table {new!r} already exists", next_step=_USAGE)
    if new not in models or old in models:
        suggestion = did_you_mean(new, set(models) - set(current.tables))
        message = "is still in the models" if old in models else "is not in the models"
        name = old if old in models else new
        raise PlanError(f"--rename {old}={new}: {name!r} {message}{suggestion}", next_step=_USAGE)


def _refuse_taken(table: str, path: str, new: str, current: CatalogSchema) -> None:
    """Refuse the name of another column, even if that column is renamed as well."""
    if has_column(current.table(table).columns, ".".join([*path.split(".")[:-1], new])):
        raise PlanError(
            f"--rename {table}.{path}={new}: table {table!r} already has a column {new!r}",
            next_step="to swap two names, rename one to a temporary name first: lancemig revision -m MESSAGE",
        )


def _refuse_conflicts(pairs: list[tuple[str, str]]) -> None:
    """Refuse a name that is renamed twice, and two names that are renamed to the same one."""
    for index, (old, new) in enumerate(pairs):
        for other, other_new in pairs[:index]:
            if other == old or (_parent_path(other), other_new) == (_parent_path(old), new):
                message = f"--rename {old}={new} and --rename {other}={other_new} cannot be combined"
                raise PlanError(message, next_step=_USAGE)


def _parent_path(old: str) -> str:
    return old.rpartition(".")[0]
