"""A rule over names: columns that sound like personal data say how sensitive they are."""

import re
from collections.abc import Iterator

import pyarrow as pa

from lancemig.catalog.operations import (
    Operation,
    SetMetadata,
)
from lancemig.catalog.schema import TableSchema, column, has_column
from lancemig.lint import codes
from lancemig.lint.subject import OperationChange, Subject, Violation

_CONTACT, _IDENTITY, _BIRTH, _ADDRESS = (
    "e-mail or phone",
    "a personal identifier",
    "a birth date",
    "an address",
)
_WORDS = {
    _CONTACT: "email emails e_mail e_mails mail_address mail_addr phone phones telephone tel_no "
    "tel_number cell_phone mobile_phone mobile_number mobile_no cell_number home_phone phone_number "
    "phone_no fax fax_number",
    _IDENTITY: "ssn ssns social_security soc_sec passport national_id national_insurance nhs_number "
    "tax_id tax_payer_id driver_license drivers_license driver_licence drivers_licence "
    "driving_license driving_licence first_name last_name full_name middle_name given_name "
    "family_name surname maiden_name birth_name",
    _BIRTH: "birth birthday birth_day birthdate dob d_o_b date_of_birth birth_date birth_year "
    "year_of_birth birth_place place_of_birth born_on born_at",
    _ADDRESS: "address addresses addr address_line street street_name postcode post_code postal_code "
    "zip_code home_town",
    "money": "salary salaries wage wages income iban credit_card credit_card_number card_number "
    "bank_account account_iban pay_grade",
    "health": "diagnosis diagnoses diagnosed medication medications medicine medicines prescription "
    "prescriptions disease diseases illness illnesses symptom symptoms allergy allergies patient "
    "patients medical blood_type blood_group blood_pressure icd mrn disability disabilities pregnant "
    "pregnancy hiv therapy surgery clinical health_record health_condition health_insurance",
    "a belief or an origin": "religion ethnicity sexual_orientation",
}
_ALONE = {"mobile": _CONTACT, "tel": _CONTACT, "born": _BIRTH, "mail": _CONTACT}
"""Words that mean this only where they are the whole name."""

_TELLTALE = {tuple(words.split("_")): what for what, given in _WORDS.items() for words in given.split()}
_TOGETHER = {"".join(words): what for words, what in _TELLTALE.items() if len("".join(words)) > 3}
"""As some write them: `firstname`, `dateofbirth`."""

_LONGEST = max(map(len, _TELLTALE))
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

_OF_MACHINES = {
    "mac", "memory", "mem", "byte", "bit", "base", "start", "end", "offset", "contract", "wallet",
    "bus", "i2c", "register", "block", "page", "host", "server", "device", "node", "peer", "remote",
    "local", "bind", "listen", "load", "return", "virtual", "physical", "sector", "can", "modbus",
    "hardware", "hw", "gateway", "socket", "dns", "http", "url",
}  # fmt: skip
"""What stands before `address` where it is one in a machine or a network."""

_THINGS = {
    "font", "file", "table", "column", "field", "repo", "repository", "class", "gene", "protein",
    "device", "model", "product", "package", "module", "schema", "index", "chip", "instrument", "cpu",
    "gpu",
}  # fmt: skip
"""What stands before `full_name` or `family_name` where it is no person's."""

_BEFORE = {_ADDRESS: _OF_MACHINES, _IDENTITY: _THINGS}
_AFTER = {
    _CONTACT: {
        "model", "os", "brand", "vendor", "version", "app", "template", "format", "type", "kind", "status",
        "sent", "verified", "confirmed",
    },
    _ADDRESS: {"id", "type", "kind", "space", "family", "bus", "width"},
}  # fmt: skip
"""What stands last where a device, a message or another table is told of: `phone_model`, `address_id`."""

_COUNTS = {"n", "num", "nr", "count", "total"}
_TEXTS = {_CONTACT, _IDENTITY, _ADDRESS}


