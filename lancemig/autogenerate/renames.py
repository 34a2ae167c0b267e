"""Renames as a person says them: `--rename table.old=new`, `--rename old_table=new_table`."""

from collections.abc import Iterable, Mapping

from pydantic import Field

from lancemig.catalog.models import Model
from lancemig.catalog.schema import CatalogSchema, has_column
from lancemig.catalog.value import FrozenModel
from lancemig.errors import PlanError
from lancemig.revisions.header import did_you_mean

_USAGE = "lancemig revision --autogenerate --rename TABLE.OLD=NEW, or OLD_TABLE=NEW_TABLE"


class Renames(FrozenModel):
    """Tables by their old names, and columns by the new name of their table and their old path."""

    tables: dict[str, str] = Field(default_factory=dict)
    columns: dict[tuple[str, str], str] = Field(default_factory=dict)

    def of(self, table: str) -> dict[str, str]:
        """The columns of a table, by its new name, that are called otherwise now."""
        return {path: new for (name, path), new in self.columns.items() if name == table}


def read_renames(texts: Iterable[str], models: Mapping[str, Model], found: CatalogSchema) -> Renames:
    """What the texts say; PlanError for a table or column that is not there, or not in the models.

    A column may be named by the old or the new name of its table.
    """
    pairs = [_parse_rename(text) for text in texts]
    tables = {old: new for old, new in pairs if old in found.tables}
    for old, new in tables.items():
        _check_table(old, new, models, found)
    columns = {}
    for old, new in pairs:
        if old not in tables:
            table, path = _resolve_column(old, tables, found)
            _refuse_taken(table, path, new, found)
            columns[_new_table_name(table, tables), path] = _checked_column(table, path, new, models, tables)
    _refuse_conflicts(pairs)
    return Renames(tables=tables, columns=columns)


def _refuse_conflicts(pairs: list[tuple[str, str]]) -> None:
    """Refuse one that is renamed twice, and two that are renamed to one."""
    for at, (old, new) in enumerate(pairs):
        for other, to in pairs[:at]:
            if other == old or (_parent_path(other), to) == (_parent_path(old), new):
                said = f"--rename {old}={new} and --rename {other}={to} cannot be combined"
                raise PlanError(said, next_step=_USAGE)


def _refuse_taken(table: str, path: str, new: str, found: CatalogSchema) -> None:
    """Refuse a name that another column has, even if that one is renamed as well."""
    if has_column(found.table(table).columns, ".".join([*path.split(".")[:-1], new])):
        raise PlanError(
            f"--rename {table}.{path}={new}: table {table!r} already has a column {new!r}",
            next_step="to swap two names, rename one to a temporary name first: lancemig revision -m MESSAGE",
        )


def _parent_path(old: str) -> str:
    return old.rpartition(".")[0]


def _parse_rename(text: str) -> tuple[str, str]:
    old, equals, new = (part.strip() for part in text.partition("="))
    if not (old and equals and new):
        raise PlanError(f"--rename {text}: expected OLD=NEW", next_step=_USAGE)
    return old, new


def _new_table_name(table: str, tables: Mapping[str, str]) -> str:
    return tables.get(table, table)


def _resolve_column(old: str, tables: Mapping[str, str], found: CatalogSchema) -> tuple[str, str]:
    """The table, by its present name, and the path that `old` names in it."""
    present = {**{name: name for name in found.tables}, **{new: was for was, new in tables.items()}}
    fitting = [name for name in present if old.startswith(f"{name}.")]
    if not fitting:
        meant = did_you_mean(old.partition(".")[0], found.tables)
        raise PlanError(f"--rename {old}=…: no such table{meant}", next_step=_USAGE)
    # A table's name may hold periods itself.
    name = max(fitting, key=len)
    path = old[len(name) + 1 :]
    columns = found.table(present[name]).columns
    if not has_column(columns, path):
        meant = did_you_mean(path, columns.names)
        raise PlanError(f"--rename {old}=…: {name} has no column {path!r}{meant}", next_step=_USAGE)
    return present[name], path


def _check_table(old: str, new: str, models: Mapping[str, Model], found: CatalogSchema) -> None:
    if new in found.tables:
        raise PlanError(f"--rename {old}={new}: table {new!r} already exists", next_step=_USAGE)
    if new not in models or old in models:
        meant = did_you_mean(new, set(models) - set(found.tables))
        said = "is still in the models" if old in models else "is not in the models"
        name = old if old in models else new
        raise PlanError(f"--rename {old}={new}: {name!r} {said}{meant}", next_step=_USAGE)


def _checked_column(
    table: str, path: str, new: str, models: Mapping[str, Model], tables: Mapping[str, str]
) -> str:
    model = models.get(_new_table_name(table, tables))
    parent, dot, _ = path.rpartition(".")
    # A struct that is renamed as well is called by its old name here.
    if model is None or (not dot and new not in model.columns.names):
        there = model.columns.names if model else ()
        said = f"the model of {_new_table_name(table, tables)!r} has no column {parent}{dot}{new}"
        raise PlanError(f"--rename {table}.{path}={new}: {said}{did_you_mean(new, there)}", next_step=_USAGE)
    if not dot and path in model.columns.names:
        raise PlanError(f"--rename {table}.{path}={new}: the model still has {path!r}", next_step=_USAGE)
    return new
