"""Models beside the catalog that was found: the operations that make the two equal."""

from collections.abc import Iterator, Mapping

from lancemig.catalog.models import Model
from lancemig.catalog.operations import CreateTable, DropTable, RenameColumn, RenameTable
from lancemig.catalog.schema import CatalogSchema
from lancemig.plan.changes import Changes, Collector
from lancemig.plan.likeness import LIKELY, table_likeness
from lancemig.plan.renames import Renames
from lancemig.plan.table_diff import TableDiff, creation


def diff(
    models: Mapping[str, Model], found: CatalogSchema, renames: Renames | None = None, *, live: bool = False
) -> Changes:
    """The changes from `found` to `models`, each in the smallest kind, in an order that can be applied.

    Nothing is guessed: what is gone is dropped and what is new is added, with a question where the two look
    alike; only `renames` renames. Values that no operation can find out have a place, a function that a
    person has to write. `live` says that `found` was read from the tables, which tell less of their indices
    than files do. Equal are what Lance stores alike (catalog/stored.py); the order of columns is no
    difference.
    """
    out = Collector(found)
    renames = renames or Renames()
    _rename(out, renames)
    gone = [name for name in out.schema.tables if name not in models]
    new = [name for name in models if name not in out.schema.tables]
    for name, model in models.items():
        if name not in new:
            TableDiff(out, name, model, renames.of(name), live=live).run()
    for name in new:
        _create(out, name, models[name])
    for name in gone:
        out.do(DropTable(table=name), _LOST, *_alike(name, new, models, found, renames))
    return out.collected


_LOST = "Programs that open it break; its rows remain only in the old root, until gc deletes that root."


def _rename(out: Collector, renames: Renames) -> None:
    for old, new in renames.tables.items():
        out.do(RenameTable(table=old, to=new))
    # Fields of a struct before the struct, whose name their paths begin with.
    columns = sorted(renames.columns.items(), key=lambda item: -item[0][1].count("."))
    for (table, path), new in columns:
        out.do(RenameColumn(table=table, column=path, to=new))


def _create(out: Collector, name: str, model: Model) -> None:
    entries = {k: v for k, v in model.metadata.items() if v is not None}
    schema = model.columns.with_metadata(entries or None)
    out.do(CreateTable(table=name, schema=schema, key=model.key or ()))
    for index in model.indices or ():
        out.do(creation(name, index))


def _alike(
    name: str, new: list[str], models: Mapping[str, Model], found: CatalogSchema, renames: Renames
) -> Iterator[str]:
    """A question, where a new table looks like one that is gone."""
    columns = found.table(name).columns
    free = [other for other in new if other not in renames.tables.values()]
    scored = sorted(((table_likeness(n, models[n].columns, name, columns), n) for n in free), reverse=True)
    for likeness, other in scored[:1]:
        if likeness >= LIKELY:
            yield f"Renamed to {other} ({likeness:.0%} similar)? Then run instead:"
            yield f"lancemig revision --autogenerate --rename {name}={other}"
