"""Verifies the staged root of the current run: gates, checks of the revision, the project's own tests."""

from collections.abc import Iterator
from time import perf_counter

from lancemig.apply.checks import evaluate
from lancemig.apply.run import RunContext
from lancemig.apply.store import Store
from lancemig.apply.verify.gates import run_gates
from lancemig.apply.verify.pairs import VerificationInput
from lancemig.catalog.lineage import CheckResult, GateOutcome, RootRevision, VerificationReport
from lancemig.store.process import Command, run


def verify(context: RunContext, prefix: str) -> VerificationReport:
    """Run all gates, the checks of the revision and the project's own tests on the staged root."""
    store, plan = context.store, context.plan
    started = context.environment.stamp()
    given = VerificationInput(
        tables=store.tables,
        origin=context.root,
        staged=prefix,
        start=context.staging_start(),
        paths=context.table_paths(),
        versions=context.run.caught_up,
        seed=context.run.run,
        sample=store.verification.sample,
        tolerances=tuple(t for migration in plan.staged for t in context.tolerances(migration)),
        on_progress=context.on_progress,
    )
    outcomes, versions = run_gates(given)
    checks = evaluate(context, plan.staged[-1], prefix, "after")
    revision = plan.target
    if store.verification.command is not None:
        place = RootRevision(prefix=prefix, revision=revision)
        outcomes += tests_gate(store.verification.command, variables(store, place, context.run.run))
    return verification_report(
        given,
        (context.active, RootRevision(prefix=prefix, revision=revision)),
        context.run.run,
        (started, context.environment.stamp()),
        (outcomes, checks, versions),
    )


def verification_report(
    given: VerificationInput,
    places: tuple[RootRevision, RootRevision],
    run_id: str,
    times: tuple[str, str],
    found: tuple[list[GateOutcome], list[CheckResult], dict[str, int]],
) -> VerificationReport:
    """The report of a verification, as it is stored."""
    outcomes, checks, versions = found
    return VerificationReport(
        format=1,
        run=run_id,
        origin=places[0],
        target=places[1],
        versions_before=dict(given.versions),
        versions_after=versions,
        started=times[0],
        finished=times[1],
        sample=given.sample,
        seed=given.seed,
        tolerances=given.tolerances,
        outcomes=tuple(outcomes),
        checks=tuple(checks),
    )


def variables(store: Store, place: RootRevision, run_id: str) -> dict[str, str]:
    """The environment variables that tell the project's own tests which root to test."""
    return {
        "LANCEMIG_CATALOG_URI": f"{store.objects.uri}/{place.prefix}{store.tables.catalog_dir}".rstrip("/"),
        "LANCEMIG_STAGED_PREFIX": place.prefix,
        "LANCEMIG_REVISION": place.revision or "",
        "LANCEMIG_RUN_ID": run_id,
    }


def tests_gate(command: Command, environment: dict[str, str]) -> Iterator[GateOutcome]:
    """The `verify_command` of lancemig.ini exits with 0, in time."""
    begun = perf_counter()
    ended = run(command, environment)
    called = f"`{' '.join(command.words)}`"
    if ended.status is None:
        detail = f"{called} timed out after {command.timeout:g} s"
    elif ended.status:
        detail = f"{called} failed with exit status {ended.status}"
    else:
        detail = f"{called} passed"
    ok = ended.status == 0
    tail = f":\n    {ended.tail.replace(chr(10), chr(10) + '    ')}" if ended.tail and not ok else ""
    seconds = round(perf_counter() - begun, 3)
    yield GateOutcome(gate="tests", ok=ok, detail=detail + tail, seconds=seconds)
