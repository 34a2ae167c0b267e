"""The codes of `lint`, each with how bad it is. They are contract: added to, never given another meaning.

Each has a section in docs/lint.md, which says what it is, why, and how it looks done badly and well.
"""

from lancemig.catalog.findings import Severity

DROPPED = "LM001"
NARROWED = "LM002"
DELETES_ALL = "LM003"
UPDATES_ALL = "LM004"
IRREVERSIBLE = "LM005"
KIND_TOO_STRONG = "LM006"
NOT_IDEMPOTENT = "LM007"
INDEX_LOST = "LM008"
NO_KEY = "LM009"
NOT_DETERMINISTIC = "LM010"
OUTSIDE = "LM011"
GLOBAL_STATE = "LM012"
NO_READS = "LM013"
PERSONAL = "LM014"
MIXED = "LM015"
NO_MESSAGE = "LM016"
FOLLOWED = "LM017"
BAD_IGNORE = "LM018"
IDLE_IGNORE = "LM019"

SEVERITIES = {
    DROPPED: Severity.ERROR,
    NARROWED: Severity.ERROR,
    DELETES_ALL: Severity.ERROR,
    UPDATES_ALL: Severity.ERROR,
    IRREVERSIBLE: Severity.WARNING,
    KIND_TOO_STRONG: Severity.WARNING,
    NOT_IDEMPOTENT: Severity.ERROR,
    INDEX_LOST: Severity.WARNING,
    NO_KEY: Severity.WARNING,
    NOT_DETERMINISTIC: Severity.ERROR,
    OUTSIDE: Severity.ERROR,
    GLOBAL_STATE: Severity.ERROR,
    NO_READS: Severity.WARNING,
    PERSONAL: Severity.WARNING,
    MIXED: Severity.WARNING,
    NO_MESSAGE: Severity.WARNING,
    FOLLOWED: Severity.ERROR,
    BAD_IGNORE: Severity.ERROR,
    IDLE_IGNORE: Severity.WARNING,
}
