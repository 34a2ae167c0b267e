"""A catalog that exists gets a project: lancemig.ini, a first revision that tells of it, and a stamp."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from lancemig.catalog.lineage import RootRevision
from lancemig.catalog.models import cannot_recreate, recreate
from lancemig.catalog.operations.base import nameable
from lancemig.commands import files
from lancemig.commands.context import Catalog, open_catalog
from lancemig.commands.files import OnWarning, finish, unheard
from lancemig.commands.upgrade import stamp
from lancemig.config import MAIN, Settings, filled_ini, ini_text, read_settings
from lancemig.errors import ConfigError, PlanError, ScriptError
from lancemig.revisions.render import render_operation
from lancemig.revisions.writer import Draft

_LAYOUTS = ("catalog/", "")
"""Where tables lie in a root: as lancemig has it by default, or as LanceDB does."""


@dataclass(frozen=True)
class Adopted:
    """The files that were written, and where the catalog is now.

    `keyless` are tables of which nothing tells what identifies a row; `left_out`, what of the catalog no
    operation makes.
    """

    files: tuple[Path, ...]
    place: RootRevision
    keyless: tuple[str, ...]
    left_out: tuple[str, ...] = field(default=())


def init_from_live(
    folder: Path, store: str, prefix: str | None, given: Mapping[str, str], environ: Mapping[str, str]
) -> Adopted:
    """Make a project in `folder` for the catalog in `store`, and baseline it. Overwrites nothing.

    `prefix` is its root, where no pointer says so; `given` are other keys of lancemig.ini. In which folder of
    the root the tables lie is found out. ConfigError where there are none.
    """
    ini = folder / "lancemig.ini"
    files.refuse_existing(ini, next_step=f"lancemig -c {ini} baseline -m MESSAGE")
    values = {"store": _absolute(store), **given}
    if prefix is not None:
        values["fallback_prefix"] = prefix
    values.setdefault("fallback_prefix", "")
    found = _looked_for(values, prefix, environ)
    values |= found
    made = files.init(folder, filled_ini({**values, "store": _as_written(values["store"], folder)}))
    settings = read_settings(ini, MAIN, environ=environ)
    adopted = baseline(open_catalog(settings), "The catalog as it was found")
    return replace(adopted, files=(made[0], *adopted.files))


def baseline(catalog: Catalog, message: str, rev_id: str | None = None, warn: OnWarning = unheard) -> Adopted:
    """Write the first revision, which makes the live catalog out of nothing, and stamp the catalog with it.

    A catalog that is at a revision which no file describes keeps it. Raises ScriptError where there are
    revisions already, PlanError where there is no table, or one that no operation makes.
    """
    catalog.changeable()
    finish(catalog.settings, files.shown(catalog.settings.script_location), warn)
    place = catalog.active(catalog.seen())
    if catalog.chain.headers:
        raise ScriptError(
            f"the project already has revisions ({catalog.chain.revisions[0]} …); a baseline must be "
            "the first",
            next_step=_stamping(catalog, place),
        )
    live = catalog.store.tables.live(place.prefix).catalog
    if not live.tables:
        raise PlanError(f"{place.prefix or './'} has no tables", next_step="lancemig revision -m MESSAGE")
    draft = Draft(
        message=message,
        rev_id=rev_id or place.revision,
        operations=tuple(map(render_operation, recreate(live))),
        file_template=catalog.settings.file_template,
    )
    path = files.revision(catalog.settings, draft, warn)
    fresh = open_catalog(catalog.settings)
    there, _ = stamp(fresh, "head", message)
    keyless = tuple(name for name, table in live.tables.items() if nameable(name) and not table.key)
    return Adopted((path,), there, keyless, tuple(cannot_recreate(live)))


def _stamping(catalog: Catalog, place: RootRevision) -> str:
    if len(catalog.chain.headers) == 1 and place.revision is None:
        return f"lancemig stamp {catalog.chain.head}, if the live tables are at that revision"
    return "lancemig stamp REVISION, if the live tables are at one of them"


def _looked_for(values: Mapping[str, str], prefix: str | None, environ: Mapping[str, str]) -> dict[str, str]:
    """The root and the folder of the tables, as far as they are not given."""
    with TemporaryDirectory() as scratch:
        ini = Path(scratch) / "lancemig.ini"
        ini.write_text(filled_ini({**values, "store": ini_text(values["store"])}), encoding="utf-8")
        settings = read_settings(ini, MAIN, environ=environ)
    catalog = open_catalog(settings)
    pointer = catalog.store.pointers.read().pointer
    root = pointer.active_prefix if pointer else settings.fallback_prefix or ""
    if prefix is not None and pointer is not None and settings.fallback_prefix != root:
        raise ConfigError(
            f"the pointer {settings.pointer} names {root} as live root, not {settings.fallback_prefix}",
            next_step="run lancemig init --from-live without --prefix, or use another pointer with -x "
            "pointer=KEY",
        )
    given = (settings.catalog_dir,) if "catalog_dir" in values else _LAYOUTS
    there = [at for at in given if _has_tables(catalog, f"{root}{at}")]
    if len(there) != 1:
        raise _not_one(settings, root, there, catalog.store.objects.folders(root))
    return {"fallback_prefix": root, "catalog_dir": there[0]}


def _has_tables(catalog: Catalog, folder: str) -> bool:
    return any(name.endswith(".lance") for name in catalog.store.objects.folders(folder))


def _not_one(settings: Settings, root: str, there: Sequence[str], folders: Sequence[str]) -> ConfigError:
    where = f"{settings.store}/{root}"
    if there:
        return ConfigError(
            f"both {where} and {where}catalog/ have tables",
            next_step="lancemig -x catalog_dir=catalog/ init --from-live …, or -x catalog_dir=",
        )
    if "_versions" in folders:
        above, _, _ = settings.store.rstrip("/").rpartition("/")
        return ConfigError(
            f"{where.rstrip('/')} is a table, not a folder of tables",
            next_step=f"lancemig init --from-live --store {above}" if not root else "give a shorter --prefix",
        )
    shown = ", ".join(f"{name}/" for name in sorted(folders)[:10]) or "nothing"
    return ConfigError(
        f"{where} has no Lance tables; it has {shown}",
        next_step="lancemig init --from-live --store STORE --prefix ROOT/",
    )


def _absolute(store: str) -> str:
    return store if "://" in store else str(Path(store).expanduser().absolute())


def _as_written(store: str, folder: Path) -> str:
    """The store as lancemig.ini has it: a path that lies below the folder of that file is told from there."""
    below = Path(store).is_relative_to(folder.absolute()) and "://" not in store
    return (
        f"%(here)s/{ini_text(str(Path(store).relative_to(folder.absolute())))}" if below else ini_text(store)
    )
