"""Files that a release has written are read for ever; those of a newer format are refused."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lancemig.apply.lock import LOCK, Lock
from lancemig.apply.retention.copy import COPY_RECORD
from lancemig.apply.retention.readers import READER_LEASE
from lancemig.apply.sidecar import SIDECAR
from lancemig.apply.stages import Phase
from lancemig.catalog.lineage import (
    LINEAGE_ENTRY,
    POINTER,
    LineageEntry,
    RootRevision,
    checked_entry,
)
from lancemig.errors import LancemigError, LineageBroken, LockHeld
from lancemig.plan.plan import read_plan

RELEASED = Path(__file__).parent / "1"
RUN = "20261121T135657Z-8298"


def document(name: str) -> Any:
    return json.loads((RELEASED / name).read_text())


def lock(document: Any) -> Lock:
    return LOCK.decode(json.dumps(document), "lock.json")


def entry(document: Any, id_: str = "000003-b56c384e3903") -> LineageEntry:
    return checked_entry(LINEAGE_ENTRY.parse(document, f"lineage entry {id_}"), id_)


READERS: dict[str, Callable[[Any], Any]] = {
    "pointer.json": lambda document: POINTER.parse(document, "the pointer"),
    "lineage-3.json": entry,
    "sidecar.json": lambda document: SIDECAR.parse(document, "the sidecar"),
    "plan.json": lambda document: read_plan(document, "the plan"),
    "lock.json": lock,
    "lease.json": lambda document: READER_LEASE.parse(document, "the lease"),
    "copy.json": lambda document: COPY_RECORD.parse(document, "the record"),
}


def held(written: Any, stored: Any) -> bool:
    """Whether all that was stored is written again; a field that came later may join it."""
    if isinstance(stored, dict):
        return isinstance(written, dict) and all(
            name in written and held(written[name], value) for name, value in stored.items()
        )
    if isinstance(stored, list):
        return len(written) == len(stored) and all(map(held, written, stored))
    return bool(written == stored)


def test_a_pointer_is_read_and_written_as_it_was() -> None:
    pointer = POINTER.parse(document("pointer.json"), "the pointer")
    assert pointer.active == RootRevision(prefix=f"lancemig-staging-{RUN}/", revision="0003")
    assert pointer.previous == RootRevision(prefix="v1/", revision="0002")
    assert pointer.model_dump(mode="json") == document("pointer.json")


def test_a_pointer_from_before_lancemig_is_read_and_strange_keys_are_kept() -> None:
    old = {"active_prefix": "v2/", "previous_prefix": None, "team": {"on": ["call"]}}
    pointer = POINTER.parse(old, "the pointer")
    assert pointer.active == RootRevision(prefix="v2/")
    assert pointer.model_dump(mode="json")["team"] == {"on": ["call"]}


def test_the_lineage_is_one_chain_by_its_digests() -> None:
    ids = ["000001-94b9d1437571", "000002-6ebe77e82136", "000003-b56c384e3903"]
    entries = [entry(document(f"lineage-{n}.json"), id_) for n, id_ in enumerate(ids, 1)]
    assert [one.parent for one in entries] == [None, *ids[:2]]
    assert [one.parent_digest for one in entries[1:]] == [one.digest for one in entries[:2]]
    assert [one.document() for one in entries] == [document(f"lineage-{n}.json") for n in (1, 2, 3)]
    assert [one.action for one in entries] == ["upgrade", "upgrade", "flip"]


@pytest.mark.parametrize("key", ["note", "finished", "host", "tables"])
def test_a_changed_lineage_entry_is_refused(key: str) -> None:
    changed = {**document("lineage-3.json"), key: [] if key == "tables" else "another"}
    with pytest.raises(LineageBroken, match="was changed after it was written"):
        entry(changed)


def test_a_sidecar_is_read_with_its_plan() -> None:
    run = SIDECAR.parse(document("sidecar.json"), "the sidecar")
    assert (run.run, run.phase, run.no_flip) == (RUN, Phase.VERIFIED, True)
    assert run.plan.digest == run.plan_digest == document("sidecar.json")["plan"]["digest"]
    assert run.staged_prefix == f"lancemig-staging-{RUN}/"
    assert run.plan.start.table("recordings").key == ("id",)
    assert [index.name for index in run.plan.start.table("recordings").indices] == ["id_idx"]
    assert run.done["0003/0"].table == "recordings"
    written = {**run.model_dump(mode="json", by_alias=True), "plan": run.plan.document()}
    assert held(written, document("sidecar.json"))


def test_a_plan_is_read_and_its_digest_holds() -> None:
    plan = read_plan(document("plan.json"), "the plan")
    assert [m.in_place for m in plan.migrations] == [True, False]
    assert held(plan.document(), document("plan.json"))


def test_a_plan_and_a_sidecar_of_0_1_0_keep_the_digest_that_they_were_written_with() -> None:
    """What that release saved says nothing of how its digest is computed."""
    saved = [document(name) for name in ("plan.json", "plan-up.json", "plan-down.json")]
    for stored in (*saved, document("sidecar.json")["plan"]):
        assert not {"digest_version", "checksum"} & set(stored)
        plan = read_plan(stored, "the plan")
        assert plan.digest_version == 1
        assert plan.digest == stored["digest"]
        assert read_plan(json.loads(json.dumps(plan.document())), "written again") == plan


def test_the_stored_plans_have_what_0_1_0_put_into_a_digest_where_it_was_there() -> None:
    up, down = document("plan-up.json"), document("plan-down.json")
    assert up["overrides"]["max_rows"] == 9 and down["overrides"]["overwrite"]
    assert up["migrations"][1]["checks"] and up["migrations"][1]["tolerances"]
    assert {one["by"] for one in up["carried"]} == {"clone"}
    assert down["migrations"][0]["steps"][0]["undoes"]


@pytest.mark.parametrize("name", ["plan.json", "plan-up.json", "plan-down.json"])
@pytest.mark.parametrize(
    ("where", "key"),
    [("migration", "message"), ("step", "describe"), ("step", "why"), ("step", "table"), ("plan", "target")],
)
def test_a_plan_of_0_1_0_that_was_changed_is_refused(name: str, where: str, key: str) -> None:
    changed = document(name)
    migration = changed["migrations"][-1]
    {"plan": changed, "migration": migration, "step": migration["steps"][0]}[where][key] = "another"
    with pytest.raises(LancemigError, match="its digest does not match"):
        read_plan(changed, "the plan")


def test_a_sidecar_whose_plan_has_a_digest_of_a_newer_release_is_refused() -> None:
    newer = document("sidecar.json")
    newer["plan"] |= {"digest_version": 3, "later": "field"}
    with pytest.raises(LancemigError, match="the plan in the sidecar has digest_version 3") as refused:
        SIDECAR.parse(newer, "the sidecar")
    assert refused.value.exit_status == 2
    assert refused.value.next_step == "upgrade lancemig: pip install -U lancemig"


@pytest.mark.parametrize("path", [("target",), ("migrations", 0, "steps", 0, "describe"), ("digest",)])
def test_a_changed_plan_is_refused(path: tuple[Any, ...]) -> None:
    changed = document("plan.json")
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = "another"
    with pytest.raises(LancemigError, match="was changed after it was saved"):
        read_plan(changed, "the plan")


def test_a_lock_is_read() -> None:
    found = lock(document("lock.json"))
    assert (found.actor, found.host, found.machine, found.pid) == ("ci", "runner-3", "b7c1/4026531836", 4242)
    assert not found.expired(datetime(2026, 11, 21, 13, 57, 57, tzinfo=UTC))
    assert found.expired(datetime(2026, 11, 21, 13, 57, 58, tzinfo=UTC))
    assert held(json.loads(found.model_dump_json()), document("lock.json"))


def test_a_lease_of_a_reader_is_read() -> None:
    found = READER_LEASE.parse(document("lease.json"), "the lease")
    assert (found.root, found.at, found.owner) == ("v1/", "0001", "training")
    assert not found.expired(datetime(2026, 11, 21, 15, 1, 57, tzinfo=UTC))
    assert found.expired(datetime(2026, 11, 21, 15, 1, 58, tzinfo=UTC))
    assert held(json.loads(found.model_dump_json()), document("lease.json"))


def test_the_record_of_a_copy_is_read_and_its_digest_holds() -> None:
    found = COPY_RECORD.parse(document("copy.json"), "the record")
    assert (found.complete, found.bytes, len(found.objects)) == (True, 359, 2)
    assert found.digest.startswith("7ed1fae28ea3bf10")
    assert held(found.model_dump(mode="json"), document("copy.json"))


@pytest.mark.parametrize("name", READERS)
def test_a_newer_format_is_refused_with_the_way_out(name: str) -> None:
    newer = {**document(name), "format": 2}
    with pytest.raises(LancemigError) as refused:
        READERS[name](newer)
    assert refused.value.next_step
    assert refused.value.exit_status in ((3,) if isinstance(refused.value, LockHeld) else (2,))


@pytest.mark.parametrize("name", [name for name in READERS if name != "pointer.json"])
def test_a_key_that_this_format_does_not_have_is_refused(name: str) -> None:
    with pytest.raises(LancemigError):
        READERS[name]({**document(name), "surplus": 1})


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("strange", [[], "text", 7, None, {}], ids=repr)
def test_what_is_none_of_them_is_refused(name: str, strange: Any) -> None:
    with pytest.raises(LancemigError):
        READERS[name](strange)
