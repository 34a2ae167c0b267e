"""Archives, copies, garbage collection and detaching, as text and as JSON."""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from lancemig.apply.retention.archive import ArchiveResult
from lancemig.apply.retention.copy import CopyResult
from lancemig.apply.retention.gc import GcItem, GcKept, GcPlan, GcResult
from lancemig.catalog.lineage import Copied
from lancemig.catalog.sources import count_text
from lancemig.catalog.value import format_root
from lancemig.commands.retention import CopyMade, Detached
from lancemig.report.words import JSON_FORMAT, columns, number, size


def archive_text(archive: ArchiveResult) -> str:
    """An archived root: its retention and its copy."""
    archived = archive.archived
    lines = [f"archived {format_root(archived.root)}  until {archived.retain_until}"]
    if not archive.new:
        lines[0] += " (unchanged)"
    if archive.copy is not None:
        lines.append(_copied(archive.copy))
    elif archived.copied is not None:
        lines.append(f"copied   {archived.copied.to} (earlier)")
    return "\n".join(lines)


def archive_json(archive: ArchiveResult) -> dict[str, Any]:
    """An archived root as JSON."""
    return {
        "format": JSON_FORMAT,
        "root": archive.archived.root,
        "retain_until": archive.archived.retain_until,
        "new": archive.new,
        "copied": _copied_json(archive.archived.copied),
        "sent": archive.copy.sent if archive.copy else 0,
        "sent_bytes": archive.copy.sent_bytes if archive.copy else 0,
    }


def copy_text(copy: CopyMade) -> str:
    """A copy: its location, objects and bytes."""
    recorded = "\n         recorded as a backup of the live root" if copy.recorded else ""
    branches = ", ".join(copy.copy.branches)
    note = f"\nnote     branches that can be read in the copy only while {copy.source} exists: {branches}"
    return f"{_copied(copy.copy)}{recorded}{note if branches else ''}"


def copy_json(copy: CopyMade) -> dict[str, Any]:
    """A copy as JSON."""
    return {
        "format": JSON_FORMAT,
        "source": copy.source,
        "recorded": copy.recorded,
        "branches": list(copy.copy.branches),
        "copied": _copied_json(copy.copy.copied),
        "sent": copy.copy.sent,
        "sent_bytes": copy.copy.sent_bytes,
    }


def _copied(copy: CopyResult) -> str:
    copied = copy.copied
    sent = f"{copy.sent:,} sent" if copy.sent else "already complete"
    return (
        f"copied   {copied.to}: {number(copied.objects, 'object')}, {size(copied.bytes)}, compared ({sent})"
    )


def _copied_json(copied: Copied | None) -> dict[str, Any] | None:
    if copied is None:
        return None
    return {"to": copied.to, "objects": copied.objects, "bytes": copied.bytes, "digest": copied.digest}


def gc_plan_text(plan: GcPlan, *, force: bool, forget: Sequence[str] = ()) -> str:
    """What `gc` would delete and keep, and the command that deletes it."""
    after = [*_kept_lines(plan.kept), *_held_lines(plan, force=force), *_not_held_lines(plan)]
    if not plan.items:
        return "\n".join(["nothing to delete", *after])
    total = f"to delete: {size(plan.bytes)}; run: {_command(forget, force=force)}"
    return "\n".join([*_item_lines(plan.items), total, *after])


def gc_text(result: GcResult, *, force: bool = False) -> str:
    """What `gc` has deleted and kept."""
    total = sum(item.bytes for item in result.items)
    deleted = (
        [*_item_lines(result.items), f"deleted: {size(total)}"] if result.items else ["nothing to delete"]
    )
    spared = [f"{name} kept: a reader has opened it" for name in result.spared]
    after = [*_held_lines(result.plan, force=force), *_not_held_lines(result.plan)]
    return "\n".join([*deleted, *spared, *_kept_lines(result.plan.kept), *after])


def _item_lines(items: Iterable[GcItem]) -> list[str]:
    cells = [[item.kind, format_root(item.name), size(item.bytes), _why(item)] for item in items]
    return columns(cells, indent="") if cells else []


def _why(item: GcItem) -> str:
    if item.kind != "guards":
        return item.why
    return f"v{', v'.join(map(str, item.versions))}: {item.why}"


def _kept_lines(archive: Sequence[GcKept]) -> list[str]:
    cells = [[format_root(item.name), size(item.bytes), item.why] for item in archive]
    return ["kept", *columns(cells)] if cells else []


def _command(forget: Iterable[str], *, force: bool) -> str:
    words = ["lancemig gc", *(["--force"] if force else [])]
    return " ".join([*words, *(f"--forget-tags {shlex.quote(name)}" for name in forget)])


def _held_lines(plan: GcPlan, *, force: bool) -> list[str]:
    """For each root that is kept for its tags and branches, the command that deletes it, on its own line."""
    return [
        f"to delete {format_root(kept.name)} with these tags and branches of others, run:\n"
        f"  {_command(kept.holds, force=force)}"
        for kept in plan.kept
        if kept.holds
    ]


def _not_held_lines(plan: GcPlan) -> list[str]:
    return [f"note  --forget-tags {name}: no root that can be deleted has it alone" for name in plan.not_held]


def gc_plan_json(plan: GcPlan) -> dict[str, Any]:
    """What `gc` would delete and keep, as JSON."""
    return _json(plan.items, plan, deleted=False)


def gc_json(result: GcResult) -> dict[str, Any]:
    """What `gc` has deleted and kept, as JSON."""
    return _json(result.items, result.plan, deleted=True)


def _json(items: Sequence[GcItem], plan: GcPlan, *, deleted: bool) -> dict[str, Any]:
    return {
        "format": JSON_FORMAT,
        "deleted": deleted,
        "bytes": sum(item.bytes for item in items),
        "items": [
            {
                "kind": item.kind,
                "name": item.name,
                "bytes": item.bytes,
                "objects": item.objects,
                "why": item.why,
                "versions": list(item.versions),
                "forgets": list(item.forgets),
            }
            for item in items
        ],
        "kept": [asdict(item) for item in plan.kept],
        "not_held": list(plan.not_held),
    }


def detached_text(detached: Detached) -> str:
    """The files copied for each table."""
    root = format_root(detached.place.prefix)
    still = [f"note  {name} still reads {place}, which gc keeps" for place, name in detached.still.items()]
    if not detached.files:
        return "\n".join([f"{root} borrows no files", *still])
    lines = [f"{name}: {count_text(files, 'file')} copied" for name, files in detached.files.items()]
    roots = ", ".join(format_root(other) for other in detached.roots)
    return "\n".join([*lines, f"{root} no longer borrows files (previously from {roots})", *still])


def detached_json(detached: Detached) -> dict[str, Any]:
    """The files copied for each table, as JSON."""
    return {
        "format": JSON_FORMAT,
        "live": detached.place.model_dump(mode="json"),
        "files": detached.files,
        "read": list(detached.roots),
        "still": dict(detached.still),
    }
