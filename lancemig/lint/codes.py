"""The codes of `lint`, each with how bad it is. They are contract: added to, never given another meaning.

Each has a section in docs/lint.md, which says what it is, why, and how it looks done badly and well.
"""

from lancemig.catalog.findings import Code

DROPPED = Code.DROPPED
NARROWED = Code.NARROWED
DELETES_ALL = Code.DELETES_ALL
UPDATES_ALL = Code.UPDATES_ALL
IRREVERSIBLE = Code.IRREVERSIBLE
KIND_TOO_STRONG = Code.KIND_TOO_STRONG
NOT_IDEMPOTENT = Code.NOT_IDEMPOTENT
INDEX_LOST = Code.INDEX_LOST
NO_KEY = Code.NO_KEY
NOT_DETERMINISTIC = Code.NOT_DETERMINISTIC
OUTSIDE = Code.OUTSIDE
GLOBAL_STATE = Code.GLOBAL_STATE
NO_READS = Code.NO_READS
PERSONAL = Code.PERSONAL
MIXED = Code.MIXED
NO_MESSAGE = Code.NO_MESSAGE
FOLLOWED = Code.FOLLOWED
BAD_IGNORE = Code.BAD_IGNORE
IDLE_IGNORE = Code.IDLE_IGNORE

LEVELS = {code: code.level for code in Code if code.of_lint}
