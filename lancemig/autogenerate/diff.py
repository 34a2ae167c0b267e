"""The operations that make a catalog match the models of an application.

`diff_models` is the entry. It collects `ModelChanges`: operations, with remarks where a person must decide.
`TableDiff` compares one table with its model.
"""

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
from lancemig.catalog.checks import Tolerance
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
    """An operation, and remarks about what a person must decide before it is applied."""

    operation: Any
    remarks: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """`recordings: add column gain: float64`."""
        operation: Operation = self.operation
        return f"{operation.table}: {operation.describe()}"

    @property
    def stub(self) -> Any:
        """The function of the operation that a person has to write; None where there is none."""
        functions = (getattr(self.operation, name, None) for name in ("using", "rows"))
        return next((function for function in functions if is_stub(function)), None)


class ModelChanges(FrozenModel):
    """All changes, in an order in which they can be applied."""

    changes: tuple[ModelChange, ...] = ()
    rebuild: bool = Field(default=False)
    """Whether to stage them even if their operations could be applied in place."""

    @property
    def operations(self) -> tuple[Operation, ...]:
        """The operations alone."""
        return tuple(change.operation for change in self.changes)

    @property
    def kind(self) -> Kind:
        """The kind of a revision with these operations."""
        kinds = [operation.kind for operation in self.operations]
        return Kind.REBUILD if self.rebuild else Kind.weakest(kinds)

    @property
    def stubs(self) -> tuple[Any, ...]:
        """The functions that a person has to write."""
        return tuple(change.stub for change in self.changes if change.stub is not None)

    @property
    def tolerances(self) -> tuple[Tolerance, ...]:
        """A tolerance for each vector column that a function computes: embeddings vary a little."""
        # A column that is renamed afterwards was converted from another one.
        converted = {(o.table, o.column) for o in self.operations if isinstance(o, RenameColumn)}
        found = [
            Tolerance(table=operation.table, column=name, absolute=EMBEDDING_TOLERANCE)
            for operation in self.operations
            for name in _embedded(operation)
            if (operation.table, name) not in converted
        ]
        return tuple(dict.fromkeys(found))

    @property
    def sentences(self) -> tuple[str, ...]:
        """One line for each change."""
        return tuple(change.sentence for change in self.changes)


EMBEDDING_TOLERANCE = 1e-3
"""How far the numbers of a vector that is computed again may be from those that were computed first."""


def _embedded(operation: Operation) -> tuple[str, ...]:
    """The vector columns that a function computes from other columns."""
    if isinstance(operation, AddColumn) and operation.using is not None and is_vector(operation.column.type):
        return (operation.column.name,)
    embeds = isinstance(operation, BackfillColumns) and is_stub(operation.using)
    return operation.columns if embeds and isinstance(operation, BackfillColumns) else ()


def diff_models(
    models: Mapping[str, Model], current: CatalogSchema, renames: Renames | None = None, *, live: bool = False
) -> ModelChanges:
    """The changes that make a catalog match the models, with the least disruptive operations.

    Nothing is guessed: missing tables and columns are dropped and new ones added, with a question where two
    are similar; only `renames` renames. Where an operation cannot know the values, the change has the stub of
    a function that a person has to write. Types that Lance stores alike (catalog/arrow_types.py) are equal,
    and the order of columns does not matter.

    Args:
        models: The models, by the names of their tables.
        current: The catalog.
        renames: The renames that the user gave.
        live: Whether `current` was read from the tables, which tell less about indices than files do.

    Returns:
        The changes, in an order in which they can be applied.
    """
    collector = Collector(current)
    renames = renames or Renames()
    _rename(collector, renames)
    dropped = [name for name in collector.schema.tables if name not in models]
    new = [name for name in models if name not in collector.schema.tables]
    for name, model in models.items():
        if name not in new:
            TableDiff(collector, name, model, renames.of(name), live=live).run()
    for name in new:
        _create(collector, name, models[name])
    for name in dropped:
        collector.add(
            DropTable(table=name), _TABLE_DROPPED, *_rename_question(name, new, models, current, renames)
        )
    return collector.changes


