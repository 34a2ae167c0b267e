"""The pointer and the chain of entries: what is read, kept, and refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lancemig.catalog.lineage import (
    LINEAGE_ENTRY,
    POINTER,
    Action,
    LineageEntry,
    Pointer,
    RootRevision,
    checked_entry,
)
from lancemig.catalog.value import canonical_json
from lancemig.errors import ConfigError, LineageBroken

BARE = {"active_prefix": "v2/", "previous_prefix": "v1/"}
ENTRY = LineageEntry(
    seq=1,
    parent=None,
    parent_digest=None,
    action=Action.STAMP,
    origin=RootRevision(prefix="v1/"),
    target=RootRevision(prefix="v1/", revision="0001"),
    run="20260520T190000Z-7c1d",
    started="2026-05-20T19:00:00Z",
    finished="2026-05-20T19:00:01Z",
    actor="ci",
    host="runner-3",
)


def read_entry(document, id_):
    return checked_entry(LINEAGE_ENTRY.parse(document, f"lineage entry {id_}"), id_)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_a_pointer_of_two_keys_is_valid_and_unstamped():
    pointer = POINTER.parse(BARE, "ACTIVE.json")
    assert pointer.active == RootRevision(prefix="v2/", revision=None)
    assert pointer.previous == RootRevision(prefix="v1/", revision=None)


def test_with_no_previous_root_there_is_nothing_to_roll_back_to():
    assert POINTER.parse({"active_prefix": "v1/"}, "ACTIVE.json").previous is None


@given(st.dictionaries(st.text(min_size=1), JSON, max_size=4))
def test_unknown_keys_are_kept_as_they_are(unknown):
    more = {k: v for k, v in unknown.items() if k not in Pointer.model_fields and k != "model_config"}
    pointer = POINTER.parse({**BARE, **more}, "ACTIVE.json")
    changed = pointer.model_copy(update={"revision": "0002"})
    document = json.loads(json.dumps(changed.model_dump(mode="json")))
    assert {k: document[k] for k in more} == more


@pytest.mark.parametrize(
    "document",
    [
        [],
        "v1/",
        None,
        {},
        {"active_prefix": 7},
        {**BARE, "format": 2},
        {**BARE, "format": "1"},
        {**BARE, "format": None},
    ],
    ids=str,
)
def test_what_is_no_pointer_or_newer_is_refused_with_a_next_step(document):
    with pytest.raises(ConfigError) as refused:
        POINTER.parse(document, "s3://ursa/ACTIVE.json")
    assert "s3://ursa/ACTIVE.json" in refused.value.message
    assert refused.value.next_step


def test_a_newer_format_is_named():
    with pytest.raises(ConfigError, match="has format 2; this version of lancemig supports formats up to 1"):
        POINTER.parse({**BARE, "format": 2}, "ACTIVE.json")


def test_an_entry_is_named_by_its_number_and_its_digest():
    assert ENTRY.id == f"000001-{ENTRY.digest[:12]}"
    assert read_entry(ENTRY.document(), ENTRY.id) == ENTRY


def test_the_digest_of_an_entry_never_changes():
    assert ENTRY.digest == "3f5fde646789f2d1667c4fbffdb3459da5adaed832ee84ac0101dd2d4cd3dc84"


@given(st.permutations(list(ENTRY.document())))
def test_the_order_of_keys_does_not_change_a_digest(names):
    document = ENTRY.document()
    again = read_entry({name: document[name] for name in names}, ENTRY.id)
    assert again.digest == ENTRY.digest


@given(st.sampled_from(sorted(ENTRY.document())), JSON)
def test_an_entry_that_was_changed_is_found_out(name, value):
    document = {**ENTRY.document(), name: value}
    try:
        same = canonical_json(document) == canonical_json(ENTRY.document())
        found = read_entry(document, ENTRY.id)
    except (LineageBroken, ConfigError):
        return
    assert same or canonical_json(found.document()) == canonical_json(ENTRY.document())


def test_entries_form_a_chain():
    second = ENTRY.model_copy(update={"seq": 2, "parent": ENTRY.id, "parent_digest": ENTRY.digest})
    other = second.model_copy(update={"parent_digest": "0" * 64})
    assert second.digest != other.digest
    assert second.parent_digest == read_entry(ENTRY.document(), ENTRY.id).digest


def test_an_entry_under_another_name_is_refused():
    with pytest.raises(LineageBroken, match="was changed after it was written") as refused:
        read_entry(ENTRY.document(), "000001-ffffffffffff")
    assert "who changed the store" in str(refused.value.next_step)
