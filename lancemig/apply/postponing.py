"""Proving a staged root until little has come since, and waiting with it for the moment of the flip."""

from collections.abc import Callable
from datetime import timedelta

from lancemig.apply.caller import Progress
from lancemig.apply.flight import Flight
from lancemig.apply.landing.commits import Outrun
from lancemig.apply.rebuild import in_staging, prove
from lancemig.apply.tail.catching_up import behind, catch_up
from lancemig.catalog.sources import counted

_CATCH_UP_EVERY = timedelta(seconds=10)


def proven(flight: Flight) -> None:
    """Catch up and prove, once more where the proof took so long that too many rows came meanwhile.

    VerifyFailed when a gate fails; Outrun when writers are faster than the proof.
    """
    began = flight.caller.now()
    while True:
        prove(flight)
        rows = behind(flight)
        if rows <= flight.store.catch_up_rows:
            return
        if flight.caller.now() - began > timedelta(seconds=flight.store.retry_seconds):
            raise Outrun(
                f"{counted(rows, 'row')} arrived during verification of the staged root, more than "
                f"catch_up_rows = {flight.store.catch_up_rows:,} allows at the flip",
                next_step="run the same command again when fewer writers are active; or raise "
                "catch_up_rows in "
                "lancemig.ini",
            )


def wait(flight: Flight, postponed: Callable[[], bool]) -> None:
    """Keep the staged root caught up while the flip is postponed; then prove it again.

    A run that dies meanwhile is one that waits for `lancemig flip`.
    """
    flight.note(no_flip=True)
    flight.on_progress(
        Progress("postponed", text="waiting for lancemig flip; new commits are replicated meanwhile")
    )
    caught_up = flight.caller.now()
    while postponed():
        flight.caller.sleep(1.0)
        flight.lease.hold()
        if flight.caller.now() - caught_up >= _CATCH_UP_EVERY:
            _follow(flight)
            caught_up = flight.caller.now()
    proven(flight)
    flight.note(no_flip=False)


@in_staging
def _follow(flight: Flight) -> None:
    catch_up(flight)
