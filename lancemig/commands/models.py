"""What the application says its tables look like, beside what revisions or the live catalog have."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ValidationError

from lancemig.catalog.checks import Check
from lancemig.catalog.models import Model, Table, arrow_of, model_of
from lancemig.catalog.schema import CatalogSchema
from lancemig.commands import project
from lancemig.commands.hooks import OnWarning, unheard
from lancemig.config import Settings
from lancemig.errors import ConfigError, LancemigError, PlanError
from lancemig.plan.changes import Changes
from lancemig.plan.model_diff import diff
from lancemig.plan.renames import read_renames
from lancemig.script.declarations import declared
from lancemig.script.line import Line
from lancemig.script.loader import load, replay
from lancemig.script.rendering import function_source, rendered
from lancemig.script.writer import Draft

if TYPE_CHECKING:
    # What compares with files alone needs no store.
    from lancemig.commands.opening import Catalog

Against = Literal["files", "live"]


def load_models(settings: Settings) -> dict[str, Model]:
    """The models that lancemig.ini names, by table; ConfigError names the one that is wrong."""
    if settings.models is None:
        raise ConfigError(
            f"{settings.path.name} names no models",
            next_step=f"write `models = package.module:tables` in {settings.path.name}",
        )
    found = declared(settings.models, settings.path.parent)
    return {name: _model(settings.models, name, given) for name, given in found.items()}


def model_differences(settings: Settings, line: Line) -> Changes:
    """What the models ask for beyond the revisions of `line`: none where the two agree.

    `sentences` says each difference in a line, `operations` are what a revision would hold. Needs no store.
    Raises ConfigError where models cannot be loaded, ScriptError where revisions cannot.
    """
    return diff(load_models(settings), _replayed(line))


def live_differences(catalog: "Catalog") -> Changes:
    """What the models ask for beyond the live catalog, which must be at the files' head."""
    return diff(load_models(catalog.settings), _live(catalog), live=True)


def autogenerate(
    settings: Settings,
    draft: Draft,
    *,
    against: Against = "files",
    renames: Iterable[str] = (),
    warn: OnWarning = unheard,
) -> Path | None:
    """Write the revision that makes the catalog what the models say; None where it is that already."""
    finished = project.resumed(settings, project.command_of(draft), warn)
    if finished is not None:
        return Path(finished.told["path"])
    models, line = load_models(settings), project.read_line(settings)
    found = _replayed(line) if against == "files" else _live(_opened(settings))
    changes = diff(models, found, read_renames(renames, models, found), live=against == "live")
    if not changes.changes:
        return None
    return project.revision(settings, drafted(draft, changes), warn)


def drafted(draft: Draft, changes: Changes) -> Draft:
    """`draft` with these changes: their operations, remarks above them, and places for functions."""
    places = [change.place for change in changes.changes if change.place is not None]
    return draft.model_copy(
        update={
            "operations": tuple(rendered(operation) for operation in changes.operations),
            "remarks": tuple(change.remarks for change in changes.changes),
            "functions": tuple(map(function_source, places)),
            "kind": draft.kind or ("rebuild" if changes.rebuild else None),
        }
    )


def standing_checks(settings: Settings) -> tuple[Check, ...]:
    """The checks of lancemig.ini, and those of the models."""
    if settings.models is None:
        return settings.checks
    return (*settings.checks, *(check for model in load_models(settings).values() for check in model.checks))


def _opened(settings: Settings) -> "Catalog":
    from lancemig.commands.opening import open_catalog

    return open_catalog(settings)


def _replayed(line: Line) -> CatalogSchema:
    return replay(load(header) for header in line.headers)


def _live(catalog: "Catalog") -> CatalogSchema:
    """The schema of the live catalog; what pending revisions are going to change would be written again."""
    place, head = catalog.place(catalog.seen()), catalog.line.head
    if place.revision != head:
        raise PlanError(
            f"the live catalog is at {place.revision or 'base'}, the files' head is {head or 'base'}: what "
            "lies between would be written twice",
            next_step="lancemig upgrade, or without --against live",
        )
    tables = catalog.store.tables.newest(place.prefix)
    return CatalogSchema(tables={name: table.schema() for name, table in tables.items()})


def _model(models: str, name: str, given: Any) -> Model:
    table = given if isinstance(given, Table) else Table(given)
    by_class = isinstance(table.declared, type)
    try:
        return model_of(name, table, _schema(table.declared), by_class=by_class)
    except (LancemigError, ValidationError, TypeError, ValueError) as error:
        said = error.message if isinstance(error, LancemigError) else _first(error)
        raise ConfigError(
            f"models = {models}: table {name!r}: {said}", next_step="mend the model, then the same command"
        ) from error


def _schema(given: Any) -> Any:
    arrow = arrow_of(given)
    if arrow is not None:
        return arrow
    if isinstance(given, type) and issubclass(given, BaseModel):
        from lancemig.store.tables.declared import pydantic_schema

        return pydantic_schema(given)
    raise TypeError(f"a Table, LanceModel, pydantic model or pyarrow schema is needed, not {given!r}")


def _first(error: Exception) -> str:
    if isinstance(error, ValidationError):
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, problem["loc"]))
        return f"{place}: {problem['msg']}" if place else str(problem["msg"])
    return str(error)
