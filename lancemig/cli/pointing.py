"""Verbs that move the pointer between roots."""

import time
from typing import Any

import click

from lancemig.cli.session import Session, backup_option, confirm_option, json_option, main, note_option, shown

exists_option = click.option(
    "--when-exists", type=click.Choice(["error", "overwrite", "keep"]), default="error", show_default=True,
    help="Where both roots were written to: tell it, let the root that was left win, or the live one.",
)  # fmt: skip


@main.command()
@click.option("--prefix", help="The staged root; default: the one that waits.")
@confirm_option
@backup_option
@json_option
@click.pass_obj
def flip(session: Session, prefix: str | None, confirm: str | None, backup: bool, as_json: bool) -> None:
    """Make the root that `upgrade --no-flip` staged the live one.

    It is caught up and verified again first.
    """
    from lancemig.commands import pointing
    from lancemig.console import progress
    from lancemig.report import states

    session.confirm(confirm)
    session.have_backup(backup)
    with progress() as on_progress:
        outcome = pointing.flip(session.catalog, prefix, on_progress)
    shown(lambda: states.outcome_text(outcome), lambda: states.outcome_json(outcome), as_json)


@main.command()
@click.option("--plan", "plan_only", is_flag=True, help="Tell what could go back, and stop; writes nothing.")
@click.option("--discard", is_flag=True, help="Leave what was written since the flip where it is, for good.")
@click.option("--again", is_flag=True, help="Even if the last change was a rollback: go forward again.")
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
    """Return to the root that was live before the last flip.

    What was written since is carried back after. Exit 1 if some of it could not be.
    """
    from lancemig.commands import pointing
    from lancemig.console import progress
    from lancemig.report import roots

    session: Session = ctx.obj
    if plan_only:
        done = pointing.rollback_plan(session.catalog)
    else:
        session.confirm(confirm)
        with progress() as on_progress:
            done = pointing.rollback(
                session.catalog,
                note,
                again=again,
                discard=discard,
                when_exists=when_exists,
                on_progress=on_progress,
            )
    head = session.catalog.line.head
    shown(lambda: roots.rollback_text(done, head), lambda: roots.rollback_json(done), as_json)
    ctx.exit(1 if any(one.left for one in done.brought or ()) else 0)


@main.command()
@exists_option
@click.option("--watch", type=click.FloatRange(min=0), metavar="MINUTES", help="Stay on guard for so long.")
@click.option("--every", type=click.FloatRange(min=0.01), default=10.0, show_default=True, metavar="SECONDS",
              help="How often to look, with --watch.")  # fmt: skip
@confirm_option
@json_option
@click.pass_context
def reconcile(
    ctx: click.Context,
    when_exists: Any,
    watch: float | None,
    every: float,
    confirm: str | None,
    as_json: bool,
) -> None:
    """Bring over what reached roots that the pointer left.

    Exit 1 if some of it was left, because both sides changed the same rows.
    """
    from lancemig.commands import pointing
    from lancemig.report import roots

    session: Session = ctx.obj
    session.confirm(confirm)
    until = time.monotonic() + (watch or 0) * 60
    while True:
        brought = pointing.reconcile(session.catalog, when_exists)
        over = time.monotonic() + every > until
        if over or any(one.rows or one.left for one in brought):
            shown(lambda: roots.brought_text(brought), lambda: roots.brought_json(brought), as_json)  # noqa: B023
        if over:
            break
        time.sleep(every)
    ctx.exit(1 if any(one.left for one in brought) else 0)
