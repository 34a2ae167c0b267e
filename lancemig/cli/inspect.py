"""Verbs that only read; `doctor` also writes scratch objects."""

import json
from pathlib import Path

import click

from lancemig.cli.session import Session, json_option, main, show_findings, shown
from lancemig.revisions.journal import require_writable, write_output

at_option = click.option("--at", metavar="REV", help="Read the tables as revision REV left them.")


@main.command()
@json_option
@click.pass_obj
def current(session: Session, as_json: bool) -> None:
    """Show the live revision and root."""
    from lancemig.commands import status as status_commands
    from lancemig.report import status as status_report

    active, head = status_commands.current(session.catalog), session.catalog.chain.head
    show_findings(status_commands.foreign_pointer(session.catalog, session.catalog.seen()))
    shown(
        lambda: status_report.root_text(active, head), lambda: status_report.root_json(active, head), as_json
    )


@main.command()
@json_option
@click.pass_obj
def status(session: Session, as_json: bool) -> None:
    """Show what is live, pending and running, and the next command."""
    from lancemig.commands import status as status_commands
    from lancemig.report import status as status_report

    found = status_commands.status(session.catalog)
    shown(lambda: status_report.status_text(found), lambda: status_report.status_json(found), as_json)


@main.command()
@click.option("--offline", is_flag=True, help="Compare models and files only; needs no store.")
@click.option(
    "--ignore", multiple=True, metavar="PATTERN", help="Ignore findings with these codes, e.g. LM3 or LM31*."
)
@click.option("--format", "form", type=click.Choice(["text", "json", "github"]), default="text",
              show_default=True, help="Output format; github: annotations of a pull request.")  # fmt: skip
@json_option
@click.pass_context
def check(ctx: click.Context, offline: bool, ignore: tuple[str, ...], form: str, as_json: bool) -> None:
    """Report drift of models, files, lineage and live catalog.

    Exit 0 if they agree and the head is live, else 1. Each difference has a code. Made for CI: reads no
    rows and writes nothing.
    """
    from lancemig.report import check as check_report

    session: Session = ctx.obj
    if offline:
        from lancemig.commands.check_files import check_files

        comparisons = check_files(session.settings)
    else:
        from lancemig.commands import check as check_commands

        comparisons = check_commands.check(session.catalog)
    found = [comparison.without(ignore) for comparison in comparisons]
    if form == "github" and not as_json:
        annotations = check_report.findings_github(found, session.workspace)
        click.echo(annotations, nl=bool(annotations))
    else:
        text, document = check_report.findings_text, check_report.findings_json
        shown(lambda: text(found), lambda: document(found), as_json or form == "json")
    ctx.exit(0 if all(comparison.ok for comparison in found) else 1)


@main.command()
@at_option
@json_option
@click.pass_context
def audit(ctx: click.Context, at: str | None, as_json: bool) -> None:
    """Run the standing checks (exit 1 if one fails).

    The checks of lancemig.ini and of the models, as SQL over the live tables. Writes nothing; made for a
    nightly job.
    """
    from lancemig.commands import query as query_commands
    from lancemig.report import status as status_report

    session: Session = ctx.obj
    results = query_commands.audit(session.catalog, at)
    none = f"no checks: neither [checks] in {session.settings.path.name} nor the models define any"
    shown(
        lambda: status_report.checks_text(results) if results else none,
        lambda: status_report.checks_json(results),
        as_json,
    )
    ctx.exit(0 if all(result.ok for result in results) else 1)


@main.command()
@click.argument("sql")
@at_option
@json_option
@click.pass_obj
def query(session: Session, sql: str, at: str | None, as_json: bool) -> None:
    """Query the live tables with SQL (read-only).

    SQL is a single query in DuckDB's dialect. Each table is read at one version.
    """
    from lancemig.commands import query as query_commands
    from lancemig.report import verify as verify_report

    result = query_commands.query(session.catalog, sql, at, None if as_json else verify_report.MAX_ROWS)
    shown(lambda: verify_report.query_text(result), lambda: verify_report.query_json(result), as_json)


@main.command()
@click.argument("revision", required=False)
@click.option(
    "--against", metavar="PREFIX", help="Compare the live root with the root at PREFIX, both as they are now."
)
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Write the full report to FILE, as JSON.")  # fmt: skip
@json_option
@click.pass_context
def verify(
    ctx: click.Context, revision: str | None, against: str | None, report: Path | None, as_json: bool
) -> None:
    """Repeat the verification of a flip (exit 1 if a gate fails).

    Verifies the last flip, or the last one to REVISION, from the guarded versions of both roots. Changes
    nothing.
    """
    if revision is not None and against is not None:
        raise click.UsageError("REVISION and --against cannot be combined")
    from lancemig.commands import verify as verify_commands
    from lancemig.console import progress
    from lancemig.report import verify as verify_report

    require_writable(report, "--report")
    session: Session = ctx.obj
    with progress() as on_progress:
        if against is not None:
            found = verify_commands.verify_against(session.catalog, against, on_progress)
        else:
            found = verify_commands.verify(session.catalog, revision, on_progress)
    shown(lambda: verify_report.verify_text(found), lambda: verify_report.verify_json(found), as_json)
    if report is not None:
        write_output(report, json.dumps(found.document(), indent=1), "--report")
    ctx.exit(0 if found.ok else 1)


@main.command()
@json_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Check that the store supports what lancemig needs.

    Writes scratch objects, some of them concurrently, and removes them.
    """
    from lancemig.commands import doctor as doctor_commands
    from lancemig.report import status as status_report

    session: Session = ctx.obj
    results = doctor_commands.doctor(session.catalog)
    shown(lambda: status_report.checks_text(results), lambda: status_report.checks_json(results), as_json)
    ctx.exit(0 if all(result.ok for result in results) else 1)
