"""The command line: options in, one call, text or JSON out, exit status."""

import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lancemig.config import MAIN, Settings, read_settings
from lancemig.errors import ConfigError, LancemigError

if TYPE_CHECKING:
    from lancemig.commands.opening import Catalog
    from lancemig.commands.planning import Prepared

# Verbs that need no store must not load Lance, Arrow or boto3: each verb imports what it calls.

INTERRUPTED = 130


@dataclass
class Session:
    """What was given before the verb; settings and store are opened when a verb first asks."""

    config: Path
    name: str
    x: tuple[str, ...]
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    @cached_property
    def settings(self) -> Settings:
        """The chosen section of lancemig.ini."""
        return read_settings(self.config, self.name, environ=self.environ, x=self.x)

    @cached_property
    def catalog(self) -> "Catalog":
        """The catalog, its store opened."""
        from lancemig.commands.opening import open_catalog

        return open_catalog(self.settings)

    def confirm(self, given: str | None) -> None:
        """Let a protected catalog be changed only by somebody who types its name."""
        if not self.settings.protected:
            return
        name = self.settings.name
        if given is None and sys.stdin.isatty():
            given = click.prompt(f"{name} is protected; type its name to change it", err=True)
        if given != name:
            raise ConfigError(f"catalog {name} is protected", next_step=f"add --confirm {name}")


class Verbs(click.Group):
    """Turns LancemigError into a message, the next command and the exit status; verbs in given order."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click calls it
        """In the order of their definition, not of the alphabet."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb."""
        try:
            return super().invoke(ctx)
        except LancemigError as error:
            if ctx.params.get("verbose"):
                click.echo("".join(traceback.format_exception(error)), err=True)
            click.echo(f"lancemig: {error.message}", err=True)
            if error.next_step:
                click.echo(f"next: {error.next_step}", err=True)
            ctx.exit(error.exit_status)
        except (KeyboardInterrupt, click.Abort):
            click.echo("lancemig: interrupted; what is done is kept, the same command goes on", err=True)
            ctx.exit(INTERRUPTED)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-c", "--config", type=click.Path(path_type=Path), default=Path("lancemig.ini"),
              envvar="LANCEMIG_CONFIG", show_default=True, help="The ini file.")  # fmt: skip
@click.option("-n", "--name", default=MAIN, show_default=True, help="The section of the ini file.")
@click.option("-x", "x", multiple=True, metavar="KEY=VALUE", help="Override a key of the ini file.")
@click.option("-v", "--verbose", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="lancemig")
@click.pass_context
def main(ctx: click.Context, config: Path, name: str, x: tuple[str, ...], verbose: bool) -> None:  # noqa: ARG001
    """Versioned, reviewed, crash-safe migrations for Lance and LanceDB catalogs."""
    ctx.obj = Session(config, name, x)


def shown(text: Callable[[], str], document: Callable[[], Any], as_json: bool) -> None:
    """Print the text, or the JSON document."""
    click.echo(json.dumps(document(), indent=2) if as_json else text())


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
note_option = click.option("--note", help="Why; goes into the lineage and the pointer.")
confirm_option = click.option("--confirm", metavar="NAME", help="The name of a protected catalog.")


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path())
def init(folder: Path) -> None:
    """Make a new project in FOLDER: lancemig.ini and versions/."""
    from lancemig.commands import project

    for path in project.init(folder):
        click.echo(f"made {path}")
    click.echo("next: set `store` in lancemig.ini, then: lancemig revision -m MESSAGE")


@main.command()
@click.option("-m", "--message", default="", help="What the revision does, in a line.")
@click.option("--kind", type=click.Choice(["data-only", "additive", "rebuild"]), help="Its promise.")
@click.option("--rev-id", help="Its id, instead of the next one.")
@click.pass_obj
def revision(session: Session, message: str, kind: str | None, rev_id: str | None) -> None:
    """Write a new migration file on top of the head."""
    from lancemig.commands import project
    from lancemig.script.writer import Draft

    settings = session.settings
    draft = Draft(message=message, kind=kind, rev_id=rev_id, file_template=settings.file_template)
    click.echo(f"wrote {project.revision(settings, draft)}")


@main.command()
@json_option
@click.pass_obj
def heads(session: Session, as_json: bool) -> None:
    """Show the newest revision; two of them are an error elsewhere, and both are shown here."""
    from lancemig.commands import project
    from lancemig.report import files

    found = project.heads(session.settings)
    shown(lambda: files.heads_text(found), lambda: files.headers_json(found, None), as_json)


