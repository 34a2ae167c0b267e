"""A rule over names: columns that sound like personal data say how sensitive they are."""

import re
from collections.abc import Iterator

import pyarrow as pa

from lancemig.catalog.operations import (
    AddColumn,
    BuildTable,
    CreateTable,
    Operation,
    RenameColumn,
    SetMetadata,
    TransformTable,
)
from lancemig.catalog.schema import TableSchema, column, has_column
from lancemig.plan.lint import codes
from lancemig.plan.lint.subject import Change, Found, Subject

SENSITIVITY = "sensitivity"
"""The field metadata that says how sensitive a column is; `none` says that it only sounds so."""

_WORDS = {
    "e-mail or phone": "email emails mail_address phone phones telephone mobile cell_phone fax",
    "an identity": "ssn social_security passport national_id tax_id driver_license drivers_license "
    "first_name last_name full_name middle_name given_name family_name surname maiden_name",
    "a birth date": "birth birthday birthdate dob date_of_birth birth_date born",
    "an address": "address addresses street postcode postal_code zip_code zipcode home_town",
    "money": "salary salaries wage wages income iban credit_card card_number bank_account",
    "health": "diagnosis diagnoses medication medications prescription disease diseases illness "
    "symptom symptoms allergy allergies patient patients medical blood_type blood_pressure icd "
    "mrn disability pregnant pregnancy hiv therapy surgery clinical",
    "a belief or an origin": "religion ethnicity sexual_orientation",
}
_TELLTALE = {tuple(words.split("_")): what for what, given in _WORDS.items() for words in given.split()}
_LONGEST = max(map(len, _TELLTALE))
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")


def personal(subject: Subject) -> Iterator[Found]:
    """A column is added, or gets a name, that sounds like personal data, and has no `sensitivity`."""
    said = _said_of(subject)
    for change in subject.changes:
        operation = change.operation
        for path, field in _new_columns(change):
            what = sounds_like(path.rpartition(".")[2])
            has = SENSITIVITY.encode() in (field.metadata or {}) or (operation.table, path) in said
            if what is not None and not has:
                key = f'table="{operation.table}", column="{path}"'
                yield Found(
                    codes.PERSONAL,
                    change.span,
                    f"{operation.table}.{path} sounds like {what}, and nothing says how sensitive it is",
                    f'SetMetadata({key}, metadata={{"{SENSITIVITY}": "…"}}); "none" if it only sounds so',
                )


def sounds_like(name: str) -> str | None:
    """What kind of personal data a name sounds like: `homeAddress`, `birth_date`, `SSN`."""
    parts = [part.lower() for part in _PART.findall(name)]
    for length in range(_LONGEST, 0, -1):
        for at in range(len(parts) - length + 1):
            found = _TELLTALE.get(tuple(parts[at : at + length]))
            if found is not None:
                return found
    return None


def _said_of(subject: Subject) -> set[tuple[str, str]]:
    operations: list[Operation] = [change.operation for change in subject.changes]
    return {
        (each.table, each.column)
        for each in operations
        if isinstance(each, SetMetadata) and each.column and each.metadata.get(SENSITIVITY)
    }


def _new_columns(change: Change) -> Iterator[tuple[str, pa.Field]]:
    """The columns and fields of structs that an operation adds, or gives a name."""
    operation = change.operation
    if isinstance(operation, CreateTable | BuildTable | TransformTable):
        known = change.table or TableSchema(columns=pa.schema([]))
        yield from (each for each in _fields("", operation.columns) if not has_column(known.columns, each[0]))
    elif isinstance(operation, AddColumn):
        yield operation.column.name, operation.column
        yield from _children(operation.column.name, operation.column)
    elif isinstance(operation, RenameColumn):
        there = change.table is not None and has_column(change.table.columns, operation.column)
        old = column("", change.table.columns, operation.column) if there and change.table else None
        yield operation.new_path, old if old is not None else pa.field(operation.to, pa.null())


def _fields(prefix: str, fields: pa.Schema | pa.DataType) -> Iterator[tuple[str, pa.Field]]:
    for field in fields:
        path = f"{prefix}{field.name}"
        yield path, field
        yield from _children(path, field)


def _children(path: str, field: pa.Field) -> Iterator[tuple[str, pa.Field]]:
    if pa.types.is_struct(field.type):
        yield from _fields(f"{path}.", field.type)
