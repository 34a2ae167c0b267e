"""Verbs that look; all but `doctor` write nothing."""

import click

from lancemig.cli.session import Session, json_option, main, shown


@main.command()
@json_option
@click.pass_obj
def current(session: Session, as_json: bool) -> None:
    """Show which revision and root are live."""
    from lancemig.commands import state
    from lancemig.report import states

    place, head = state.current(session.catalog), session.catalog.line.head
    shown(lambda: states.place_text(place, head), lambda: states.place_json(place, head), as_json)


@main.command()
@json_option
@click.pass_obj
def status(session: Session, as_json: bool) -> None:
    """Show what is live, pending and under way, and what to type next."""
    from lancemig.commands import state
    from lancemig.report import states

    found = state.status(session.catalog)
    shown(lambda: states.status_text(found), lambda: states.status_json(found), as_json)


@main.command()
@click.option("--offline", is_flag=True, help="Look at the files only.")
@json_option
@click.pass_context
def check(ctx: click.Context, offline: bool, as_json: bool) -> None:
    """Exit 0 if the head is live and nothing half-done, else 1.

    Names every difference between the files and the live catalog: the check for CI.
    """
    from lancemig.report import findings

    session: Session = ctx.obj
    if offline:
        from lancemig.commands.findings import check_files

        found = check_files(session.settings)
    else:
        from lancemig.commands import state

        found = state.check(session.catalog)
    shown(lambda: findings.findings_text(found), lambda: findings.findings_json(found), as_json)
    ctx.exit(1 if found else 0)


@main.command()
@json_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Try whether the store does what lancemig stands on.

    Writes scratch objects, races for them, and removes them again.
    """
    from lancemig.commands import doctor as examining
    from lancemig.report import states

    session: Session = ctx.obj
    results = examining.doctor(session.catalog)
    shown(lambda: states.checks_text(results), lambda: states.checks_json(results), as_json)
    ctx.exit(0 if all(result.ok for result in results) else 1)
