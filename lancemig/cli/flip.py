"""Verbs that move the pointer between roots."""

import time
from typing import Any

import click

from lancemig.cli.session import (
    CONFLICTS_NEXT,
    Session,
    backup_option,
    confirm_option,
    exit_if_not_replicated,
    json_option,
    main,
    note_option,
    noted,
    refuse_idle,
    shown,
    typed,
)
from lancemig.errors import LancemigError

exists_option = click.option(
    "--when-exists", type=click.Choice(["error", "overwrite", "keep"]), default="error", show_default=True,
    help="If both roots changed a row: fail, overwrite the live values, or keep them.",
)  # fmt: skip


@main.command()
@click.option("--prefix", help="Staged root [default: the one waiting for a flip].")
@click.option("--plan", "plan_only", is_flag=True, help="Dry run: show what the flip would do, and stop.")
@confirm_option
@backup_option
@json_option
@click.pass_obj
def flip(
    session: Session,
    prefix: str | None,
    plan_only: bool,
    confirm: str | None,
    backup: bool,
    as_json: bool,
) -> None:
    """Make the root staged by `upgrade --no-flip` live.

    The root is caught up and verified again first.
    """
    from lancemig.commands import flip as flip_commands
    from lancemig.console import progress
    from lancemig.report import lineage as lineage_report
    from lancemig.report import status as status_report

    if plan_only:
        plan = flip_commands.flip_plan(session.catalog, prefix)
        head = _head(session)
        shown(
            lambda: lineage_report.flip_plan_text(plan, head),
            lambda: lineage_report.flip_plan_json(plan),
            as_json,
        )
        return
    session.confirm(confirm)
    session.have_backup(backup)
    with progress() as on_progress:
        outcome = flip_commands.flip(session.catalog, prefix, on_progress)
    shown(lambda: status_report.outcome_text(outcome), lambda: status_report.outcome_json(outcome), as_json)
    exit_if_not_replicated(outcome.not_replicated)


@main.command()
@click.option(
    "--plan", "plan_only", is_flag=True, help="Dry run: show which rows would be carried back, and stop."
)
@click.option("--discard", is_flag=True, help="Never carry back the rows written since the flip.")
@click.option("--again", is_flag=True, help="Roll forward again after a rollback.")
@exists_option
@note_option
@confirm_option
@json_option
@click.pass_context
def rollback(
    ctx: click.Context,
    plan_only: bool,
    discard: bool,
    again: bool,
    when_exists: Any,
    note: str | None,
    confirm: str | None,
    as_json: bool,
) -> None:
    """Roll back to the root that was live before the last flip.

    Rows written since the flip are then carried back. Exit 1 if some could not be.
    """
    from lancemig.commands import flip as flip_commands
    from lancemig.console import progress
    from lancemig.report import lineage as lineage_report

    session: Session = ctx.obj
    if plan_only:
        refuse_idle(ctx, "--plan", "again", "discard", "when_exists")
    if discard:
        refuse_idle(ctx, "--discard", "when_exists")
    if plan_only:
        result = flip_commands.rollback_plan(session.catalog)
    else:
        session.confirm(confirm)
        with progress() as on_progress:
            result = flip_commands.rollback(
                session.catalog,
                note,
                again=again,
                discard=discard,
                when_exists=when_exists,
                on_progress=on_progress,
            )
    shown(
        lambda: lineage_report.rollback_text(result, _head(session)),
        lambda: lineage_report.rollback_json(result),
        as_json,
    )
    conflicts = any(table.conflicts for table in result.carried_back or ())
    if conflicts:
        noted(CONFLICTS_NEXT)
    ctx.exit(1 if result.failed or conflicts else 0)


def _head(session: Session) -> str | None:
    """The head of the files; None if they cannot be read, which must not keep anybody from rolling back."""
    try:
        return session.catalog.chain.head
    except LancemigError:
        return None


@main.command()
@exists_option
@click.option("--discard", is_flag=True, help="Never copy the late writes; they stay in the old roots.")
@click.option(
    "--watch",
    type=click.FloatRange(min=0),
    metavar="MINUTES",
    help="Keep looking for late writes for MINUTES.",
)
@click.option("--every", type=click.FloatRange(min=0.01), default=10.0, show_default=True, metavar="SECONDS",
              help="With --watch: interval between looks.")  # fmt: skip
@confirm_option
@json_option
@click.pass_context
def reconcile(
    ctx: click.Context,
    when_exists: Any,
    discard: bool,
    watch: float | None,
    every: float,
    confirm: str | None,
    as_json: bool,
) -> None:
    """Copy late writes from previous roots into the live one.

    Exit 1 if some were not copied because both roots changed the same rows.
    """
    from lancemig.commands import flip as flip_commands
    from lancemig.report import lineage as lineage_report

    session: Session = ctx.obj
    if watch is None and typed(ctx, "every"):
        raise click.UsageError("--every requires --watch")
    if discard:
        refuse_idle(ctx, "--discard", "when_exists", "watch")
    session.confirm(confirm)
    if discard:
        late = flip_commands.discard_late_writes(session.catalog)
        shown(
            lambda: lineage_report.discarded_text(late), lambda: lineage_report.discarded_json(late), as_json
        )
        return
    until = time.monotonic() + (watch or 0) * 60
    while True:
        results = flip_commands.reconcile(session.catalog, when_exists)
        over = time.monotonic() + every > until
        if over or any(table.rows or table.conflicts for table in results):
            shown(
                lambda: lineage_report.reconcile_text(results),  # noqa: B023
                lambda: lineage_report.reconcile_json(results),  # noqa: B023
                as_json,
            )
        if over:
            break
        time.sleep(every)
    conflicts = any(table.conflicts for table in results)
    if conflicts:
        noted(CONFLICTS_NEXT)
    ctx.exit(1 if conflicts else 0)
