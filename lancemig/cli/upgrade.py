"""Verbs that change a catalog."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lancemig.cli.session import (
    Session,
    backup_option,
    confirm_option,
    exit_if_not_replicated,
    json_option,
    main,
    note_option,
    noted,
    refuse_idle,
    show_findings,
    shown,
)
from lancemig.revisions.journal import require_writable, write_output

if TYPE_CHECKING:
    from lancemig.commands.upgrade import Prepared


def _target(ctx: click.Context, param: click.Parameter, value: str) -> str:  # noqa: ARG001 - click's
    # `-1` is a target, so unknown options reach this argument; those that are no number are refused here.
    if value.startswith("-") and not value[1:].isdigit():
        raise click.NoSuchOption(value, ctx=ctx)
    return value


RELATIVE = {"ignore_unknown_options": True}
report_option = click.option("--report", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
                             help="Write one line of JSON for each skipped row to FILE.")  # fmt: skip
overwrite_option = click.option(
    "--overwrite", is_flag=True, help="Restore old values even if others have changed them since."
)


@main.command(context_settings=RELATIVE)
@click.argument("target", default="head", callback=_target)
@click.option("--plan", "plan_only", is_flag=True, help="Dry run: show the plan and stop.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Save the plan to a file.")
@click.option("--from", "from_", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="Apply exactly the plan saved in this file.")  # fmt: skip
@click.option("--sample", type=click.IntRange(min=1), metavar="N",
              help="With --plan: show old and new values of N rows for each step.")  # fmt: skip
@click.option("--no-flip", is_flag=True,
              help="Stage and verify a rebuild; make it live later with `lancemig flip`.")  # fmt: skip
@click.option("--postpone-flip", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Keep the staged root caught up and flip once FILE is removed.")  # fmt: skip
@click.option("--max-rows", type=click.IntRange(min=0), metavar="N",
              help="Stop an operation that would change more than N rows (overrides the files).")  # fmt: skip
@click.option("--max-indeterminate", type=click.IntRange(min=0), metavar="N",
              help="Stop if the function cannot decide more than N rows (overrides the files).")  # fmt: skip
@click.option("--create", is_flag=True,
              help="Create a catalog that is protected, or that the first revision adopts.")  # fmt: skip
@report_option
@note_option
@confirm_option
@backup_option
@json_option
@click.pass_context
def upgrade(
    ctx: click.Context,
    target: str,
    plan_only: bool,
    out: Path | None,
    from_: Path | None,
    sample: int | None,
    no_flip: bool,
    postpone_flip: Path | None,
    max_rows: int | None,
    max_indeterminate: int | None,
    create: bool,
    report: Path | None,
    note: str | None,
    confirm: str | None,
    backup: bool,
    as_json: bool,
) -> None:
    """Upgrade the catalog to TARGET: head (default), +1 or a revision.

    Shows the plan, then applies it. An interrupted run to the same target is resumed.
    """
    from lancemig.commands import upgrade as upgrade_commands
    from lancemig.plan.plan import AS_FILED, Overrides

    session: Session = ctx.obj
    overrides = Overrides(max_rows=max_rows, max_indeterminate=max_indeterminate)
    if plan_only:
        refuse_idle(ctx, "--plan", "report", "postpone_flip")
    if no_flip and postpone_flip is not None:
        raise click.UsageError("--postpone-flip and --no-flip cannot be combined")
    if sample is not None and not plan_only:
        raise click.UsageError("--sample requires --plan")
    if from_ is not None:
        refuse_idle(ctx, "--from", "target", "create")
        if overrides != AS_FILED:
            raise click.UsageError("a saved plan contains its limits; give them with --plan --out")
        prepared = upgrade_commands.prepare_saved(
            session.catalog, _read_plan(from_), no_flip=no_flip, note=note
        )
    else:
        prepared = upgrade_commands.prepare(
            session.catalog, target, "up", no_flip=no_flip, note=note, overrides=overrides, create=create
        )
    _show_plan(session, prepared, out=out, sample=sample, as_json=as_json, plan_only=plan_only)
    if not plan_only:
        _apply(
            session,
            prepared,
            report=report,
            postpone=postpone_flip,
            confirm=confirm,
            backup=backup,
            as_json=as_json,
        )


@main.command(context_settings=RELATIVE)
@click.argument("target", callback=_target)
@click.option("--plan", "plan_only", is_flag=True, help="Dry run: show the plan and stop.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Save the plan to a file.")
@overwrite_option
@report_option
@note_option
@confirm_option
@backup_option
@json_option
@click.pass_context
def downgrade(
    ctx: click.Context,
    target: str,
    plan_only: bool,
    out: Path | None,
    overwrite: bool,
    report: Path | None,
    note: str | None,
    confirm: str | None,
    backup: bool,
    as_json: bool,
) -> None:
    """Revert revisions down to TARGET: -1, base or a revision."""
    from lancemig.commands import upgrade as upgrade_commands
    from lancemig.plan.plan import Overrides

    session: Session = ctx.obj
    if plan_only:
        refuse_idle(ctx, "--plan", "report")
    prepared = upgrade_commands.prepare(
        session.catalog, target, "down", note=note, overrides=Overrides(overwrite=overwrite)
    )
    _show_plan(session, prepared, out=out, sample=None, as_json=as_json, plan_only=plan_only)
    if not plan_only:
        _apply(
            session, prepared, report=report, postpone=None, confirm=confirm, backup=backup, as_json=as_json
        )


def _show_plan(
    session: Session,
    prepared: "Prepared",
    *,
    out: Path | None,
    sample: int | None,
    as_json: bool,
    plan_only: bool,
) -> None:
    from lancemig.commands.sample import sample_steps
    from lancemig.report import plan as plan_report

    require_writable(out, "--out")
    plan, resumes = prepared.plan, prepared.resumes.run if prepared.resumes else None
    text = plan_report.plan_text(
        plan,
        store=session.settings.store,
        staging=prepared.request.staging,
        resumes=resumes,
        estimates=prepared.estimates,
        creates=prepared.creates,
        staying=prepared.staying,
    )
    document = plan_report.plan_json(
        plan, resumes, prepared.estimates, creates=prepared.creates, staying=prepared.staying
    )
    if sample is not None:
        samples = sample_steps(session.catalog, prepared, sample)
        text += f"\n\n{plan_report.samples_text(samples)}"
        document["samples"] = plan_report.samples_json(samples)
    if plan_only or not as_json:
        shown(lambda: text, lambda: document, as_json)
    show_findings(prepared.warnings, noted)
    if out is not None:
        write_output(out, json.dumps(plan.document(), indent=2), "--out")
        noted(f"saved {out}; apply it: lancemig upgrade --from {out}")


def _apply(
    session: Session,
    prepared: "Prepared",
    *,
    report: Path | None,
    postpone: Path | None,
    confirm: str | None,
    backup: bool,
    as_json: bool,
) -> None:
    from lancemig.commands import upgrade as upgrade_commands
    from lancemig.console import progress
    from lancemig.report import status as status_report

    if not prepared.plan.migrations and not as_json:
        return
    session.confirm(confirm)
    if prepared.flips:
        session.have_backup(backup)
    with progress() as on_progress:
        outcome = upgrade_commands.apply_prepared(
            session.catalog, prepared, on_progress, report, postponed_by=postpone
        )
    shown(lambda: status_report.outcome_text(outcome), lambda: status_report.outcome_json(outcome), as_json)
    exit_if_not_replicated(outcome.not_replicated)


def _read_plan(path: Path) -> Any:
    from lancemig.plan.plan import PLAN

    return PLAN.decode(path.read_bytes(), str(path))


@main.command(context_settings=RELATIVE)
@click.argument("target", callback=_target)
@note_option
@confirm_option
@json_option
@click.pass_obj
def stamp(session: Session, target: str, note: str | None, confirm: str | None, as_json: bool) -> None:
    """Record that the live catalog is at TARGET; changes no table."""
    from lancemig.commands import adopt as adopt_commands
    from lancemig.report import status as status_report

    session.confirm(confirm)
    active, differences = adopt_commands.stamp(session.catalog, target, note)
    head = session.catalog.chain.head
    shown(
        lambda: f"stamped  {status_report.root_text(active, head)}",
        lambda: {**status_report.root_json(active, head), "differs": differences},
        as_json,
    )
    for text in differences:
        noted(f"differs from the files: {text}")


@main.command()
@click.option("--undo", is_flag=True, help="Revert the unpublished changes of the run instead.")
@click.option(
    "--assume",
    type=click.Choice(["landed", "lost"]),
    help="Outcome of the last commit, if the table's log no longer shows it.",
)
@overwrite_option
@report_option
@confirm_option
@backup_option
@json_option
@click.pass_obj
def recover(
    session: Session,
    undo: bool,
    assume: str | None,
    overwrite: bool,
    report: Path | None,
    confirm: str | None,
    backup: bool,
    as_json: bool,
) -> None:
    """Finish an interrupted run, or undo it."""
    if overwrite and not undo:
        raise click.UsageError("--overwrite requires --undo")
    from lancemig.commands import recovery as recovery_commands
    from lancemig.console import progress
    from lancemig.report import status as status_report

    session.confirm(confirm)
    if not undo and recovery_commands.would_flip(session.catalog):
        session.have_backup(backup)
    with progress() as on_progress:
        if undo:
            undone = recovery_commands.undo(
                session.catalog, on_progress, report, overwrite=overwrite, assumption=assume
            )
            shown(lambda: "\n".join([*undone, "undone"]), lambda: {"format": 1, "undone": undone}, as_json)
            return
        outcome = recovery_commands.recover(session.catalog, on_progress, report, assumption=assume)
    shown(lambda: status_report.outcome_text(outcome), lambda: status_report.outcome_json(outcome), as_json)
    exit_if_not_replicated(outcome.not_replicated)


@main.command()
@click.option("--force", is_flag=True, help="Remove it even if its heartbeat is recent.")
@click.pass_obj
def unlock(session: Session, force: bool) -> None:
    """Remove the lock of a dead run."""
    from lancemig.commands import recovery as recovery_commands

    click.echo(recovery_commands.unlock(session.catalog, force=force))
