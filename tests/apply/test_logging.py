"""The log of a run: why a row was not replicated, who held the lock, which writes were conditional."""

import logging
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from lab import Lab
from servers import SECRET_KEY, Place

from lancemig.apply.lock import hold_lock
from lancemig.commands import flip, retention
from lancemig.commands.context import current_environment
from lancemig.errors import LockHeld, VerifyFailed
from lancemig.events import EVENTS, SAMPLE, fields_of
from lancemig.store.objects import PreconditionFailed, open_objects
from lancemig.store.objects.s3 import ConditionalWrite

START = """
    CreateTable(table="t", key=("id",), schema=["id: int64", "ms: float64", "note: string"],
                rows=[{"id": n, "ms": 1000.0 * n, "note": "n"} for n in range(6)]),
    CreateTable(table="plain", schema=["id: int64", "ms: float64"], rows=[{"id": 1, "ms": 1000.0}]),
"""
REBUILD = """
    RenameColumn(table="t", column="ms", to="seconds"),
    RetypeColumn(table="t", column="seconds", to="float32", using="seconds / 1000"),
    RenameColumn(table="plain", column="ms", to="seconds"),
"""
SECRET_CELL = "told-in-confidence"


@pytest.fixture
def lab(tmp_path: Path, local_place: Place) -> Lab:
    lab = Lab(tmp_path, local_place)
    lab.revision(START)
    lab.upgrade()
    lab.revision(REBUILD)
    return lab