class Collector:
    """Collects changes; `schema` is the catalog after all of them."""

    def __init__(self, schema: CatalogSchema) -> None:
        self.schema = schema
        self.rebuild = False
        self._changes: list[ModelChange] = []
        self._taken: set[str] = set()

    def add(self, operation: Operation, *remarks: str) -> None:
        """Add an operation; PlanError where the operations before it make it impossible."""
        self.schema = operation.after(self.schema)
        self._changes.append(ModelChange(operation=operation, remarks=remarks))

    def table(self, name: str) -> TableSchema:
        """The schema of a table after the collected changes."""
        return self.schema.table(name)

    def values_stub(self, verb: str, table: str, column: str, doc: str) -> Any:
        """A stub of a function that computes values of a column."""
        return values_stub(self._free_name(verb, table, column), doc)

    def rows_stub(self, table: str, doc: str) -> Any:
        """A stub of a function that yields the rows of a table."""
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
        """The collected changes."""
        return ModelChanges(changes=tuple(self._changes), rebuild=self.rebuild)


_TABLE_DROPPED = (
    "Programs that open it break; its rows remain only in the old root, until gc deletes that root."
)


def _rename(collector: Collector, renames: Renames) -> None:
    for old, new in renames.tables.items():
        collector.add(RenameTable(table=old, to=new))
    # Fields of a struct before the struct itself, because their paths begin with its name.
    columns = sorted(renames.columns.items(), key=lambda item: -item[0][1].count("."))
    for (table, path), new in columns:
        collector.add(RenameColumn(table=table, column=path, to=new))


def _create(collector: Collector, name: str, model: Model) -> None:
    entries = {k: v for k, v in model.metadata.items() if v is not None}
    schema = model.columns.with_metadata(entries or None)
    collector.add(CreateTable(table=name, schema=schema, key=model.key or ()))
    for index in model.indices or ():
        collector.add(create_index(name, index))


def _rename_question(
    name: str, new: list[str], models: Mapping[str, Model], current: CatalogSchema, renames: Renames
) -> Iterator[str]:
    """A question whether the dropped table was renamed, where a new one is similar."""
    columns = current.table(name).columns
    free = [other for other in new if other not in renames.tables.values()]
    scored = sorted(((table_similarity(n, models[n].columns, name, columns), n) for n in free), reverse=True)
    for similarity, other in scored[:1]:
        if similarity >= RENAME_THRESHOLD:
            yield f"Renamed to {other} ({similarity:.0%} similar)? Then run instead:"
            yield f"lancemig revision --autogenerate --rename {name}={other}"


_COLUMN_DROPPED = (
    "Programs that read it break; its values remain only in the old root, until gc deletes that root."
)


