"""The rule that columns with a name like personal data declare their sensitivity.

`personal_data` is the rule, `personal_data_category` judges a name. The tables list the words of each
category, and the words beside them that show that no person is meant (`mac_address`, `phone_model`).
"""

import re
from collections.abc import Iterator

import pyarrow as pa

from lancemig.catalog.findings import Code
from lancemig.catalog.operations import (
    Operation,
    SetMetadata,
)
from lancemig.catalog.schema import TableSchema, column, has_column
from lancemig.lint.subject import OperationChange, Subject, Violation

SENSITIVITY = "sensitivity"
"""The field metadata that states how sensitive a column is; `none` for one that only looks sensitive."""


def personal_data(subject: Subject) -> Iterator[Violation]:
    """A new column, or the new name of one, looks like personal data, but declares no sensitivity."""
    declared = _declared_by_operations(subject)
    for change in subject.changes:
        table = change.operation.table
        new_columns = list(_new_columns(change))
        for path, field in new_columns:
            if SENSITIVITY.encode() in (field.metadata or {}):
                declared.add((table, path))
        for path, field in new_columns:
            category = personal_data_category(field.name)
            if category is None or not type_can_hold(field.type, category):
                continue
            if not _is_declared(table, path, declared):
                arguments = f'table="{table}", column="{path}"'
                yield Violation(
                    Code.PERSONAL,
                    change.span,
                    f"{table}.{path} looks like {category}, but its sensitivity is not declared",
                    f'SetMetadata({arguments}, metadata={{"{SENSITIVITY}": "…"}}); use "none" if it is not '
                    "personal data",
                )


def _declared_by_operations(subject: Subject) -> set[tuple[str, str]]:
    """The columns whose sensitivity a SetMetadata of the file declares, as `(table, path)`."""
    operations: list[Operation] = [change.operation for change in subject.changes]
    return {
        (operation.table, operation.column)
        for operation in operations
        if isinstance(operation, SetMetadata) and operation.column and operation.metadata.get(SENSITIVITY)
    }


def _is_declared(table: str, path: str, declared: set[tuple[str, str]]) -> bool:
    """Whether the sensitivity of the column, or of a struct around it, is declared."""
    names = path.split(".")
    return any((table, ".".join(names[:length])) in declared for length in range(1, len(names) + 1))


def _new_columns(change: OperationChange) -> Iterator[tuple[str, pa.Field]]:
    """The columns, and fields inside them, that an operation adds or gives a new name, with their paths."""
    effects = change.column_effects
    existing = (change.table or TableSchema(columns=pa.schema([]))).columns
    for path, field in _fields("", effects.replaced or ()):
        if not has_column(existing, path):
            yield path, field
    for path, field in effects.added.items():
        yield path, field
        yield from _children(path, field)
    for path, new_path in effects.renamed.items():
        if personal_data_category(path.rpartition(".")[2]) is None:
            is_known = has_column(existing, path)
            field = column("", existing, path) if is_known else pa.field(path, pa.null())
            yield new_path, field.with_name(new_path.rpartition(".")[2])


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
_WHOLE_NAMES = {"mobile": _CONTACT, "tel": _CONTACT, "born": _BIRTH, "mail": _CONTACT}
"""Words that count only where they are the whole name."""

_PHRASES = {
    tuple(words.split("_")): category for category, phrases in _WORDS.items() for words in phrases.split()
}
_JOINED_PHRASES = {
    "".join(words): category for words, category in _PHRASES.items() if len("".join(words)) > 3
}
"""The phrases written as one word: `firstname`, `dateofbirth`."""

_MAX_WORDS = max(map(len, _PHRASES))
_NAME_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_MACHINE_WORDS = {
    "mac", "memory", "mem", "byte", "bit", "base", "start", "end", "offset", "contract", "wallet",
    "bus", "i2c", "register", "block", "page", "host", "server", "device", "node", "peer", "remote",
    "local", "bind", "listen", "load", "return", "virtual", "physical", "sector", "can", "modbus",
    "hardware", "hw", "gateway", "socket", "dns", "http", "url",
}  # fmt: skip
"""Words before `address` that make it one in a machine or a network."""

_THING_WORDS = {
    "font", "file", "table", "column", "field", "repo", "repository", "class", "gene", "protein",
    "device", "model", "product", "package", "module", "schema", "index", "chip", "instrument", "cpu",
    "gpu",
}  # fmt: skip
"""Words before `full_name` or `family_name` that make it the name of a thing."""

_WORDS_BEFORE = {_ADDRESS: _MACHINE_WORDS, _IDENTITY: _THING_WORDS}
_WORDS_AFTER = {
    _CONTACT: {
        "model", "os", "brand", "vendor", "version", "app", "template", "format", "type", "kind", "status",
        "sent", "verified", "confirmed",
    },
    _ADDRESS: {"id", "type", "kind", "space", "family", "bus", "width"},
}  # fmt: skip
"""Last words of names about a device, a message or another table: `phone_model`, `address_id`."""

_COUNT_WORDS = {"n", "num", "nr", "count", "total"}
_TEXT_CATEGORIES = {_CONTACT, _IDENTITY, _ADDRESS}


def personal_data_category(name: str) -> str | None:
    """The category of personal data that a name suggests: `homeAddress`, `birth_date`, `SSN`, `firstname`.

    Returns:
        The category as in a message (`a birth date`); None for other names.
    """
    words = [word.lower() for word in _NAME_WORD.findall(name)]
    if len(words) == 1 and words[0] in _WHOLE_NAMES:
        return _WHOLE_NAMES[words[0]]
    if words and (words[0] in _COUNT_WORDS or words[-1] in ("count", "counts", "total")):
        return None
    for length in range(_MAX_WORDS, 0, -1):
        for at in range(len(words) - length + 1):
            category = _PHRASES.get(tuple(words[at : at + length])) or _JOINED_PHRASES.get(words[at])
            if category is not None and not _is_about_a_thing(words, at, category):
                return category
    return None


def _is_about_a_thing(words: list[str], at: int, category: str) -> bool:
    """Whether the words around the phrase at `at` show that no person is meant."""
    before = bool(at) and words[at - 1] in _WORDS_BEFORE.get(category, ())
    return before or words[-1] in _WORDS_AFTER.get(category, ())


def type_can_hold(of: pa.DataType, category: str) -> bool:
    """Whether a column of this type may hold such data: an address is no boolean, and a salary no date."""
    if category in ("health", "a belief or an origin") or pa.types.is_null(of):
        return True
    if pa.types.is_boolean(of):
        return False
    temporal = pa.types.is_temporal(of)
    if category in _TEXT_CATEGORIES:
        return not (temporal or pa.types.is_floating(of))
    return category == _BIRTH or not temporal