class Records:
    """The records that lancemig wrote, by event."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.caplog = caplog

    def of(self, event: str, **fields: object) -> list[dict[str, Any]]:
        """The fields of the records of an event that have these fields."""
        records = [record for record in self.caplog.records if getattr(record, "event", None) == event]
        assert all(record.levelno == EVENTS[event] for record in records)
        found = [fields_of(record) for record in records]
        return [each for each in found if fields.items() <= each.items()]

    def one(self, event: str, **fields: object) -> dict[str, Any]:
        found = self.of(event, **fields)
        assert len(found) == 1, self.caplog.text
        return found[0]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Records:
    caplog.set_level(logging.DEBUG, "lancemig")
    return Records(caplog)


def test_the_log_of_a_rebuild_beside_a_writer_says_how_each_commit_was_replicated(
    lab: Lab, log: Records
) -> None:
    old = lab.root
    lab.upgrade(no_flip=True)
    lab.append("t", [{"id": 8, "ms": 8000.0, "note": "appended"}])
    lab.append("plain", [{"id": 8, "ms": 8000.0}])
    lab.dataset("t").update({"ms": "ms + 500"}, where="id = 1")
    lab.dataset("t").delete("id = 2")
    flip.flip(lab.catalog(), None)
    seen = log.one("commits_seen", table="t", root=old)
    assert seen["operations"] == {"Append": 1, "Update": 1, "Delete": 1}
    assert [each["operation"] for each in log.of("commit_seen", table="t")] == ["Append", "Update", "Delete"]
    done = log.one("replicated", table="t", way="key")
    assert (done["inserted"], done["updated"], done["deleted"], done["conflicts"]) == (1, 1, 1, 0)
    assert log.one("replicated", table="plain", way="appends")["inserted"] == 1
    assert log.one("flipped")["previous_root"] == old
    phases = [each["phase"] for each in log.of("phase_finished")]
    assert [name for name in ("stage", "catch-up", "verify", "flip", "reconcile") if name not in phases] == []
    assert all(each["seconds"] >= 0 for each in log.of("phase_finished"))
    started = [each["run"] for each in log.of("run_started")]
    assert started == [each["run"] for each in log.of("run_resumed")]


def test_the_log_says_why_a_late_row_was_not_carried_over(
    lab: Lab, log: Records, caplog: pytest.LogCaptureFixture
) -> None:
    old = lab.root
    lab.upgrade()
    late, live = lab.dataset("t", old), lab.dataset("t")
    late.update({"note": f"'{SECRET_CELL}'"}, where="id = 1")
    late.update({"note": "'same'"}, where="id = 3")
    late.delete("id = 4")
    lab.append("t", [{"id": 8, "ms": 2000.0, "note": SECRET_CELL}], old)
    lab.dataset("plain", old).update({"ms": "0.0"})
    live.update({"note": "'theirs'"}, where="id = 1")
    live.update({"note": "'same'"}, where="id = 3")
    live.update({"note": "'theirs'"}, where="id = 4")
    caplog.clear()
    assert {result.source: len(result.conflicts) for result in flip.reconcile(lab.catalog())} == {
        "t": 2,
        "plain": 1,
    }
    done = log.of("replicated", table="t")[0]
    assert (done["inserted"], done["unchanged"], done["conflicts"], done["blocked"]) == (0, 1, 2, 1)
    both = "was changed in both roots"
    deleted = "was deleted in the source root, but changed in the target root"
    for reason, outcome, keys in (
        (both, "conflict", ("id=1",)),
        (deleted, "conflict", ("id=4",)),
        ("the target has the same values", "unchanged", ("id=3",)),
        ("other rows of the table are in conflict", "blocked", ("id=8",)),
    ):
        assert log.of("rows_not_replicated", table="t", reason=reason)[0]["rows"] == 1
        assert log.of("row_keys", reason=reason, outcome=outcome)[0]["keys"] == keys
    commit = log.of("commit_not_replicated", table="plain")[0]
    assert (commit["operation"], commit["reason"]) == ("Update", "the table has no key")
    caplog.clear()
    flip.reconcile(lab.catalog(), "keep")
    assert log.of("replicated", table="t")[0]["inserted"] == 1
    assert log.of("replicated", table="t")[0]["kept"] == 2
    assert {each["reason"] for each in log.of("row_keys", outcome="kept")} == {both, deleted}
    assert SECRET_CELL not in repr([vars(record) for record in caplog.records])


def test_keys_are_named_at_debug_only_and_a_few_of_them(
    lab: Lab, log: Records, caplog: pytest.LogCaptureFixture
) -> None:
    old = lab.root
    lab.upgrade()
    for root, name in ((old, "ms"), (None, "seconds")):
        lab.append("t", [{"id": n, name: float(root is None), "note": ""} for n in range(10, 40)], root)
    caplog.clear()
    with caplog.at_level(logging.INFO, "lancemig"):
        flip.reconcile(lab.catalog())
    assert log.one("rows_not_replicated", table="t")["rows"] == 30
    assert not log.of("row_keys")
    assert "id=10" not in caplog.text
    flip.reconcile(lab.catalog())
    assert len(log.one("row_keys", table="t")["keys"]) == SAMPLE


def test_a_key_that_is_there_twice_during_a_rebuild_is_in_the_log(lab: Lab, log: Records) -> None:
    lab.upgrade(no_flip=True)
    lab.append("t", [{"id": 1, "ms": 5.0, "note": "again"}])
    with pytest.raises(VerifyFailed):
        flip.flip(lab.catalog(), None)
    assert log.one("rows_not_replicated", table="t", outcome="conflict")["rows"] == 1
    assert log.one("row_keys", table="t", outcome="conflict")["keys"] == ("id=1",)


def test_what_is_discarded_at_a_rollback_is_in_the_log(lab: Lab, log: Records) -> None:
    old = lab.root
    lab.upgrade()
    lab.append("t", [{"id": 8, "seconds": 1.0, "note": ""}])
    new = lab.root
    flip.rollback(lab.catalog(), discard=True)
    assert log.one("writes_discarded")["root"] == new
    assert log.of("flipped")[-1]["root"] == old


def test_commits_conflicts_and_guards_are_in_the_log(lab: Lab, log: Records) -> None:
    lab.upgrade()
    lab.revision('UpdateRows(table="t", set={"note": "concat(note, \'!\')"})')
    catalog = lab.catalog()
    tables, met = type(catalog.store.tables), threading.Event()
    commit = tables.commit

    def raced(self: Any, table: Any, staged: Any, stamp: Any) -> int:
        if not met.is_set():
            met.set()
            lab.dataset("t").update({"note": "'theirs'"}, where="id = 1")
        return commit(self, table, staged, stamp)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "commit", raced)
        outcome = lab.upgrade()
    again = log.one("commit_conflict", table="t")
    assert (again["attempt"], again["cause"]) == (1, "other commits")
    assert again["upto"] > again["after"]
    done = log.of("committed", table="t", operation="Update")[-1]
    assert done["rows"] == outcome.steps[0].changed
    assert log.of("guard_added", table="t", version=done["version"])


NOON = datetime(2026, 5, 20, 12, tzinfo=UTC)


def test_the_lock_is_acquired_renewed_refused_taken_over_lost_and_released_in_the_log(
    tmp_path: Path, log: Records
) -> None:
    objects, key = open_objects(str(tmp_path), {}), "_lancemig/lock.json"

    def at(moment: datetime, machine: str) -> Any:
        return replace(current_environment(Path()), now=lambda: moment, machine=machine)

    with hold_lock(objects, key, "r1", at(NOON, "m1"), 60) as lease:
        lease.heartbeat()
        with pytest.raises(LockHeld), hold_lock(objects, key, "r2", at(NOON, "m2"), 60):
            pass
        with hold_lock(objects, key, "r3", at(NOON + timedelta(seconds=61), "m3"), 60):
            lease.heartbeat()
    assert [each["run"] for each in log.of("lock_acquired")] == ["r1", "r3"]
    assert log.of("lock_renewed")[0]["run"] == "r1"
    assert log.one("lock_refused")["owner"] == "r1"
    assert (log.one("lock_taken_over")["run"], log.one("lock_taken_over")["owner"]) == ("r3", "r1")
    assert log.one("lock_lost")["run"] == "r1"
    assert log.one("lock_released")["run"] == "r3"


def test_conditional_writes_are_in_the_log_by_key_condition_and_outcome(tmp_path: Path, log: Records) -> None:
    objects = open_objects(str(tmp_path), {})
    assert not isinstance(objects.write_if("a.json", b"1", None), PreconditionFailed)
    assert isinstance(objects.write_if("a.json", b"2", "other"), PreconditionFailed)
    assert [(each["key"], each["expected"], each["outcome"]) for each in log.of("conditional_write")] == [
        ("a.json", "absent", "written"),
        ("a.json", "present", "precondition failed"),
    ]


class Client:
    """The first write gets no answer and does not land; the second one does."""

    written = 0

    def put_object(self, **_: object) -> dict[str, str]:
        self.written += 1
        if self.written == 1:
            raise ReadTimeoutError(endpoint_url="http://bucket")
        return {"ETag": '"1"'}

    def get_object(self, **_: object) -> None:
        raise ClientError(
            {"Error": {"Code": "NoSuchKey"}, "ResponseMetadata": {"HTTPStatusCode": 404}}, "Get"
        )


def test_a_write_whose_answer_was_lost_is_read_back_and_retried_in_the_log(log: Records) -> None:
    ConditionalWrite(Client(), "bucket", "a.json", b"1", None).run(lambda _: None)
    assert log.one("written_read_back")["outcome"] == "unchanged"
    assert log.one("write_retried")["cause"] == "ReadTimeoutError"


def test_deletions_of_gc_are_in_the_log(lab: Lab, log: Records) -> None:
    old = lab.root
    lab.upgrade()
    retention.archive(lab.catalog(), retention=timedelta())
    retention.gc(lab.catalog())
    gone = log.one("gc_deleted", item=old)
    assert (gone["kind"], gone["objects"] > 0, gone["bytes"] > 0) == ("root", True, True)


@pytest.mark.s3
def test_no_credential_is_in_the_log(tmp_path: Path, s3_place: Place, log: Records) -> None:
    caplog = log.caplog
    lab = Lab(tmp_path, s3_place)
    lab.revision(START)
    lab.upgrade()
    lab.revision(REBUILD)
    lab.upgrade()
    ours = [record for record in caplog.records if record.name.startswith("lancemig")]
    assert {"committed", "conditional_write", "flipped"} <= {getattr(record, "event", "") for record in ours}
    assert SECRET_KEY not in repr([vars(record) for record in ours])
