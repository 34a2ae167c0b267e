"""Documents in a store: compare and swap, and what is written once."""

from pathlib import Path

import pytest

from lancemig.catalog.documents import DocumentType, StoredModel
from lancemig.errors import StoreError
from lancemig.store.documents import Documents, Stored
from lancemig.store.objects import Objects, PreconditionFailed, WriteOk, open_objects


class Note(StoredModel):
    format: int = 1
    text: str


NOTE = DocumentType(Note, "note", 1, next_step="inspect {where}")


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return open_objects(str(tmp_path), {})


def test_a_document_is_created_read_replaced_and_deleted(objects: Objects) -> None:
    notes = Documents(objects, NOTE)
    assert notes.read("n/1.json") is None
    created = notes.write_if("n/1.json", Note(text="a"), None)
    assert isinstance(created, WriteOk)
    assert notes.read("n/1.json") == Stored(Note(text="a"), created.version_token)
    replaced = notes.write_if("n/1.json", Note(text="b"), created.version_token)
    assert isinstance(replaced, WriteOk)
    notes.delete("n/1.json")
    notes.delete("n/1.json")
    assert notes.read("n/1.json") is None


def test_of_two_writers_the_second_is_told_what_is_there(objects: Objects) -> None:
    notes = Documents(objects, NOTE)
    created = notes.write_if("n/1.json", Note(text="a"), None)
    assert isinstance(created, WriteOk)
    assert isinstance(notes.write_if("n/1.json", Note(text="b"), created.version_token), WriteOk)
    lost = notes.write_if("n/1.json", Note(text="c"), created.version_token)
    assert isinstance(lost, PreconditionFailed)
    assert lost.found
    assert notes.decode(lost.found.body, "n/1.json") == Note(text="b")


def test_all_documents_of_a_folder_come_in_the_order_of_their_keys(objects: Objects) -> None:
    notes = Documents(objects, NOTE)
    for number in (3, 1, 2):
        notes.write_if(f"n/{number}.json", Note(text=str(number)), None)
    notes.write_if("m/0.json", Note(text="0"), None)
    assert [(key, stored.value.text) for key, stored in notes.read_all("n/")] == [
        ("n/1.json", "1"), ("n/2.json", "2"), ("n/3.json", "3"),
    ]  # fmt: skip


def test_a_damaged_document_is_named_by_its_key(objects: Objects) -> None:
    objects.write_if("n/1.json", b'{"format": 1, "text": 7}', None)
    with pytest.raises(StoreError) as error:
        Documents(objects, NOTE).read("n/1.json")
    assert error.value.message == "the note n/1.json is not a valid note: field text must be text, not 7"
    assert error.value.next_step == "inspect the note n/1.json"


def test_what_never_changes_is_written_once(objects: Objects) -> None:
    notes = Documents(objects, NOTE)
    notes.write_once("n/1.json", Note(text="a"))
    notes.write_once("n/1.json", Note(text="a"))
    with pytest.raises(StoreError, match=r"the note n/1\.json already exists with different content"):
        notes.write_once("n/1.json", Note(text="b"))
    stored = notes.read("n/1.json")
    assert stored
    assert stored.value.text == "a"