class TableDiff:
    """The changes of one table.

    Args:
        collector: Collects the changes; its schema has the new names of renamed columns already.
        name: The table.
        model: The model of the table.
        renamed: The old name of each renamed column, with its new name.
        live: Whether the indices were read from the catalog, and not from migration files.
    """

    def __init__(
        self, collector: Collector, name: str, model: Model, renamed: Mapping[str, str], *, live: bool
    ) -> None:
        self.collector, self.name, self.model, self.live = collector, name, model, live
        self.current = collector.table(name)
        self.stored_columns = lance_schema(self.current.columns)
        self.differences = ColumnDiff(model.columns, self.stored_columns, described=model.described)
        self.recomputed = changed_embeddings(model, self.current, renamed)
        self.rebuilt = False

    def run(self) -> None:
        """Collect all changes of the table."""
        self._drop_indices()
        kept = set(self.model.columns.names) & set(self.stored_columns.names)
        if self.differences.blobs:
            names = ", ".join(self.differences.blobs)
            self._rebuild(f"{names}: no conversion exists between blobs and other types.")
        elif not kept - {field.name for field, _ in self.differences.replaced}:
            self._rebuild("No column is kept.")
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
        """Derive all rows again, where nothing of the old table can be used."""
        self.rebuilt = True
        doc = f"Yield all rows of {self.name}."
        self.collector.add(
            BuildTable(
                table=self.name,
                rows=self.collector.rows_stub(self.name, doc),
                schema=self.model.columns,
                key=self._wanted_key,
            ),
            f"{why} Write the function that yields the rows.",
        )

    def _add(self) -> None:
        for path, field in self.differences.added:
            if field.nullable:
                self.collector.add(
                    AddColumn(table=self.name, column=field.with_name(path)), *self._vector_remark(field)
                )
            else:
                self._add_required(field)

    def _vector_remark(self, field: pa.Field) -> Iterator[str]:
        if is_vector(field.type):
            yield f"{field.name} starts as null; set `using` and `reads` to compute it now."

    def _add_required(self, field: pa.Field) -> None:
        reads = embedding_sources(field.name, self.model, self.current) if is_vector(field.type) else ()
        self._add_computed(
            field,
            field.name,
            "fill",
            reads or fallback_sources(field.name, self.collector.table(self.name)),
            f"{field.name} is non-null: compute its values for existing rows, with this function or `sql`.",
        )

    def _add_computed(
        self, field: pa.Field, name: str, verb: str, reads: tuple[str, ...], remark: str
    ) -> None:
        doc = f"Return {field.name} of {self.name}, one value per row, from {', '.join(reads)}."
        using = self.collector.values_stub(verb, self.name, field.name, doc)
        new = field.with_name(name).with_nullable(True)
        self.collector.add(AddColumn(table=self.name, column=new, using=using, reads=reads), remark)

    def _change(self) -> None:
        for path in self.differences.relaxed:
            self.collector.add(RelaxColumn(table=self.name, column=path))
        for path, old, new in self.differences.retyped:
            # `using` works on whole columns only.
            fix = "fix such values first, with BackfillColumns" if "." in path else "convert with `using`"
            remark = (
                f"Refused if a value of {path} ({format_type(old)}) has no equal in {format_type(new)}; "
                f"in that case {fix}."
            )
            self.collector.add(
                RetypeColumn(table=self.name, column=path, to=new), *([] if widens(old, new) else [remark])
            )
        for field, old in self.differences.replaced:
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
        reads = embedding_sources(field.name, self.model, self.current)
        remark = (
            f"{field.name} changes from {format_type(old.type)} to {format_type(field.type)}: compute the "
            "embeddings again from their source."
        )
        self.collector.add(DropColumn(table=self.name, column=field.name))
        self._add_computed(field, field.name, "embed", reads, remark)

    def _convert(self, field: pa.Field, remark: str) -> None:
        """Compute a column from itself, under a temporary name until the old column is dropped."""
        new = f"{field.name}__new"
        while has_column(self.collector.table(self.name).columns, new):
            new += "_"
        self._add_computed(field, new, "convert", (field.name,), remark)
        self.collector.add(DropColumn(table=self.name, column=field.name))
        self.collector.add(RenameColumn(table=self.name, column=new, to=field.name))

    def _recompute(self) -> None:
        replaced = {field.name for field, _ in self.differences.replaced}
        for name, why in self.recomputed.items():
            if name in replaced:
                continue
            reads = embedding_sources(name, self.model, self.current)
            doc = f"Return {name} of {self.name}, one vector per row, from {', '.join(reads)}."
            using = self.collector.values_stub("embed", self.name, name, doc)
            self.collector.rebuild = True
            self.collector.add(
                BackfillColumns(table=self.name, columns=(name,), reads=reads, using=using),
                f"{name} has another embedding model: {why}. Vectors of two models cannot be compared.",
            )

    def _drop(self) -> None:
        for path in self.differences.dropped:
            self.collector.add(
                DropColumn(table=self.name, column=path), _COLUMN_DROPPED, *self._rename_question(path)
            )

    def _rename_question(self, path: str) -> Iterator[str]:
        """A question whether the dropped column was renamed, where an added one is similar."""
        parent, dot, _ = path.rpartition(".")
        old = column(self.name, self.stored_columns, path)
        added = [field for path, field in self.differences.added if path.rpartition(".")[0] == parent]
        scored = sorted(((column_similarity(field, old), field.name) for field in added), reverse=True)
        for similarity, name in scored[:1]:
            if similarity >= RENAME_THRESHOLD:
                yield f"Renamed to {parent}{dot}{name} ({similarity:.0%} similar)? Then run instead:"
                yield f"lancemig revision --autogenerate --rename {self.name}.{path}={name}"

    def _require(self) -> None:
        for path in self.differences.required:
            self.collector.add(
                RequireColumn(table=self.name, column=path),
                f"Refused if {path} has nulls: fill them first, with UpdateRows or BackfillColumns.",
            )
        added = [field for _, field in self.differences.added]
        for field in [*added, *(field for field, _ in self.differences.replaced)]:
            if not field.nullable:
                self.collector.add(RequireColumn(table=self.name, column=field.name))

    def _set_metadata(self) -> None:
        for path, entries in () if self.rebuilt else self.differences.metadata:
            self._require_path(path)
            self.collector.add(SetMetadata(table=self.name, column=path, metadata=entries))
        current = self.collector.table(self.name).metadata
        if entries := metadata_changes(self.model, current):
            self.collector.add(SetMetadata(table=self.name, metadata=entries))

    def _require_path(self, path: str) -> None:
        """Refuse a field that no path can name: a nested field with a period in its name."""
        try:
            field_within(self.name, self.collector.table(self.name).columns, path)
        except PlanError as error:
            raise PlanError(
                f"{self.name}.{path}: its metadata cannot be changed because its name contains a period",
                next_step="set its metadata in the model as in the catalog, then run the same command again",
            ) from error

    def _clear_key(self) -> None:
        lost = {*self.differences.dropped, *(field.name for field, _ in self.differences.replaced)}
        if lost & set(self.current.key):
            self.collector.add(SetKey(table=self.name, key=()))

    @property
    def _wanted_key(self) -> tuple[str, ...]:
        """The model's key; for a model without one, the current key, if all its columns are kept."""
        if self.model.key is not None:
            return self.model.key
        return self.current.key if set(self.current.key) <= set(self.model.columns.names) else ()

    def _set_key(self) -> None:
        wanted = self._wanted_key
        if self.collector.table(self.name).key != wanted:
            remark = f"Refused if two rows have the same {', '.join(wanted)}, or if a key column is null."
            self.collector.add(SetKey(table=self.name, key=wanted), *([remark] if wanted else []))

    @property
    def _wanted_indices(self) -> tuple[Index, ...]:
        """The model's indices; for a model that declares none, the current ones that can be kept."""
        if self.model.indices is not None:
            return self.model.indices
        columns = self.model.columns
        return tuple(
            index
            for index in self.current.indices
            if has_column(columns, index.column)
            and can_create(index)
            and indexable(index.type, column(self.name, columns, index.column).type)
        )

    def _drop_indices(self) -> None:
        wanted = {index.name: index for index in self._wanted_indices}
        for index in self.current.indices:
            kept = has_column(self.model.columns, index.column)
            same = index.name in wanted and not index_differs(wanted[index.name], index, live=self.live)
            if kept and (not same or index.column in self.recomputed):
                self.collector.add(DropIndex(table=self.name, name=index.name))

    def _create_indices(self) -> None:
        existing = {index.name for index in self.collector.table(self.name).indices}
        for index in self._wanted_indices:
            if index.name not in existing:
                self.collector.add(create_index(self.name, index))


