"""Models beside the catalog that was found: the operations that make the two equal."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
from pydantic import Field, ValidationError

from lancemig.autogenerate.columns import (
    RENAME_THRESHOLD,
    ColumnDiff,
    changed_embeddings,
    column_similarity,
    embedding_sources,
    fallback_sources,
    is_vector,
    table_similarity,
    widens,
)
from lancemig.autogenerate.renames import Renames
from lancemig.catalog.arrow_types import format_type, lance_schema
from lancemig.catalog.models import EMBEDDINGS, Model, embedding_functions
from lancemig.catalog.operations import (
    AddColumn,
    BackfillColumns,
    BuildTable,
    CreateIndex,
    CreateTable,
    DropColumn,
    DropIndex,
    DropTable,
    Operation,
    RelaxColumn,
    RenameColumn,
    RenameTable,
    RequireColumn,
    RetypeColumn,
    SetKey,
    SetMetadata,
)
from lancemig.catalog.operations.indices import indexable
from lancemig.catalog.schema import (
    CatalogSchema,
    Index,
    TableSchema,
    column,
    field_within,
    has_column,
    index_differences,
    same_param,
)
from lancemig.catalog.sources import is_stub, rows_stub, values_stub
from lancemig.catalog.value import FrozenModel, Kind
from lancemig.errors import PlanError


class ModelChange(FrozenModel):
    """An operation, and remarks where a person must decide something before it is applied."""

    operation: Any
    remarks: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """`recordings: add column gain: float64`."""
        operation: Operation = self.operation
        return f"{operation.table}: {operation.describe()}"

    @property
    def stub(self) -> Any:
        """The function of the operation that is still to be written; None where there is none."""
        given = (getattr(self.operation, name, None) for name in ("using", "rows"))
        return next((function for function in given if is_stub(function)), None)


class ModelChanges(FrozenModel):
    """All changes, in an order that can be applied."""

    changes: tuple[ModelChange, ...] = ()
    rebuild: bool = Field(default=False)
    """Whether they are to be staged even where their operations could be applied in place."""

    @property
    def operations(self) -> tuple[Operation, ...]:
        """The operations alone."""
        return tuple(change.operation for change in self.changes)

    @property
    def kind(self) -> Kind:
        """What a revision that holds them promises."""
        kinds = [operation.kind for operation in self.operations]
        return Kind.REBUILD if self.rebuild else Kind.weakest(kinds)

    @property
    def stubs(self) -> tuple[Any, ...]:
        """The functions that are still to be written."""
        return tuple(change.stub for change in self.changes if change.stub is not None)

    @property
    def sentences(self) -> tuple[str, ...]:
        """What each does, in a line."""
        return tuple(change.sentence for change in self.changes)


class Collector:
    """Where changes are collected; `schema` is the catalog after all of them."""

    def __init__(self, schema: CatalogSchema) -> None:
        self.schema = schema
        self.rebuild = False
        self._changes: list[ModelChange] = []
        self._taken: set[str] = set()

    def add(self, operation: Operation, *remarks: str) -> None:
        """Add an operation; PlanError where it is impossible after those before it."""
        self.schema = operation.after(self.schema)
        self._changes.append(ModelChange(operation=operation, remarks=remarks))

    def table(self, name: str) -> TableSchema:
        """A table as it is by now."""
        return self.schema.table(name)

    def values_stub(self, verb: str, table: str, column: str, doc: str) -> Any:
        """A place for a function that computes values."""
        return values_stub(self._free_name(verb, table, column), doc)

    def rows_stub(self, table: str, doc: str) -> Any:
        """A place for a function that yields rows."""
        return rows_stub(self._free_name("rows_of", table), doc)

    def _free_name(self, *parts: str) -> str:
        stem = re.sub(r"[^A-Za-z0-9]+", "_", "_".join(parts)).strip("_").lower()
        name, number = stem, 1
        while name in self._taken:
            number += 1
            name = f"{stem}_{number}"
        self._taken.add(name)
        return name

    @property
    def changes(self) -> ModelChanges:
        """What was collected."""
        return ModelChanges(changes=tuple(self._changes), rebuild=self.rebuild)


_COLUMN_DROPPED = (
    "Programs that read it break; its values remain only in the old root, until gc deletes that root."
)


class TableDiff:
    """One table's changes; `live` says that the indices found were read from the catalog.

    Its columns have the new names already, of those that are `renamed`.
    """

    def __init__(
        self, out: Collector, name: str, model: Model, renamed: Mapping[str, str], *, live: bool
    ) -> None:
        self.out, self.name, self.model, self.live = out, name, model, live
        self.start = out.table(name)
        self.found = lance_schema(self.start.columns)
        self.differs = ColumnDiff(model.columns, self.found, described=model.described)
        self.recomputed = changed_embeddings(model, self.start, renamed)
        self.anew = False

    def run(self) -> None:
        """Collect them all."""
        self._drop_indices()
        kept = set(self.model.columns.names) & set(self.found.names)
        if self.differs.blobs:
            names = ", ".join(self.differs.blobs)
            self._rebuild(f"{names}: no conversion exists between blobs and other types.")
        elif not kept - {field.name for field, _ in self.differs.replaced}:
            self._rebuild("No column survives.")
        else:
            self._clear_key()
            self._add()
            self._change()
            self._recompute()
            self._drop()
            self._require()
        self._set_metadata()
        self._set_key()
        self._create_indices()

    def _rebuild(self, why: str) -> None:
        """Rows are derived anew, where there is nothing to go on from."""
        self.anew = True
        doc = f"Yield all rows of {self.name}."
        self.out.add(
            BuildTable(
                table=self.name,
                rows=self.out.rows_stub(self.name, doc),
                schema=self.model.columns,
                key=self._wanted_key,
            ),
            f"{why} Write the function that yields the rows.",
        )

    def _add(self) -> None:
        for path, field in self.differs.added:
            if field.nullable:
                self.out.add(
                    AddColumn(table=self.name, column=field.with_name(path)), *self._vector_remark(field)
                )
            else:
                self._add_required(field)

    def _vector_remark(self, field: pa.Field) -> Iterator[str]:
        if is_vector(field.type):
            yield f"{field.name} starts as null; set `using` and `reads` to compute it now."

    def _add_required(self, field: pa.Field) -> None:
        reads = embedding_sources(field.name, self.model, self.start) if is_vector(field.type) else ()
        self._add_computed(
            field,
            field.name,
            "fill",
            reads or fallback_sources(field.name, self.out.table(self.name)),
            f"{field.name} is non-null: compute its values for existing rows, with this function or `sql`.",
        )

    def _add_computed(
        self, field: pa.Field, name: str, verb: str, reads: tuple[str, ...], remark: str
    ) -> None:
        doc = f"Return {field.name} of {self.name}, one value per row, from {', '.join(reads)}."
        using = self.out.values_stub(verb, self.name, field.name, doc)
        new = field.with_name(name).with_nullable(True)
        self.out.add(AddColumn(table=self.name, column=new, using=using, reads=reads), remark)

    def _change(self) -> None:
        for path in self.differs.relaxed:
            self.out.add(RelaxColumn(table=self.name, column=path))
        for path, old, new in self.differs.retyped:
            # SQL takes a whole column.
            how = "fix such values first, with BackfillColumns" if "." in path else "convert with `using`"
            remark = (
                f"Refused if a value of {path} ({format_type(old)}) has no equal in {format_type(new)}; "
                f"in that case {how}."
            )
            self.out.add(
                RetypeColumn(table=self.name, column=path, to=new), *([] if widens(old, new) else [remark])
            )
        for field, old in self.differs.replaced:
            self._replace(field, old)

    def _replace(self, field: pa.Field, old: pa.Field) -> None:
        if is_vector(field.type) and is_vector(old.type):
            self._embed_again(field, old)
        else:
            remark = (
                f"{format_type(old.type)} cannot be cast to {format_type(field.type)}: write the function "
                "that converts the values."
            )
            self._convert(field, remark)

    def _embed_again(self, field: pa.Field, old: pa.Field) -> None:
        reads = embedding_sources(field.name, self.model, self.start)
        remark = (
            f"{field.name} changes from {format_type(old.type)} to {format_type(field.type)}: compute the "
            "embeddings again from their source."
        )
        self.out.add(DropColumn(table=self.name, column=field.name))
        self._add_computed(field, field.name, "embed", reads, remark)

    def _convert(self, field: pa.Field, remark: str) -> None:
        """Compute a column from itself: under another name first, until the old one is gone."""
        new = f"{field.name}__new"
        while has_column(self.out.table(self.name).columns, new):
            new += "_"
        self._add_computed(field, new, "convert", (field.name,), remark)
        self.out.add(DropColumn(table=self.name, column=field.name))
        self.out.add(RenameColumn(table=self.name, column=new, to=field.name))

    def _recompute(self) -> None:
        replaced = {field.name for field, _ in self.differs.replaced}
        for name, why in self.recomputed.items():
            if name in replaced:
                continue
            reads = embedding_sources(name, self.model, self.start)
            doc = f"Return {name} of {self.name}, one vector per row, from {', '.join(reads)}."
            using = self.out.values_stub("embed", self.name, name, doc)
            self.out.rebuild = True
            self.out.add(
                BackfillColumns(table=self.name, columns=(name,), reads=reads, using=using),
                f"{name} has another embedding model: {why}. Vectors of two models cannot be compared.",
            )

    def _drop(self) -> None:
        for path in self.differs.dropped:
            self.out.add(
                DropColumn(table=self.name, column=path), _COLUMN_DROPPED, *self._rename_question(path)
            )

    def _rename_question(self, path: str) -> Iterator[str]:
        """A question, where a new column looks like this one."""
        parent, dot, _ = path.rpartition(".")
        old = column(self.name, self.found, path)
        beside = [(p, f) for p, f in self.differs.added if p.rpartition(".")[0] == parent]
        scored = sorted(((column_similarity(field, old), field.name) for _, field in beside), reverse=True)
        for likeness, name in scored[:1]:
            if likeness >= RENAME_THRESHOLD:
                yield f"Renamed to {parent}{dot}{name} ({likeness:.0%} similar)? Then run instead:"
                yield f"lancemig revision --autogenerate --rename {self.name}.{path}={name}"

    def _require(self) -> None:
        for path in self.differs.required:
            self.out.add(
                RequireColumn(table=self.name, column=path),
                f"Refused if {path} has nulls: fill them first, with UpdateRows or BackfillColumns.",
            )
        fresh = [field for _, field in self.differs.added if not field.nullable]
        for field in [*fresh, *(field for field, _ in self.differs.replaced)]:
            if not field.nullable:
                self.out.add(RequireColumn(table=self.name, column=field.name))

    def _set_metadata(self) -> None:
        for path, entries in () if self.anew else self.differs.metadata:
            self._require_path(path)
            self.out.add(SetMetadata(table=self.name, column=path, metadata=entries))
        found = self.out.table(self.name).metadata
        if entries := metadata_changes(self.model, found):
            self.out.add(SetMetadata(table=self.name, metadata=entries))

    def _require_path(self, path: str) -> None:
        """Refuse what no path leads to: a field inside a column, with a period in its name."""
        try:
            field_within(self.name, self.out.table(self.name).columns, path)
        except PlanError as error:
            raise PlanError(
                f"{self.name}.{path}: its metadata cannot be changed because its name contains a period",
                next_step="set its metadata in the model as in the catalog, then run the same command again",
            ) from error

    def _clear_key(self) -> None:
        lost = {*self.differs.dropped, *(field.name for field, _ in self.differs.replaced)}
        if lost & set(self.start.key):
            self.out.add(SetKey(table=self.name, key=()))

    @property
    def _wanted_key(self) -> tuple[str, ...]:
        """The model's key; where it says nothing, the one there is, if all its columns stay."""
        if self.model.key is not None:
            return self.model.key
        return self.start.key if set(self.start.key) <= set(self.model.columns.names) else ()

    def _set_key(self) -> None:
        wanted = self._wanted_key
        if self.out.table(self.name).key != wanted:
            remark = f"Refused if two rows have the same {', '.join(wanted)}, or if a key column is null."
            self.out.add(SetKey(table=self.name, key=wanted), *([remark] if wanted else []))

    @property
    def _wanted_indices(self) -> tuple[Index, ...]:
        """The indices that there are to be: the model's; where it says nothing of them, those there are."""
        if self.model.indices is not None:
            return self.model.indices
        columns = self.model.columns
        return tuple(
            index
            for index in self.start.indices
            if has_column(columns, index.column)
            and can_create(index)
            and indexable(index.type, column(self.name, columns, index.column).type)
        )

    def _drop_indices(self) -> None:
        wanted = {index.name: index for index in self._wanted_indices}
        for index in self.start.indices:
            there = has_column(self.model.columns, index.column)
            same = index.name in wanted and not index_differs(wanted[index.name], index, live=self.live)
            if there and (not same or index.column in self.recomputed):
                self.out.add(DropIndex(table=self.name, name=index.name))

    def _create_indices(self) -> None:
        there = {index.name for index in self.out.table(self.name).indices}
        for index in self._wanted_indices:
            if index.name not in there:
                self.out.add(create_index(self.name, index))


