"""The proof of a run under way: what its staged root is compared with, and the project's own tests."""

from collections.abc import Iterator
from time import perf_counter

from lancemig.apply.flight import Flight
from lancemig.apply.guarantees import made
from lancemig.apply.proof.gates import proven
from lancemig.apply.proof.terms import Ground
from lancemig.catalog.lineage import CheckResult, Place
from lancemig.catalog.proof import Outcome, Report
from lancemig.store.objects import Objects
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
        uri = catalog_uri(store.objects, prefix, store.tables.catalog_dir)
        variables = {
            "LANCEMIG_CATALOG_URI": uri,
            "LANCEMIG_STAGED_PREFIX": prefix,
            "LANCEMIG_REVISION": revision or "",
            "LANCEMIG_RUN_ID": flight.run.run,
        }
        outcomes += tests_gate(store.proving.command, variables)
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


def catalog_uri(objects: Objects, prefix: str, catalog_dir: str) -> str:
    """What LanceDB connects to."""
    return f"{objects.uri}/{prefix}{catalog_dir}".rstrip("/")


def tests_gate(command: Command, variables: dict[str, str]) -> Iterator[Outcome]:
    """The program that lancemig.ini names ends with 0, in time."""
    begun = perf_counter()
    ended = run(command, variables)
    told = f"`{' '.join(command.words)}`"
    if ended.status is None:
        said = f"{told} was not done after {command.timeout:g} s"
    elif ended.status:
        said = f"{told} ended with {ended.status}"
    else:
        said = f"{told} ended well"
    ok = ended.status == 0
    tail = f":\n    {ended.tail.replace(chr(10), chr(10) + '    ')}" if ended.tail and not ok else ""
    seconds = round(perf_counter() - begun, 3)
    yield Outcome(gate="tests", ok=ok, detail=said + tail, seconds=seconds)
