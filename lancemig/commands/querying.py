"""The verbs that ask a catalog by SQL, as it is or as a revision left it."""

from collections.abc import Mapping

from lancemig.apply.checks import run_checks
from lancemig.catalog.lineage import CheckResult
from lancemig.commands.models import standing_checks
from lancemig.commands.opening import Catalog
from lancemig.commands.past import past
from lancemig.store.tables import Answer, Table, ask


def query(catalog: Catalog, sql: str, at: str | None = None, limit: int | None = None) -> Answer:
    """What `sql` gives over all tables, each at one version; of its rows, `limit` at most are kept."""
    tables, absent = _tables(catalog, at)
    return ask(tables, sql, limit=limit, absent=absent)


def audit(catalog: Catalog, at: str | None = None) -> list[CheckResult]:
    """The outcome of the standing checks of lancemig.ini and of the models, all over the same versions."""
    checks = standing_checks(catalog.settings)
    if not checks:
        return []
    tables, absent = _tables(catalog, at)
    return run_checks(tables, checks, absent=absent)


def _tables(catalog: Catalog, at: str | None) -> tuple[Mapping[str, Table], Mapping[str, str]]:
    """The tables now, or as a revision left them; and why some of those cannot be opened any more."""
    if at is not None:
        return past(catalog, at).tables(catalog)
    return catalog.store.tables.newest(catalog.place(catalog.seen()).prefix), {}