def create_index(table: str, index: Index) -> CreateIndex:
    """What makes `index`; the name that Lance gives it anyway is left out."""
    usual = index.name == f"{index.column}_idx"
    return CreateIndex(
        table=table,
        column=index.column,
        type=index.type,
        name=None if usual else index.name,
        params=index.params,
    )


def can_create(index: Index) -> bool:
    """Whether lancemig can make an index of this kind."""
    try:
        create_index("t", index)
    except ValidationError:
        return False
    return True


def index_differs(wanted: Index, found: Index, *, live: bool) -> bool:
    """Whether an index is to be made anew; of its parameters, those that the model gives are compared.

    A live table does not tell all parameters of its indices: those count as given.
    """
    if live:
        return any(index_differences(wanted, found))
    if (wanted.column, wanted.type) != (found.column, found.type):
        return True
    return any(
        name not in found.params or not same_param(value, found.params[name])
        for name, value in wanted.params.items()
    )


def metadata_changes(model: Model, found: Mapping[str, str]) -> dict[str, str | None]:
    """The entries of a table's metadata that are to be set, or removed."""
    entries = {k: v for k, v in model.metadata.items() if not _same_metadata(k, v, found.get(k))}
    if model.complete:
        entries |= {k: None for k in found if k not in model.metadata}
    return {k: v for k, v in entries.items() if not k.startswith("lancemig.")}


