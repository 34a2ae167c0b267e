"""Tags and branches that others made, and the versions that they name: listed, compared, and carried.

A version keeps its number when its table is copied, so a tag is carried with the manifest and the files of
the version that it names, and a branch with its folder. The object that makes the name known is written last.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import unquote

import lance

from lancemig.catalog.stamps import guarded_version
from lancemig.errors import StoreError, VerifyFailed
from lancemig.store.lance.clones import manifest_version
from lancemig.store.lance.errors import Damaged, Missing, translated
from lancemig.store.lance.manifests import with_locations
from lancemig.store.lance.table import Table, is_blob
from lancemig.store.objects import Objects, PreconditionFailed
from lancemig.store.objects.location import folder_key

ReferenceKind = Literal["tag", "branch"]
_FOLDERS: dict[ReferenceKind, str] = {"tag": "_refs/tags/", "branch": "_refs/branches/"}
_OF_A_BRANCH = ("_versions", "_transactions", "_deletions", "_indices", "data")


@dataclass(frozen=True)
class ReferenceName:
    """The name of a tag or a branch."""

    kind: ReferenceKind
    name: str
    key: str = field(default="", compare=False)
    """The object that makes the name known."""

    @property
    def is_guard(self) -> bool:
        """Whether it is a branch by which lancemig guards a version."""
        return self.kind == "branch" and guarded_version(self.name) is not None

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Reference:
    """A tag, and the version that it names; or a branch, and the version that it began from."""

    name: ReferenceName
    branch: str | None
    """The branch of that version; None for the main line."""
    version: int
    document: Mapping[str, Any]
    """The stored object."""

    @property
    def identity(self) -> str:
        """Equal if one is a copy of the other; the size of a manifest may differ."""
        kept = {name: value for name, value in self.document.items() if name != "manifestSize"}
        return json.dumps([str(self.name), kept], sort_keys=True)


@dataclass(frozen=True)
class ReferencesCarried:
    """What became of the tags and branches of a table."""

    carried: tuple[ReferenceName, ...]
    left: tuple[tuple[ReferenceName, str], ...]
    """Those that the target has not, and why."""


def reference_at(key: str) -> ReferenceName | None:
    """The tag or branch, lancemig's own included, of an object in `_refs/`; None for another object."""
    for kind, below in _FOLDERS.items():
        _, is_reference, name = key.partition(f"/{below}")
        if is_reference and name.endswith(".json"):
            return ReferenceName(kind, unquote(name.removesuffix(".json")), key)
    return None


def reference_names(objects: Objects, folder: str) -> list[ReferenceName]:
    """The tags and branches of others of the table at `folder`, by one listing."""
    found = (reference_at(item.key) for item in objects.list(f"{folder}_refs/"))
    others = [reference for reference in found if reference is not None and not reference.is_guard]
    return sorted(others, key=lambda one: (one.kind, one.name))


def references(objects: Objects, folder: str) -> list[Reference]:
    """The tags and branches of others of the table at `folder`, with what they name; parents come first."""
    found = [_read(objects, name) for name in reference_names(objects, folder)]
    return sorted((one for one in found if one is not None), key=_depth)


def _depth(one: Reference) -> tuple[bool, int, str]:
    identifier = one.document.get("identifier") or {}
    return one.name.kind == "tag", len(identifier.get("version_mapping") or ()), one.name.name


def _read(objects: Objects, name: ReferenceName) -> Reference | None:
    body = objects.read(name.key)
    if body is None:
        return None
    try:
        document = json.loads(body.body)
        if name.kind == "tag":
            return Reference(name, document["branch"], int(document["version"]), document)
        return Reference(name, document["parentBranch"], int(document["parentVersion"]), document)
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(
            f"{name}: {name.key} cannot be parsed", next_step="remove it by Lance, then run the command again"
        ) from error


def branch_folder(folder: str, branch: str | None) -> str:
    """The key of the folder in which a branch of the table at `folder` stores its versions."""
    return folder if branch is None else f"{folder}tree/{branch}/"


def manifests(objects: Objects, folder: str) -> dict[int, str]:
    """The keys of the manifests of a table or branch, by version."""
    found = ((manifest_version(i.key.rpartition("/")[2]), i) for i in objects.list(f"{folder}_versions/"))
    return {version: item.key for version, item in found if version is not None}


def is_complete(objects: Objects, one: Reference, folder: str, other: str) -> bool:
    """Whether the table at `other` has the versions that a reference of the table at `folder` stands for."""
    if one.name.kind == "tag":
        return one.version in manifests(objects, branch_folder(other, one.branch))
    versions = manifests(objects, branch_folder(folder, one.name.name))
    return versions.keys() <= manifests(objects, branch_folder(other, one.name.name)).keys()