@main.command()
@click.option("-v", "--verbose", is_flag=True, help="Parents, kinds and paths.")
@click.option("--lineage", is_flag=True, help="What was done to the live catalog, newest first.")
@click.option("--verify", is_flag=True, help="Walk the lineage from the pointer to its first entry.")
@json_option
@click.pass_obj
def history(session: Session, verbose: bool, lineage: bool, verify: bool, as_json: bool) -> None:
    """List the revisions, newest first; with --lineage, what became of the catalog."""
    if lineage or verify:
        _lineage(session, verbose, verify, as_json)
        return
    from lancemig.commands import project
    from lancemig.report import files

    line = project.read_line(session.settings)
    shown(
        lambda: files.headers_text(line.headers, line.head, verbose=verbose),
        lambda: files.headers_json(line.headers, line.head),
        as_json,
    )


def _lineage(session: Session, verbose: bool, verify: bool, as_json: bool) -> None:
    from lancemig.commands import state
    from lancemig.report import lineage

    entries = state.history(session.catalog)
    shown(
        lambda: lineage.lineage_text(entries, verbose=verbose), lambda: lineage.lineage_json(entries), as_json
    )
    if verify:
        click.echo(f"verified: {len(entries)} entries form one chain", err=True)


@main.command()
@click.argument("rev", default="head")
@click.pass_obj
def show(session: Session, rev: str) -> None:
    """Show the file of revision REV."""
    from lancemig.commands import project
    from lancemig.report import files

    header = project.find_revision(session.settings, rev)
    click.echo(files.headers_text([header], None, verbose=True))
    click.echo("\n" + header.path.read_text(encoding="utf-8").rstrip())


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
    """Show what is live, pending and under way, and the next command to type."""
    from lancemig.commands import state
    from lancemig.report import states

    found = state.status(session.catalog)
    shown(lambda: states.status_text(found), lambda: states.status_json(found), as_json)


@main.command()
@click.option("--offline", is_flag=True, help="Look at the files only.")
@json_option
@click.pass_context
def check(ctx: click.Context, offline: bool, as_json: bool) -> None:
    """Exit 0 if the files' head is live and nothing is half-done; else 1, naming every difference."""
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


def _target(ctx: click.Context, param: click.Parameter, value: str) -> str:  # noqa: ARG001 - click's
    # `-1` is a target, so unknown options reach this argument; those that are no number are refused here.
    if value.startswith("-") and not value[1:].isdigit():
        raise click.NoSuchOption(value, ctx=ctx)
    return value


RELATIVE = {"ignore_unknown_options": True}


@main.command(context_settings=RELATIVE)
@click.argument("target", default="head", callback=_target)
@click.option("--plan", "plan_only", is_flag=True, help="Show the plan and stop; writes nothing.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Save the plan.")
@click.option("--from", "from_", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="Apply exactly this saved plan.")  # fmt: skip
@click.option("--no-flip", is_flag=True, help="Stage and verify a rebuild; `lancemig flip` does the rest.")
@note_option
@confirm_option
@json_option
@click.pass_obj
def upgrade(
    session: Session,
    target: str,
    plan_only: bool,
    out: Path | None,
    from_: Path | None,
    no_flip: bool,
    note: str | None,
    confirm: str | None,
    as_json: bool,
) -> None:
    """Bring the catalog to TARGET (head, +1, a revision), or finish a run that died on its way there."""
    from lancemig.commands import planning

    if from_ is not None:
        prepared = planning.saved(session.catalog, _read_plan(from_), no_flip=no_flip, note=note)
    else:
        prepared = planning.prepare(session.catalog, target, "up", no_flip=no_flip, note=note)
    _plan_then_apply(session, prepared, out=out, plan_only=plan_only, confirm=confirm, as_json=as_json)


@main.command(context_settings=RELATIVE)
@click.argument("target", callback=_target)
@click.option("--plan", "plan_only", is_flag=True, help="Show the plan and stop; writes nothing.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Save the plan.")
@note_option
@confirm_option
@json_option
@click.pass_obj
def downgrade(
    session: Session,
    target: str,
    plan_only: bool,
    out: Path | None,
    note: str | None,
    confirm: str | None,
    as_json: bool,
) -> None:
    """Take revisions back, down to TARGET (-1, base, a revision)."""
    from lancemig.commands import planning

    prepared = planning.prepare(session.catalog, target, "down", no_flip=False, note=note)
    _plan_then_apply(session, prepared, out=out, plan_only=plan_only, confirm=confirm, as_json=as_json)