def _same_metadata(key: str, wanted: str | None, found: str | None) -> bool:
    if key == EMBEDDINGS and wanted and found:
        return embedding_functions(wanted) == embedding_functions(found)
    return wanted == found


def diff_models(
    models: Mapping[str, Model], found: CatalogSchema, renames: Renames | None = None, *, live: bool = False
) -> ModelChanges:
    """The changes from `found` to `models`, each in the smallest kind, in an order that can be applied.

    Nothing is guessed: what is gone is dropped and what is new is added, with a question where the two look
    alike; only `renames` renames. Values that no operation can find out have a place, a function that a
    person has to write. `live` says that `found` was read from the tables, which tell less of their indices
    than files do. Equal are what Lance stores alike (catalog/arrow_types.py); the order of columns is no
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
        out.add(DropTable(table=name), _TABLE_DROPPED, *_rename_question(name, new, models, found, renames))
    return out.changes


_TABLE_DROPPED = (
    "Programs that open it break; its rows remain only in the old root, until gc deletes that root."
)


def _rename(out: Collector, renames: Renames) -> None:
    for old, new in renames.tables.items():
        out.add(RenameTable(table=old, to=new))
    # Fields of a struct before the struct, whose name their paths begin with.
    columns = sorted(renames.columns.items(), key=lambda item: -item[0][1].count("."))
    for (table, path), new in columns:
        out.add(RenameColumn(table=table, column=path, to=new))


def _create(out: Collector, name: str, model: Model) -> None:
    entries = {k: v for k, v in model.metadata.items() if v is not None}
    schema = model.columns.with_metadata(entries or None)
    out.add(CreateTable(table=name, schema=schema, key=model.key or ()))
    for index in model.indices or ():
        out.add(create_index(name, index))


def _rename_question(
    name: str, new: list[str], models: Mapping[str, Model], found: CatalogSchema, renames: Renames
) -> Iterator[str]:
    """A question, where a new table looks like one that is gone."""
    columns = found.table(name).columns
    free = [other for other in new if other not in renames.tables.values()]
    scored = sorted(((table_similarity(n, models[n].columns, name, columns), n) for n in free), reverse=True)
    for likeness, other in scored[:1]:
        if likeness >= RENAME_THRESHOLD:
            yield f"Renamed to {other} ({likeness:.0%} similar)? Then run instead:"
            yield f"lancemig revision --autogenerate --rename {name}={other}"
