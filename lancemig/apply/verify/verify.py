"""The proof of a run under way: what its staged root is compared with, and the project's own tests."""

from collections.abc import Iterator
from time import perf_counter

from lancemig.apply.checks import made
from lancemig.apply.run import Flight
from lancemig.apply.store import Store
from lancemig.apply.verify.gates import proven
from lancemig.apply.verify.pairs import Ground
from lancemig.catalog.lineage import CheckResult, Outcome, Place, Report
from lancemig.store.process import Command, run


def proof_of(flight: Flight, prefix: str) -> Report:
    """Let the staged root pass all gates, the checks of the revision and the project's own tests."""
    store, plan = flight.store, flight.plan
    started = flight.caller.stamp()
    ground = Ground(
        tables=store.tables,
        origin=flight.root,
        staged=prefix,
        start=flight.staging_start(),
        passages=flight.passages(),
        versions=flight.run.caught_up,
        seed=flight.run.run,
        sample=store.proving.sample,
        tolerances=tuple(t for migration in plan.staged for t in flight.tolerances(migration)),
        on_progress=flight.on_progress,
    )
    outcomes, versions = proven(ground)
    checks = made(flight, plan.staged[-1], prefix, "after")
    revision = plan.target
    if store.proving.command is not None:
        place = Place(prefix=prefix, revision=revision)
        outcomes += tests_gate(store.proving.command, variables(store, place, flight.run.run))
    return report_of(
        ground,
        (flight.place, Place(prefix=prefix, revision=revision)),
        flight.run.run,
        (started, flight.caller.stamp()),
        (outcomes, checks, versions),
    )


def report_of(
    ground: Ground,
    places: tuple[Place, Place],
    run_id: str,
    times: tuple[str, str],
    found: tuple[list[Outcome], list[CheckResult], dict[str, int]],
) -> Report:
    """All that was found out, as it is stored."""
    outcomes, checks, versions = found
    return Report(
        format=1,
        run=run_id,
        origin=places[0],
        target=places[1],
        versions_before=dict(ground.versions),
        versions_after=versions,
        started=times[0],
        finished=times[1],
        sample=ground.sample,
        seed=ground.seed,
        tolerances=ground.tolerances,
        outcomes=tuple(outcomes),
        checks=tuple(checks),
    )


def variables(store: Store, place: Place, run_id: str) -> dict[str, str]:
    """What the project's own tests are told of the root that they are to look at."""
    return {
        "LANCEMIG_CATALOG_URI": f"{store.objects.uri}/{place.prefix}{store.tables.catalog_dir}".rstrip("/"),
        "LANCEMIG_STAGED_PREFIX": place.prefix,
        "LANCEMIG_REVISION": place.revision or "",
        "LANCEMIG_RUN_ID": run_id,
    }


def tests_gate(command: Command, told: dict[str, str]) -> Iterator[Outcome]:
    """The program that lancemig.ini names ends with 0, in time."""
    begun = perf_counter()
    ended = run(command, told)
    called = f"`{' '.join(command.words)}`"
    if ended.status is None:
        said = f"{called} timed out after {command.timeout:g} s"
    elif ended.status:
        said = f"{called} failed with exit status {ended.status}"
    else:
        said = f"{called} passed"
    ok = ended.status == 0
    tail = f":\n    {ended.tail.replace(chr(10), chr(10) + '    ')}" if ended.tail and not ok else ""
    seconds = round(perf_counter() - begun, 3)
    yield Outcome(gate="tests", ok=ok, detail=said + tail, seconds=seconds)
