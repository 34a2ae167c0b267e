"""`stamp`, `init --from-live` and `baseline`: existing tables count as applied, with a first revision."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from lancemig.apply.exclusive import exclusive
from lancemig.apply.run import facts as flight_facts
from lancemig.apply.run import table_changes
from lancemig.catalog.drift import catalog_drift
from lancemig.catalog.lineage import Action, AppliedMigration, RootRevision
from lancemig.catalog.models import cannot_recreate, recreate
from lancemig.catalog.operations.base import nameable
from lancemig.catalog.schema import LiveCatalog
from lancemig.catalog.value import format_root
from lancemig.commands import files
from lancemig.commands.context import Catalog, open_catalog
from lancemig.commands.files import OnWarning, finish_interrupted, ignore_warning
from lancemig.commands.lance_versions import require_supported
from lancemig.config import MAIN, Settings, filled_ini, ini_text, read_settings
from lancemig.errors import ConfigError, PlanError, ScriptError
from lancemig.revisions.loader import Migration, replay
from lancemig.revisions.render import render_operation
from lancemig.revisions.writer import Draft
from lancemig.store.lance.inventory import SUFFIX
from lancemig.store.objects.location import is_url, lance_address

_LAYOUTS = ("catalog/", "")
"""The folder of the tables in a root: lancemig's default, and LanceDB's."""


@dataclass(frozen=True)
class Adopted:
    """The result of adopting a catalog."""

    files: tuple[Path, ...]
    """The files that were written."""

    active: RootRevision
    """The live root and its revision after the stamp."""

    keyless: tuple[str, ...]
    """Tables without a key."""

    left_out: tuple[str, ...] = field(default=())
    """What no operation creates, in words."""


def init_from_live(
    folder: Path, store: str, prefix: str | None, given: Mapping[str, str], environ: Mapping[str, str]
) -> Adopted:
    """Create a project in `folder` for the catalog in `store`, and baseline it. Never overwrites a file.

    Args:
        folder: Where lancemig.ini and versions/ are written.
        store: An address or a directory.
        prefix: The live root, if there is no pointer.
        given: Other keys of lancemig.ini. Without `catalog_dir`, it is detected.
        environ: The environment variables.

    Raises:
        ConfigError: There are no tables, or tables in both layouts.
    """
    require_supported()
    ini = folder / "lancemig.ini"
    files.refuse_existing(ini, next_step=f"lancemig -c {ini} baseline -m MESSAGE")
    values = {"store": _absolute(store), **given}
    if prefix is not None:
        values["fallback_prefix"] = ini_text(prefix)
    values.setdefault("fallback_prefix", "")
    located = _find_tables(values, prefix, environ)
    values |= located
    written = files.init(folder, filled_ini({**values, "store": _ini_store(values["store"], folder)}))
    settings = read_settings(ini, MAIN, environ=environ)
    adopted = baseline(open_catalog(settings), "The catalog as it was found")
    return replace(adopted, files=(written[0], *adopted.files))


def baseline(
    catalog: Catalog, message: str, rev_id: str | None = None, warn: OnWarning = ignore_warning
) -> Adopted:
    """Write the first revision, which creates the live tables in a new catalog, and stamp the live catalog.

    If the pointer names a revision that no file describes, the new file gets this id.

    Raises:
        ScriptError: The project already has revisions.
        PlanError: There is no table, or one that no operation creates.
    """
    catalog.changeable()
    finish_interrupted(catalog.settings, files.display_path(catalog.settings.script_location), warn)
    active = catalog.active(catalog.seen())
    if catalog.chain.headers:
        raise ScriptError(
            f"the project already has revisions ({catalog.chain.revisions[0]} …); a baseline must be "
            "the first",
            next_step=_stamp_command(catalog, active),
        )
    live = catalog.store.tables.live(active.prefix).catalog
    if not live.tables:
        raise PlanError(
            f"{format_root(active.prefix)} has no tables", next_step="lancemig revision -m MESSAGE"
        )
    draft = Draft(
        message=message,
        rev_id=rev_id or active.revision,
        operations=tuple(map(render_operation, recreate(live))),
        adopts=format_root(active.prefix),
        file_template=catalog.settings.file_template,
    )
    path = files.revision(catalog.settings, draft, warn)
    fresh = open_catalog(catalog.settings)
    stamped, _ = stamp(fresh, "head", message)
    keyless = tuple(name for name, table in live.tables.items() if nameable(name) and not table.key)
    return Adopted((path,), stamped, keyless, tuple(cannot_recreate(live)))


def _stamp_command(catalog: Catalog, active: RootRevision) -> str:
    if len(catalog.chain.headers) == 1 and active.revision is None:
        return f"lancemig stamp {catalog.chain.head}, if the live tables are at that revision"
    return "lancemig stamp REVISION, if the live tables are at one of them"


def _find_tables(values: Mapping[str, str], prefix: str | None, environ: Mapping[str, str]) -> dict[str, str]:
    """Find the root and the folder of the tables, unless they are given."""
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
    lance_address(catalog.store.objects.uri, root)  # refused before a file is written
    given = (settings.catalog_dir,) if "catalog_dir" in values else _LAYOUTS
    layouts = [at for at in given if _has_tables(catalog, f"{root}{at}")]
    if len(layouts) != 1:
        raise _layout_error(settings, root, layouts, catalog.store.objects.folders(root))
    return {"fallback_prefix": ini_text(root), "catalog_dir": ini_text(layouts[0])}


def _has_tables(catalog: Catalog, folder: str) -> bool:
    return any(name.endswith(SUFFIX) for name in catalog.store.objects.folders(folder))


def _layout_error(
    settings: Settings, root: str, layouts: Sequence[str], folders: Sequence[str]
) -> ConfigError:
    where = f"{settings.store}/{root}"
    if layouts:
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
    return store if is_url(store) else str(Path(store).expanduser().absolute())


def _ini_store(store: str, folder: Path) -> str:
    """The value of `store` in lancemig.ini: relative to the file if the store is in its folder."""
    below = Path(store).is_relative_to(folder.absolute()) and not is_url(store)
    return (
        f"%(here)s/{ini_text(str(Path(store).relative_to(folder.absolute())))}" if below else ini_text(store)
    )


def stamp(catalog: Catalog, target: str, note: str | None = None) -> tuple[RootRevision, list[str]]:
    """Record that the live catalog is at `target`. Changes no table; creates a pointer if there is none.

    The lineage gets the digests of the files up to `target`; from then on these count as applied.

    Returns:
        The live root and revision, and the differences between the tables and the files. Differences do not
        prevent the stamp, because files need not reach back to an empty catalog.
    """
    catalog.changeable()
    catalog.require_store()
    with exclusive(catalog.store, catalog.environment, any_pointer=True) as session:
        foreign = catalog.store.pointers.foreign(session.seen)
        active = catalog.active(session.seen)
        revision = catalog.chain.resolve(target, active.revision)
        stamped = RootRevision(prefix=active.prefix, revision=revision)
        migrations = catalog.migrations(catalog.chain.upto(revision))
        live = catalog.store.tables.live(active.prefix)
        facts = flight_facts(live)
        session.committer.guard_catalog(
            active.prefix, {name: version for name, (version, _) in facts.items()}
        )
        origin = foreign.newest.target if foreign and foreign.newest else active
        change = session.pointer_update(Action.STAMP, origin, stamped, note)
        change = replace(change, foreign=foreign)
        session.publish(
            replace(change, tables=table_changes(facts, facts), migrations=tuple(map(_approved, migrations)))
        )
    return stamped, _differences(migrations, live)


def _approved(migration: Migration) -> AppliedMigration:
    header = migration.header
    return AppliedMigration(revision=header.revision, kind=migration.kind, sha256=header.sha256)


def _differences(migrations: Sequence[Migration], live: LiveCatalog) -> list[str]:
    try:
        wanted = replay(migrations)
    except PlanError as error:
        name = f"revision {migrations[-1].header.revision}" if migrations else "base"
        return [f"the schema of {name} cannot be derived from the files: {error.message}"]
    return [one.message for one in catalog_drift(wanted, live.catalog) if not one.harmless]