def _plan_then_apply(
    session: Session,
    prepared: "Prepared",
    *,
    out: Path | None,
    plan_only: bool,
    confirm: str | None,
    as_json: bool,
) -> None:
    from lancemig.commands import changing
    from lancemig.console import progress
    from lancemig.report import plans, states

    plan, resumes = prepared.plan, prepared.resumes.run if prepared.resumes else None
    text = plans.plan_text(
        plan, store=session.settings.store, staging=prepared.orders.staging, resumes=resumes
    )
    if plan_only or not as_json:
        shown(lambda: text, lambda: plans.plan_json(plan, resumes), as_json)
    if out is not None:
        out.write_text(json.dumps(plan.document(), indent=2), encoding="utf-8")
        click.echo(f"saved {out}; apply exactly this: lancemig upgrade --from {out}", err=True)
    if plan_only:
        return
    session.confirm(confirm)
    with progress() as on_progress:
        outcome = changing.carry_out_prepared(session.catalog, prepared, on_progress)
    shown(lambda: states.outcome_text(outcome), lambda: states.outcome_json(outcome), as_json)


def _read_plan(path: Path) -> Any:
    from lancemig.plan.plan import read_plan

    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(
            f"{path} is no JSON: {error}", next_step="lancemig upgrade --plan --out FILE"
        ) from error
    return read_plan(document, str(path))


@main.command(context_settings=RELATIVE)
@click.argument("target", callback=_target)
@note_option
@confirm_option
@click.pass_obj
def stamp(session: Session, target: str, note: str | None, confirm: str | None) -> None:
    """Say that the live catalog is at TARGET, without changing a table."""
    from lancemig.commands import changing
    from lancemig.report import states

    session.confirm(confirm)
    place = changing.stamp(session.catalog, target, note)
    click.echo(f"stamped  {states.place_text(place, session.catalog.line.head)}")


@main.command()
@click.option("--prefix", help="The staged root; default: the one that waits.")
@confirm_option
@json_option
@click.pass_obj
def flip(session: Session, prefix: str | None, confirm: str | None, as_json: bool) -> None:
    """Make the root that `upgrade --no-flip` staged the live one; caught up and verified again first."""
    from lancemig.commands import changing
    from lancemig.console import progress
    from lancemig.report import states

    session.confirm(confirm)
    with progress() as on_progress:
        outcome = changing.flip(session.catalog, prefix, on_progress)
    shown(lambda: states.outcome_text(outcome), lambda: states.outcome_json(outcome), as_json)


@main.command()
@note_option
@confirm_option
@click.pass_obj
def rollback(session: Session, note: str | None, confirm: str | None) -> None:
    """Return to the root that was live before the last flip: one write."""
    from lancemig.commands import changing
    from lancemig.report import states

    session.confirm(confirm)
    left, place = changing.rollback(session.catalog, note)
    click.echo(f"live     {states.place_text(place, session.catalog.line.head)}")
    click.echo(f"left     {states.place_text(left, None)}: rows written since the flip are there")


@main.command()
@confirm_option
@json_option
@click.pass_context
def reconcile(ctx: click.Context, confirm: str | None, as_json: bool) -> None:
    """Bring over rows that reached the old root since the last flip; exit 1 if some were left."""
    from lancemig.commands import changing
    from lancemig.console import progress
    from lancemig.report import states

    session: Session = ctx.obj
    session.confirm(confirm)
    with progress() as on_progress:
        brought = changing.reconcile(session.catalog, on_progress)
    shown(lambda: states.brought_text(brought), lambda: states.brought_json(brought), as_json)
    ctx.exit(1 if any(one.left for one in brought) else 0)


@main.command()
@click.option("--undo", is_flag=True, help="Put back what the run did and did not publish.")
@confirm_option
@json_option
@click.pass_obj
def recover(session: Session, undo: bool, confirm: str | None, as_json: bool) -> None:
    """Finish the run in flight, or undo it."""
    from lancemig.commands import changing
    from lancemig.console import progress
    from lancemig.report import states

    session.confirm(confirm)
    with progress() as on_progress:
        if undo:
            said = changing.undo(session.catalog, on_progress)
            shown(lambda: "\n".join([*said, "undone"]), lambda: {"format": 1, "undone": said}, as_json)
            return
        outcome = changing.recover(session.catalog, on_progress)
    shown(lambda: states.outcome_text(outcome), lambda: states.outcome_json(outcome), as_json)


@main.command()
@click.option("--force", is_flag=True, help="Even if its owner was heard of a moment ago.")
@click.pass_obj
def unlock(session: Session, force: bool) -> None:
    """Remove the lock of a runner that is surely dead; says whose it was."""
    from lancemig.commands import changing

    click.echo(changing.unlock(session.catalog, force=force))


@main.command()
@json_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Try whether the store does what lancemig stands on; writes scratch objects, and removes them."""
    from lancemig.commands import doctor as examining
    from lancemig.report import states

    session: Session = ctx.obj
    results = examining.doctor(session.catalog)
    shown(lambda: states.checks_text(results), lambda: states.checks_json(results), as_json)
    ctx.exit(0 if all(result.ok for result in results) else 1)
