"""Verbs that archive, copy, delete and detach roots."""

from datetime import timedelta

import click

from lancemig.catalog.value import duration
from lancemig.cli.session import Session, confirm_option, json_option, main, note_option, shown


def _duration(ctx: click.Context, param: click.Parameter, value: str | None) -> timedelta | None:
    try:
        return None if value is None else duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from error


@main.command()
@click.argument("root", required=False)
@click.option("--retention", callback=_duration, metavar="30d",
              help="How long to keep it [default: archive_retention].")  # fmt: skip
@click.option("--to", metavar="DST", help="Copy it to DST first: s3://bucket/prefix or a path.")
@click.option(
    "--to-section", metavar="NAME", help="Section of lancemig.ini with the storage options for DST."
)
@note_option
@confirm_option
@json_option
@click.pass_obj
def archive(
    session: Session,
    root: str | None,
    retention: timedelta | None,
    to: str | None,
    to_section: str | None,
    note: str | None,
    confirm: str | None,
    as_json: bool,
) -> None:
    """Set how long an old root is kept before `gc` may delete it.

    ROOT defaults to the root that was live before the last flip. Deletes nothing.
    """
    if to_section is not None and to is None:
        raise click.UsageError("--to-section requires --to")
    from lancemig.commands import retention as retention_commands
    from lancemig.console import progress
    from lancemig.report import retention as retention_report

    session.confirm(confirm)
    with progress() as on_progress:
        result = retention_commands.archive(
            session.catalog,
            root,
            retention=retention,
            to=to,
            section=to_section,
            note=note,
            on_progress=on_progress,
        )
    shown(
        lambda: retention_report.archive_text(result), lambda: retention_report.archive_json(result), as_json
    )


@main.command()
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@click.option(
    "--from-section", metavar="NAME", help="Section of lancemig.ini with the storage options for SRC."
)
@click.option(
    "--to-section", metavar="NAME", help="Section of lancemig.ini with the storage options for DST."
)
@note_option
@json_option
@click.pass_obj
def copy(
    session: Session,
    source: str,
    target: str,
    from_section: str | None,
    to_section: str | None,
    note: str | None,
    as_json: bool,
) -> None:
    """Copy a root to another location and compare every object.

    SRC and DST are s3://bucket/prefix, a path, or a root's prefix in this catalog's store.
    """
    from lancemig.commands import retention as retention_commands
    from lancemig.console import progress
    from lancemig.report import retention as retention_report

    sections = (from_section, to_section)
    with progress() as on_progress:
        result = retention_commands.copy(
            session.catalog, source, target, sections=sections, note=note, on_progress=on_progress
        )
    shown(lambda: retention_report.copy_text(result), lambda: retention_report.copy_json(result), as_json)


@main.command()
@click.option("--plan", "plan_only", is_flag=True, help="Dry run: show what would be deleted, and stop.")
@click.option("--force", is_flag=True, help="Ignore the retention of archived roots and gc_grace.")
@click.option(
    "--forget-tags",
    "forget",
    multiple=True,
    metavar="TABLE:NAME",
    help="Delete a tag or branch of others with the only root that has it; repeatable.",
)
@note_option
@confirm_option
@json_option
@click.pass_obj
def gc(
    session: Session,
    plan_only: bool,
    force: bool,
    forget: tuple[str, ...],
    note: str | None,
    confirm: str | None,
    as_json: bool,
) -> None:
    """Delete unneeded data (preview with --plan)."""
    from lancemig.commands import retention as retention_commands
    from lancemig.console import progress
    from lancemig.report import retention as retention_report

    if plan_only:
        plan = retention_commands.gc_plan(session.catalog, force=force, forget=forget)
        shown(
            lambda: retention_report.gc_plan_text(plan, force=force, forget=forget),
            lambda: retention_report.gc_plan_json(plan),
            as_json,
        )
        return
    session.confirm(confirm)
    with progress() as on_progress:
        result = retention_commands.gc(
            session.catalog, force=force, forget=forget, note=note, on_progress=on_progress
        )
    shown(
        lambda: retention_report.gc_text(result, force=force),
        lambda: retention_report.gc_json(result),
        as_json,
    )


@main.command()
@note_option
@confirm_option
@json_option
@click.pass_obj
def detach(session: Session, note: str | None, confirm: str | None, as_json: bool) -> None:
    """Copy the files that the live root borrows from other roots.

    A rebuild with `staging = clone` borrows files.
    """
    from lancemig.commands import retention as retention_commands
    from lancemig.console import progress
    from lancemig.report import retention as retention_report

    session.confirm(confirm)
    with progress() as on_progress:
        result = retention_commands.detach(session.catalog, note, on_progress)
    shown(
        lambda: retention_report.detached_text(result),
        lambda: retention_report.detached_json(result),
        as_json,
    )