@dataclass(frozen=True)
class ReferenceCarrier:
    """Carries tags and branches of a table into a copy or clone of one of its versions."""

    objects: Objects
    source: Table
    """The table, pinned at the version that was copied or cloned."""
    folder: str
    """The key of its folder."""
    to: str
    """The key of the target's folder."""
    uri: str
    """The address of the target."""
    options: Mapping[str, str]
    hold: Callable[[], None] = lambda: None
    """Called before each effect; it renews the lease."""

    def carry(self, *, add_only: bool = False) -> ReferencesCarried:
        """Let the target have what the source has now; repeated, it copies what is missing.

        Args:
            add_only: Leave what the target has as it is, since others may write to it.

        Raises:
            VerifyFailed: What was carried has other rows than its source.
        """
        wanted, existing = references(self.objects, self.folder), references(self.objects, self.to)
        if not wanted and not existing:
            return ReferencesCarried((), ())
        known = {one.identity for one in wanted}
        there = {one.identity for one in existing}
        taken = {one.name for one in existing if one.identity not in known}
        if not add_only:
            self._remove([one for one in existing if one.identity not in known])
            taken = set()
        carried: dict[ReferenceName, Reference] = {}
        left: list[tuple[ReferenceName, str]] = []
        for one in wanted:
            reason = "the new root has another of that name" if one.name in taken else None
            reason = reason or self._why_not(one, carried)
            if reason is None and one.identity in there and add_only:
                if not is_complete(self.objects, one, self.folder, self.to):
                    reason = "it was written to during the flip"
            elif reason is None:
                reason = self._carry_one(one, new=one.identity not in there)
            if reason is None:
                carried[one.name] = one
            else:
                left.append((one.name, reason))
        return ReferencesCarried(tuple(carried), tuple(left))

    def _remove(self, stale: Iterable[Reference]) -> None:
        """Remove what the source has no longer, or has otherwise, from the target."""
        for one in stale:
            # Without its name, the rest is not seen.
            self._delete([one.name.key])
            if one.name.kind == "branch":
                self._delete(list(self._of_branch(self.to, one.name.name)))

    def _delete(self, keys: list[str]) -> None:
        if keys:
            self.hold()
            self.objects.delete(keys)

    def _of_branch(self, folder: str, branch: str) -> Iterator[str]:
        """The keys of what a branch stores, without the branches whose names begin with its name."""
        own = branch_folder(folder, branch)
        for part in _OF_A_BRANCH:
            yield from (item.key for item in self.objects.list(f"{own}{part}/"))

    def _why_not(self, one: Reference, carried: Mapping[ReferenceName, Reference]) -> str | None:
        if one.branch is not None and ReferenceName("branch", one.branch) not in carried:
            return f"it is on branch {one.branch}, which stays there"
        if one.branch is None and one.version > self.source.version:
            return (
                f"it is on version {one.version}, and the new root has the versions up to "
                f"{self.source.version}"
            )
        return None

    def _carry_one(self, one: Reference, *, new: bool) -> str | None:
        """Copy what is missing; returns why the reference cannot be carried, None if it is."""
        branch = one.branch if one.name.kind == "tag" else one.name.name
        versions = manifests(self.objects, branch_folder(self.folder, branch))
        if one.name.kind == "tag":
            versions = {v: key for v, key in versions.items() if v == one.version}
        if not versions:
            return "its version no longer exists"
        missing = self._missing(one, branch, versions, new=new)
        if not new and not missing:
            return None
        try:
            sizes = self._copy_versions(branch, versions, missing)
        except Missing:
            return "its version was removed by cleanup"
        except _Unresolved as error:
            return str(error)
        self._write_reference(one, sizes)
        try:
            self._prove(one, branch, max(versions))
        except Missing as error:
            raise StoreError(
                f"{one.name} of {self.source.name} was removed while it was carried: {error}",
                next_step="run the same command again",
            ) from error
        return None

    def _missing(
        self, one: Reference, branch: str | None, versions: Mapping[int, str], *, new: bool
    ) -> dict[int, str]:
        """The manifests that the target lacks."""
        present = manifests(self.objects, branch_folder(self.to, branch))
        if new and one.name.kind == "branch":
            # Without the branch's name, this was left by an attempt that died, perhaps of another branch.
            self._delete([key for version, key in present.items() if version not in versions])
            present = {}
        return {version: key for version, key in versions.items() if version not in present}

    def _copy_versions(
        self, branch: str | None, versions: Mapping[int, str], missing: Mapping[int, str]
    ) -> dict[int, int]:
        """Copy versions, their files first; returns the sizes of the manifests that were missing."""
        files = sorted({key for version in versions for key in self._files(branch, version)})
        if branch is not None:
            files += [key for key in self._of_branch(self.folder, branch) if "/_versions/" not in key]
        self._copy(files)
        sizes = {version: self._write_manifest(key, branch) for version, key in sorted(missing.items())}
        # On a disk a copy is as old as its source: to a cleanup that ran until now it is a leftover.
        self._copy(files)
        return sizes

    def _open(self, uri: str, branch: str | None, version: int | None) -> Table:
        with translated(f"opening version {version} of {self.source.name}"):
            dataset = lance.dataset(uri, storage_options=dict(self.options))
            found = dataset.checkout_version((branch, version))
            return Table(self.source.name, self.source.root, found, writable=False)

    def _files(self, branch: str | None, version: int) -> Iterator[str]:
        """The keys of the files of a version that lie below the table's folder."""
        table = self._open(self.source.uri, branch, version)
        bases = table.dataset.base_paths()
        folders: dict[int | None, str | None] = {
            id_: self._key_of(str(base.path)) for id_, base in bases.items()
        }
        folders[None] = branch_folder(self.folder, branch)
        blobs = any(is_blob(one) for one in table.columns)
        for fragment in table.fragments:
            metadata = fragment.metadata
            for file in metadata.files:
                own = folders[file.base_id]
                if own is not None:
                    yield f"{own}data/{file.path}"
                    stem = f"{own}data/{str(file.path).rpartition('.')[0]}/"
                    yield from (item.key for item in (self.objects.list(stem) if blobs else ()))
            deletion = metadata.deletion_file
            if deletion is not None and (own := folders[deletion.base_id]) is not None:
                yield own + str(deletion.path(metadata.id))
        for index in table.dataset.describe_indices():
            for segment in index.segments:
                own = folders[segment.base_id]
                if own is not None:
                    yield from (i.key for i in self.objects.list(f"{own}_indices/{segment.uuid}/"))

    def _key_of(self, location: str) -> str | None:
        """The key of a location below the table's folder; None for one elsewhere, which stays borrowed."""
        key = folder_key(self.objects.uri, location)
        if key is not None:
            return key if key.startswith(self.folder) else None
        if "://" in location or location.startswith("/"):
            return None
        raise _Unresolved(f"it borrows files from {location}, which is not a whole address")

    def _copy(self, keys: list[str]) -> None:
        there = {item.key for item in self.objects.list(self.to)} if keys else set()
        pairs = [(key, self._target(key)) for key in dict.fromkeys(keys) if self._target(key) not in there]
        if pairs:
            self.hold()
            self.objects.copy(pairs)

    def _target(self, key: str) -> str:
        return self.to + key[len(self.folder) :]

    def _write_manifest(self, key: str, branch: str | None) -> int:
        """Write a manifest that names the target where its source names the table; returns its size."""
        body = self.objects.read(key)
        if body is None:
            raise StoreError(f"{key} was removed while it was copied", next_step="run the same command again")
        # Of the manifests, only those of branches contain the address of the table.
        changed = body.body if branch is None else with_locations(body.body, self._moved)
        self.hold()
        if branch is None:
            self.objects.copy([(key, self._target(key))])
        else:
            self._put(self._target(key), changed)
        return len(changed)

    def _moved(self, location: str) -> str:
        key = self._key_of(location)
        return location if key is None else f"{self.uri}/{key[len(self.folder) :]}".rstrip("/")

    def _write_reference(self, one: Reference, sizes: Mapping[int, int]) -> None:
        document = dict(one.document)
        if one.name.kind == "tag" and one.version in sizes:
            document["manifestSize"] = sizes[one.version]
        self.hold()
        self._put(self._target(one.name.key), json.dumps(document, indent=2).encode())

    def _put(self, key: str, body: bytes) -> None:
        for _ in range(3):
            found = self.objects.read(key)
            if found is not None and found.body == body:
                return
            outcome = self.objects.write_if(key, body, None if found is None else found.version_token)
            if not isinstance(outcome, PreconditionFailed):
                return
        raise StoreError(f"{key} is written to by others", next_step="run the same command again")

    def _prove(self, one: Reference, branch: str | None, version: int) -> None:
        """Open what was carried, a tag by its name, and compare it with its source."""
        found = self._open(self.uri, branch, version).dataset
        if one.name.kind == "tag":
            with translated(f"opening {one.name} of {self.source.name}"):
                found = lance.dataset(self.uri, storage_options=dict(self.options))
                found = found.checkout_version(one.name.name)
        source = self._open(self.source.uri, branch, version).dataset
        if (found.version, found.schema, _rows(found)) != (source.version, source.schema, _rows(source)):
            raise VerifyFailed(
                f"{one.name} of {self.source.name} does not lead to the same rows in {self.uri}",
                next_step="lancemig recover --undo, then run the same command again",
            )


def _rows(dataset: lance.LanceDataset) -> list[tuple[int, int]]:
    return [(f.fragment_id, int(f.count_rows())) for f in dataset.get_fragments()]


class _Unresolved(Exception):
    """A location that cannot be found in the store."""