def create_index(table: str, index: Index) -> CreateIndex:
    """The operation that creates `index`; a name that is Lance's default is omitted."""
    is_default = index.name == f"{index.column}_idx"
    return CreateIndex(
        table=table,
        column=index.column,
        type=index.type,
        name=None if is_default else index.name,
        params=index.params,
    )


def can_create(index: Index) -> bool:
    """Whether lancemig can create an index of this type."""
    try:
        create_index("t", index)
    except ValidationError:
        return False
    return True


def index_differs(wanted: Index, current: Index, *, live: bool) -> bool:
    """Whether an index must be created again.

    Args:
        wanted: The index of the model; only the parameters that it gives are compared.
        current: The existing index.
        live: Whether `current` was read from the table, which does not tell all parameters: unknown ones
            count as equal.
    """
    if live:
        return any(index_differences(wanted, current))
    if (wanted.column, wanted.type) != (current.column, current.type):
        return True
    return any(
        name not in current.params or not same_param(value, current.params[name])
        for name, value in wanted.params.items()
    )


def metadata_changes(model: Model, current: Mapping[str, str]) -> dict[str, str | None]:
    """The changes of a table's metadata: entries to set, and None for those to remove."""
    entries = {k: v for k, v in model.metadata.items() if not _same_metadata(k, v, current.get(k))}
    if model.complete:
        entries |= {k: None for k in current if k not in model.metadata}
    return {k: v for k, v in entries.items() if not k.startswith("lancemig.")}


def _same_metadata(key: str, wanted: str | None, current: str | None) -> bool:
    if key == EMBEDDINGS and wanted and current:
        return embedding_functions(wanted) == embedding_functions(current)
    return wanted == current
