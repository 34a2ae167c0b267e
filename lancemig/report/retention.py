"""What is archived, copied, deleted and kept, as text and as JSON."""

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


def archive_text(kept: ArchiveResult) -> str:
    """What holds of an archived root."""
    archived = kept.archived
    lines = [f"archived {format_root(archived.root)}  until {archived.retain_until}"]
    if not kept.new:
        lines[0] += " (unchanged)"
    if kept.copy is not None:
        lines.append(_copied(kept.copy))
    elif archived.copied is not None:
        lines.append(f"copied   {archived.copied.to} (earlier)")
    return "\n".join(lines)


def archive_json(kept: ArchiveResult) -> dict[str, Any]:
    """What holds of an archived root, for programs."""
    return {
        "format": JSON_FORMAT,
        "root": kept.archived.root,
        "retain_until": kept.archived.retain_until,
        "new": kept.new,
        "copied": _copied_json(kept.archived.copied),
        "sent": kept.copy.sent if kept.copy else 0,
        "sent_bytes": kept.copy.sent_bytes if kept.copy else 0,
    }


def copy_text(made: CopyMade) -> str:
    """What a copy holds."""
    recorded = "\n         recorded as a backup of the live root" if made.recorded else ""
    return f"{_copied(made.copy)}{recorded}"


def copy_json(made: CopyMade) -> dict[str, Any]:
    """What a copy holds, for programs."""
    return {
        "format": JSON_FORMAT,
        "source": made.source,
        "recorded": made.recorded,
        "copied": _copied_json(made.copy.copied),
        "sent": made.copy.sent,
        "sent_bytes": made.copy.sent_bytes,
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


def gc_plan_text(found: GcPlan, *, force: bool) -> str:
    """What `gc` would delete, and what it would keep."""
    if not found.items:
        return "\n".join(["nothing to delete", *_kept(found.kept)])
    command = "lancemig gc --force" if force else "lancemig gc"
    total = f"to delete: {size(found.bytes)}; run: {command}"
    return "\n".join([*_items(found.items), total, *_kept(found.kept)])


def gc_text(gone: GcResult) -> str:
    """What `gc` has deleted, and what it has kept."""
    total = sum(item.bytes for item in gone.items)
    deleted = [*_items(gone.items), f"deleted: {size(total)}"] if gone.items else ["nothing to delete"]
    spared = [f"{name} kept: a reader has opened it" for name in gone.spared]
    return "\n".join([*deleted, *spared, *_kept(gone.found.kept)])


def _items(items: Iterable[GcItem]) -> list[str]:
    cells = [[item.kind, format_root(item.name), size(item.bytes), _why(item)] for item in items]
    return columns(cells, indent="") if cells else []


def _why(item: GcItem) -> str:
    if item.kind != "guards":
        return item.why
    return f"v{', v'.join(map(str, item.versions))}: {item.why}"


def _kept(kept: Sequence[GcKept]) -> list[str]:
    cells = [[format_root(stays.name), size(stays.bytes), stays.why] for stays in kept]
    return ["kept", *columns(cells)] if cells else []


def gc_plan_json(found: GcPlan) -> dict[str, Any]:
    """What `gc` would delete and keep, for programs."""
    return _json(found.items, found.kept, deleted=False)


def gc_json(gone: GcResult) -> dict[str, Any]:
    """What `gc` has deleted and kept, for programs."""
    return _json(gone.items, gone.found.kept, deleted=True)


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
        "kept": [asdict(stays) for stays in kept],
    }


def detached_text(done: Detached) -> str:
    """What was copied, table by table, and that the root stands on its own."""
    root = format_root(done.place.prefix)
    if not done.files:
        return f"{root} borrows no files"
    lines = [f"{name}: {count_text(files, 'file')} copied" for name, files in done.files.items()]
    roots = ", ".join(format_root(other) for other in done.roots)
    return "\n".join([*lines, f"{root} no longer borrows files (previously from {roots})"])


def detached_json(done: Detached) -> dict[str, Any]:
    """The same for programs."""
    return {
        "format": JSON_FORMAT,
        "live": done.place.model_dump(mode="json"),
        "files": done.files,
        "read": list(done.roots),
    }
