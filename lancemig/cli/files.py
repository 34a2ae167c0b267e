"""Verbs on files alone; `history`, `rebase` and `squash` read the lineage if they need it."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from lancemig.cli.session import (
    Session,
    confirm_option,
    json_option,
    main,
    noted,
    show_findings,
    shown,
    warned,
)
from lancemig.errors import LancemigError

if TYPE_CHECKING:
    from lancemig.commands.adopt import Adopted


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path())
@click.option("--from-live", is_flag=True, help="Adopt existing tables: also write the first revision.")
@click.option("--store", help="With --from-live: the store, s3://bucket or a directory.")
@click.option("--prefix", help="With --from-live: the live root, if there is no pointer.")
@click.pass_obj
def init(session: Session, folder: Path, from_live: bool, store: str | None, prefix: str | None) -> None:
    """Create a project in FOLDER: lancemig.ini and versions/.

    With --from-live, adopt existing tables: write their first revision and stamp the catalog.
    Set other keys of lancemig.ini with -x KEY=VALUE.
    """
    from lancemig.commands import files as files_commands

    if not from_live:
        if store is not None or prefix is not None:
            raise click.UsageError("--store and --prefix require --from-live")
        for path in files_commands.init(folder):
            click.echo(f"wrote {path}")
        click.echo("next: set `store` in lancemig.ini, then: lancemig revision -m MESSAGE")
        return
    if store is None:
        raise click.UsageError("--from-live requires --store")
    from lancemig.commands import adopt as adopt_commands

    overrides = dict(text.partition("=")[::2] for text in session.x)
    _show_adopted(adopt_commands.init_from_live(folder, store, prefix, overrides, session.environ))


@main.command()
@click.option("-m", "--message", default="The catalog as it was found", help="Message of the revision.")
@click.option("--rev-id", help="Revision id [default: 0001].")
@confirm_option
@click.pass_obj
def baseline(session: Session, message: str, rev_id: str | None, confirm: str | None) -> None:
    """Write the first revision from the live catalog and stamp it.

    Changes no table.
    """
    from lancemig.commands import adopt as adopt_commands

    session.confirm(confirm)
    _show_adopted(adopt_commands.baseline(session.catalog, message, rev_id, warned))


def _show_adopted(adopted: "Adopted") -> None:
    from lancemig.report import status as status_report
    from lancemig.report.words import number

    for path in adopted.files:
        click.echo(f"wrote {path}")
    click.echo(f"stamped  {status_report.root_text(adopted.active, adopted.active.revision)}")
    for message in adopted.left_out:
        noted(f"left out: {message}")
    if adopted.keyless:
        verb = "has" if len(adopted.keyless) == 1 else "have"
        names = ", ".join(adopted.keyless[:5]) + (", …" if adopted.keyless[5:] else "")
        noted(f"{number(len(adopted.keyless), 'table')} {verb} no key: {names}")
        noted("next: lancemig check; then declare their keys with SetKey in a revision")


@main.command()
@click.option("-m", "--message", default="", help="What the revision does, in one line.")
@click.option("--kind", type=click.Choice(["data-only", "additive", "rebuild"]), help="Declare the kind.")
@click.option("--rev-id", help="Revision id [default: the next number].")
@click.option("--autogenerate", is_flag=True, help="Write the operations that the models require.")
@click.option("--empty", is_flag=True, help="Write no operations (the default).")
@click.option(
    "--against",
    type=click.Choice(["files", "live"]),
    help="Compare the models with the revisions (default) or the live catalog.",
)
@click.option(
    "--rename",
    "renames",
    multiple=True,
    metavar="OLD=NEW",
    help="Rename instead of drop and add: TABLE.OLD=NEW or OLD_TABLE=NEW_TABLE.",
)
@json_option
@click.pass_obj
def revision(
    session: Session,
    message: str,
    kind: str | None,
    rev_id: str | None,
    autogenerate: bool,
    empty: bool,
    against: Literal["files", "live"] | None,
    renames: tuple[str, ...],
    as_json: bool,
) -> None:
    """Create a migration file on top of the head."""
    from lancemig.commands import files as files_commands
    from lancemig.revisions.writer import Draft

    if not autogenerate and (against or renames):
        raise click.UsageError("--against and --rename require --autogenerate")
    if autogenerate and empty:
        raise click.UsageError("--autogenerate and --empty cannot be combined")
    settings = session.settings
    draft = Draft(message=message, kind=kind, rev_id=rev_id, file_template=settings.file_template)
    from lancemig.report import files as files_report

    if not autogenerate:
        path = files_commands.revision(settings, draft, warned)
        shown(
            lambda: files_report.revision_text(path, "files"),
            lambda: files_report.revision_json(path),
            as_json,
        )
        return
    from lancemig.commands import models as models_commands

    compared = against or "files"
    result = models_commands.autogenerate(settings, draft, against=compared, renames=renames, warn=warned)
    shown(
        lambda: files_report.revision_text(result.path, compared),
        lambda: files_report.revision_json(result.path, result.changes),
        as_json,
    )
    if result.changes.stubs:
        names = ", ".join(stub.__name__ for stub in result.changes.stubs)
        noted(f"next: write {names} in the file, then: lancemig upgrade --plan")


@main.command()
@json_option
@click.pass_obj
def heads(session: Session, as_json: bool) -> None:
    """Show the head, or both heads of a fork."""
    from lancemig.commands import files as files_commands
    from lancemig.report import files as files_report

    headers = files_commands.heads(session.settings)
    shown(
        lambda: files_report.heads_text(headers),
        lambda: files_report.headers_json(headers, headers[0].revision if len(headers) == 1 else None),
        as_json,
    )


@main.command()
@click.option("-v", "--verbose", is_flag=True, help="Show parents, kinds and paths.")
@click.option("--lineage", is_flag=True, help="List the changes of the live catalog instead.")
@click.option("--timings", is_flag=True, help="Show how long each phase of a change took.")
@click.option("--verify", is_flag=True, help="Verify the lineage from the pointer to its first entry.")
@json_option
@click.pass_obj
def history(
    session: Session, verbose: bool, lineage: bool, timings: bool, verify: bool, as_json: bool
) -> None:
    """List revisions, or changes of the live catalog, newest first."""
    if lineage or verify or timings:
        _lineage(session, verbose, timings, verify, as_json)
        return
    from lancemig.commands import files as files_commands
    from lancemig.report import files as files_report

    chain = files_commands.read_chain(session.settings)
    shown(
        lambda: files_report.headers_text(chain.headers, chain.head, verbose=verbose),
        lambda: files_report.headers_json(chain.headers, chain.head),
        as_json,
    )


def _lineage(session: Session, verbose: bool, timings: bool, verify: bool, as_json: bool) -> None:
    from lancemig.commands import status as status_commands
    from lancemig.report import lineage as lineage_report

    seen = session.catalog.seen()
    if verify:
        session.catalog.store.pointers.require_own(seen)
    else:
        show_findings(status_commands.foreign_pointer(session.catalog, seen))
    entries = status_commands.history(session.catalog)
    shown(
        lambda: lineage_report.lineage_text(entries, verbose=verbose, timings=timings),
        lambda: lineage_report.lineage_json(entries),
        as_json,
    )
    if verify:
        noted(f"lineage verified: {len(entries)} entries in one chain")


@main.command()
@click.argument("rev", default="head")
@click.pass_obj
def show(session: Session, rev: str) -> None:
    """Print the file of revision REV."""
    from lancemig.commands import files as files_commands
    from lancemig.report import files as files_report

    header = files_commands.find_revision(session.settings, rev)
    click.echo(files_report.headers_text([header], None, verbose=True))
    click.echo("\n" + header.path.read_text(encoding="utf-8").rstrip())


@main.command()
@click.argument("rev", default="head")
@click.pass_obj
def edit(session: Session, rev: str) -> None:
    """Open the file of revision REV in your editor."""
    from lancemig.commands import files as files_commands

    path = files_commands.edit(session.settings, rev, warned)
    click.edit(filename=str(path))
    try:
        files_commands.record_edit(session.settings, path)
    except LancemigError as error:
        noted(f"lancemig.sum unchanged: {error.message}")


@main.command()
@json_option
@click.pass_obj
def rehash(session: Session, as_json: bool) -> None:
    """Update lancemig.sum after files were changed by hand."""
    from lancemig.commands import files as files_commands
    from lancemig.report import files as files_report

    changes = files_commands.rehash(session.settings, warned)
    shown(lambda: files_report.sum_text(changes), lambda: files_report.sum_json(changes), as_json)


@main.command()
@click.option(
    "--base", metavar="REF", help="Only files added or changed since this git commit, e.g. origin/main."
)
@click.option(
    "--ignore", multiple=True, metavar="CODE", help="Ignore findings with this code or prefix, e.g. LM0."
)
@click.option("--format", "form", type=click.Choice(["text", "json", "github"]), default="text",
              show_default=True, help="Output format; github: annotations of a pull request.")  # fmt: skip
@json_option
@click.pass_context
def lint(ctx: click.Context, base: str | None, ignore: tuple[str, ...], form: str, as_json: bool) -> None:
    """Report risky changes in migration files (exit 1 if any).

    Reads the files only: data loss, irreversible operations, impure functions.
    """
    from lancemig.commands import lint as lint_commands
    from lancemig.report import check as check_report

    findings = lint_commands.lint(ctx.obj.settings, base, ignore)
    if form == "github" and not as_json:
        click.echo(check_report.lint_github(findings, ctx.obj.workspace), nl=bool(findings))
    else:
        shown(
            lambda: check_report.lint_text(findings),
            lambda: check_report.lint_json(findings),
            as_json or form == "json",
        )
    ctx.exit(1 if findings else 0)


@main.command()
@click.argument("rev", required=False)
@json_option
@click.pass_obj
def rebase(session: Session, rev: str | None, as_json: bool) -> None:
    """Move one branch of a fork on top of the other.

    REV is a revision or a file of the branch to move. An applied branch is never moved.
    """
    from lancemig.commands import files as files_commands
    from lancemig.commands import status as status_commands
    from lancemig.report import files as files_report

    moved = files_commands.rebase(
        session.settings, rev, status_commands.applied_revisions(session.catalog), warned
    )
    shown(lambda: files_report.rebase_text(moved), lambda: files_report.rebase_json(moved), as_json)


@main.command()
@click.argument("span", metavar="A:B")
@json_option
@click.pass_obj
def squash(session: Session, span: str, as_json: bool) -> None:
    """Squash revisions A to B into one file with the id of B.

    The old files move to versions/squashed/. A catalog between A and B must be upgraded to B first.
    """
    from lancemig.commands import squash as squash_commands
    from lancemig.report import files as files_report

    result = squash_commands.squash(session.catalog, span, warned)
    shown(lambda: files_report.squashed_text(result), lambda: files_report.squashed_json(result), as_json)
    for message in result.left_out:
        noted(f"left out: {message}")
