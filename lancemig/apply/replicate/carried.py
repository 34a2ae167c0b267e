"""What a table carries besides its rows: tags and branches of others, configuration and table metadata.

Rows are replicated by commits of lancemig, so a version after the pinned one has another number in the staged
root. A tag on such a version stays in the old root, and the run says so.
"""

import logging
from collections.abc import Mapping

from lancemig.apply.environment import Progress
from lancemig.apply.run import RunContext
from lancemig.catalog.stamps import settings_stamp
from lancemig.catalog.value import format_root
from lancemig.errors import StoreError, VerifyFailed
from lancemig.events import log_event
from lancemig.plan.plan import Carried
from lancemig.store.lance import LanceRefused, ReferencesCarried, Staged, Stamp, Table
from lancemig.store.lance.staging import settings

_log = logging.getLogger(__name__)


def carry_references(context: RunContext, *, add_only: bool = False) -> None:
    """Let the tables that were copied or cloned have the tags and branches that the live tables have now.

    Args:
        context: The run.
        add_only: Leave the tags and branches of the staged root as they are: it is live, and others may have
            made them.

    Raises:
        VerifyFailed: A tag or branch leads to other rows than in the live root; never with `add_only`.
    """
    for carried in context.plan.carried:
        if carried.copied and carried.staged_as is not None:
            try:
                found = _carry_one(context, carried, carried.staged_as, add_only=add_only)
            except (StoreError, VerifyFailed, LanceRefused) as error:
                if not add_only:
                    raise
                # The flip is done, and the old root keeps them.
                text = f"{carried.table}: tags and branches were not compared after the flip: {error.message}"
                context.messages.append(f"{text}; {format_root(context.root)} keeps what it has")
            else:
                _report(context, carried, found)


def _carry_one(context: RunContext, carried: Carried, name: str, *, add_only: bool) -> ReferencesCarried:
    tables, prefix = context.store.tables, context.staged_prefix
    named = tables.reference_names(context.root, carried.table)
    if not named and (add_only or not tables.reference_names(prefix, name)):
        return ReferencesCarried((), ())
    live = tables.open(context.root, carried.table, context.run.bases[carried.table])
    context.on_progress(Progress("references", carried.table, text="carrying tags and branches"))
    return tables.carry_references(live, prefix, name, context.lease.renew, add_only=add_only)


def _report(context: RunContext, carried: Carried, found: ReferencesCarried) -> None:
    for reference, reason in found.left:
        text = f"{carried.table}: {reference} stays in {format_root(context.root)}: {reason}"
        if text not in context.messages:
            context.messages.append(text)
            log_event(_log, "reference_left", "%s", text, table=carried.table, root=context.root,
                      reference=str(reference), reason=reason)  # fmt: skip


def carry_settings(context: RunContext, source: str, target: str) -> None:
    """Let a staged table have the configuration and the table metadata that the live table has now.

    What only the staged table has is left alone. Repeated, it does nothing.

    Args:
        context: The run.
        source: The live table.
        target: The staged table.
    """
    tables = context.store.tables
    pinned = tables.open(context.root, source, context.run.bases[source])
    live = tables.open(context.root, source)

    def stage(staged: Table) -> Staged | None:
        return settings(
            staged,
            _changed(pinned.config, live.config, staged.config),
            _changed(pinned.metadata, live.metadata, staged.metadata),
        )

    stamp = Stamp(context.run.run, context.staged_revision, settings_stamp(source, live.version))
    context.executor.commit_with_retry(context.staged_prefix, target, stamp, stage)


def _changed(
    pinned: Mapping[str, str], live: Mapping[str, str], staged: Mapping[str, str]
) -> dict[str, str | None]:
    """The entries to set in the staged table, and with None those that were removed from the live one."""
    removed = {name: None for name in pinned if name not in live and name in staged}
    return {name: text for name, text in live.items() if staged.get(name) != text} | removed
