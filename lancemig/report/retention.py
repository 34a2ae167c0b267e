"""Archives, copies, garbage collection and detaching, as text and as JSON."""

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
    return f"{_copied(copy.copy)}{recorded}"


def copy_json(copy: CopyMade) -> dict[str, Any]:
    """A copy as JSON."""
    return {
        "format": JSON_FORMAT,
        "source": copy.source,
        "recorded": copy.recorded,
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


def gc_plan_text(plan: GcPlan, *, force: bool) -> str:
    """What `gc` would delete and keep."""
    if not plan.items:
        return "\n".join(["nothing to delete", *_kept_lines(plan.kept)])
    command = "lancemig gc --force" if force else "lancemig gc"
    total = f"to delete: {size(plan.bytes)}; run: {command}"
    return "\n".join([*_item_lines(plan.items), total, *_kept_lines(plan.kept)])


def gc_text(result: GcResult) -> str:
    """What `gc` has deleted and kept."""
    total = sum(item.bytes for item in result.items)
    deleted = (
        [*_item_lines(result.items), f"deleted: {size(total)}"] if result.items else ["nothing to delete"]
    )
    spared = [f"{name} kept: a reader has opened it" for name in result.spared]
    return "\n".join([*deleted, *spared, *_kept_lines(result.plan.kept)])


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


def gc_plan_json(plan: GcPlan) -> dict[str, Any]:
    """What `gc` would delete and keep, as JSON."""
    return _json(plan.items, plan.kept, deleted=False)


def gc_json(result: GcResult) -> dict[str, Any]:
    """What `gc` has deleted and kept, as JSON."""
    return _json(result.items, result.plan.kept, deleted=True)


def _json(items: Sequence[GcItem], kept: Sequence[GcKept], *, deleted: bool) -> dict[str, Any]:
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
            }
            for item in items
        ],
        "kept": [asdict(item) for item in kept],
    }


def detached_text(detached: Detached) -> str:
    """The files copied for each table."""
    root = format_root(detached.place.prefix)
    if not detached.files:
        return f"{root} borrows no files"
    lines = [f"{name}: {count_text(files, 'file')} copied" for name, files in detached.files.items()]
    roots = ", ".join(format_root(other) for other in detached.roots)
    return "\n".join([*lines, f"{root} no longer borrows files (previously from {roots})"])


def detached_json(detached: Detached) -> dict[str, Any]:
    """The files copied for each table, as JSON."""
    return {
        "format": JSON_FORMAT,
        "live": detached.place.model_dump(mode="json"),
        "files": detached.files,
        "read": list(detached.roots),
    }
