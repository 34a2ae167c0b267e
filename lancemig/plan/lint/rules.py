"""All rules, run over one migration file."""

from collections.abc import Callable, Iterator

from lancemig.catalog.findings import Finding
from lancemig.plan.lint import destructive, purity, shapes, updates, whole
from lancemig.plan.lint.codes import LEVELS
from lancemig.plan.lint.ignores import ignores, silenced
from lancemig.plan.lint.personal import personal
from lancemig.plan.lint.subject import Found, Subject

RULES: tuple[Callable[[Subject], Iterator[Found]], ...] = (
    destructive.dropped,
    destructive.narrowed,
    destructive.deletes_all,
    destructive.updates_all,
    destructive.irreversible,
    whole.kind_too_strong,
    updates.not_idempotent,
    shapes.index_lost,
    shapes.no_key,
    updates.changing_sql,
    purity.changing,
    purity.outside,
    purity.shared_state,
    updates.no_reads,
    personal,
    whole.mixed,
    whole.no_message,
    whole.followed,
)


def findings(subject: Subject) -> list[Finding]:
    """What the rules find in a file, and in what it uses, and no comments silence; by file, line and code."""
    found = list(dict.fromkeys(each for rule in RULES for each in rule(subject)))
    left = silenced(found, ignores(subject.source))
    own = subject.migration.header.path
    return [
        Finding(
            code=each.code,
            message=each.message,
            next_step=each.fix,
            level=LEVELS[each.code],
            path=own if each.module is None else each.module.path,
            line=each.span.first,
        )
        for each in sorted(left, key=_order)
    ]


def _order(found: Found) -> tuple[str, int, str]:
    return str(found.module.path) if found.module else "", found.span.first, found.code