def sounds_like(name: str) -> str | None:
    """What kind of personal data a name sounds like: `homeAddress`, `birth_date`, `SSN`, `firstname`."""
    parts = [part.lower() for part in _PART.findall(name)]
    if len(parts) == 1 and parts[0] in _ALONE:
        return _ALONE[parts[0]]
    if parts and (parts[0] in _COUNTS or parts[-1] in ("count", "counts", "total")):
        return None
    for length in range(_LONGEST, 0, -1):
        for at in range(len(parts) - length + 1):
            found = _TELLTALE.get(tuple(parts[at : at + length])) or _TOGETHER.get(parts[at])
            if found is not None and not _of_a_thing(parts, at, found):
                return found
    return None


def _of_a_thing(parts: list[str], at: int, what: str) -> bool:
    """Whether the words around the telling one say that no person is meant: `mac_address`, `phone_model`."""
    before = bool(at) and parts[at - 1] in _BEFORE.get(what, ())
    return before or parts[-1] in _AFTER.get(what, ())


def holds(of: pa.DataType, what: str) -> bool:
    """Whether a column of this type may hold it: no address is a truth value, and no salary is a date."""
    if what in ("health", "a belief or an origin") or pa.types.is_null(of):
        return True
    if pa.types.is_boolean(of):
        return False
    timed = pa.types.is_temporal(of)
    if what in _TEXTS:
        return not (timed or pa.types.is_floating(of))
    return what == _BIRTH or not timed


SENSITIVITY = "sensitivity"
"""The field metadata that says how sensitive a column is; `none` says that it only sounds so."""


def personal(subject: Subject) -> Iterator[Violation]:
    """A column is added, or gets a name, that sounds like personal data, and has no `sensitivity`."""
    said = _said_of(subject)
    for change in subject.changes:
        operation = change.operation
        given = [each for each in _new_columns(change) if each[1].metadata]
        said |= {(operation.table, path) for path, field in given if SENSITIVITY.encode() in field.metadata}
        for path, field in _new_columns(change):
            what = sounds_like(field.name)
            if what is not None and holds(field.type, what) and not _is_said(operation.table, path, said):
                key = f'table="{operation.table}", column="{path}"'
                yield Violation(
                    codes.PERSONAL,
                    change.span,
                    f"{operation.table}.{path} looks like {what}, but its sensitivity is not declared",
                    f'SetMetadata({key}, metadata={{"{SENSITIVITY}": "…"}}); use "none" if it is not '
                    "personal data",
                )


def _said_of(subject: Subject) -> set[tuple[str, str]]:
    operations: list[Operation] = [change.operation for change in subject.changes]
    return {
        (each.table, each.column)
        for each in operations
        if isinstance(each, SetMetadata) and each.column and each.metadata.get(SENSITIVITY)
    }


def _is_said(table: str, path: str, said: set[tuple[str, str]]) -> bool:
    """Whether it is said of the column, or of a struct around it."""
    names = path.split(".")
    return any((table, ".".join(names[:length])) in said for length in range(1, len(names) + 1))


def _new_columns(change: OperationChange) -> Iterator[tuple[str, pa.Field]]:
    """The columns and fields of structs that an operation adds, or gives a name."""
    effects = change.column_effects
    known = change.table or TableSchema(columns=pa.schema([]))
    if effects.replaced is not None:
        yield from (each for each in _fields("", effects.replaced) if not has_column(known.columns, each[0]))
    for path, field in effects.added.items():
        yield path, field
        yield from _children(path, field)
    for path, new_path in effects.renamed.items():
        if sounds_like(path.rpartition(".")[2]) is None:
            is_known = has_column(known.columns, path)
            old = column("", known.columns, path) if is_known else pa.field(path, pa.null())
            yield new_path, old.with_name(new_path.rpartition(".")[2])


def _fields(prefix: str, fields: pa.Schema | pa.DataType) -> Iterator[tuple[str, pa.Field]]:
    for field in fields:
        path = f"{prefix}{field.name}"
        yield path, field
        yield from _children(path, field)


def _children(path: str, field: pa.Field) -> Iterator[tuple[str, pa.Field]]:
    of = field.type
    while pa.types.is_list(of) or pa.types.is_large_list(of) or pa.types.is_fixed_size_list(of):
        of = of.value_type
    if pa.types.is_struct(of):
        yield from _fields(f"{path}.", of)
