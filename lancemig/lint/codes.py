"""The codes of `lint`, each with how bad it is. They are contract: added to, never given another meaning.

Each has a section in docs/lint.md, which says what it is, why, and how it looks done badly and well.
"""

from lancemig.catalog.checks import Level

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

LEVELS = {
    DROPPED: Level.ERROR,
    NARROWED: Level.ERROR,
    DELETES_ALL: Level.ERROR,
    UPDATES_ALL: Level.ERROR,
    IRREVERSIBLE: Level.WARNING,
    KIND_TOO_STRONG: Level.WARNING,
    NOT_IDEMPOTENT: Level.ERROR,
    INDEX_LOST: Level.WARNING,
    NO_KEY: Level.WARNING,
    NOT_DETERMINISTIC: Level.ERROR,
    OUTSIDE: Level.ERROR,
    GLOBAL_STATE: Level.ERROR,
    NO_READS: Level.WARNING,
    PERSONAL: Level.WARNING,
    MIXED: Level.WARNING,
    NO_MESSAGE: Level.WARNING,
    FOLLOWED: Level.ERROR,
    BAD_IGNORE: Level.ERROR,
    IDLE_IGNORE: Level.WARNING,
}
