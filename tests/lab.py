"""A project in a temporary folder: migration files, lancemig.ini, a catalog in some place, and eyes on it."""

import threading
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from textwrap import dedent
from typing import Any

import lance
import pyarrow as pa
from servers import Place

from lancemig.apply.runner import RunOutcome
from lancemig.commands import upgrade
from lancemig.commands.context import Catalog, open_catalog
from lancemig.config import Settings, read_settings

ROOT = "v1/"


@dataclass
class Lab:
    """A catalog under test. `revision` writes files; `upgrade` and `downgrade` run the real verbs."""

    folder: Path
    place: Place
    late: timedelta = timedelta()
    staging: str = "copy"
    written: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.folder / "versions").mkdir(parents=True, exist_ok=True)
        options = "".join(f"storage_options.{name} = {text}\n" for name, text in self.place.options.items())
        ini = f"[lancemig]\nstore = {self.place.store}\nfallback_prefix = {ROOT}\n{options}"
        ini += f"staging = {self.staging}\n"
        (self.folder / "lancemig.ini").write_text(ini)

    def revision(self, operations: str, *, above: str = "", downgrade: str = "", kind: str = "") -> str:
        """Write the next migration; `operations` is the text between the brackets, `above` goes before it."""
        number = len(self.written) + 1
        rev, down = f"{number:04d}", f'"{number - 1:04d}"' if number > 1 else "None"
        body = f'''"""Revision {rev}.

Revision ID: {rev}
"""
import pyarrow as pa
import pyarrow.compute as pc
from lancemig import *

revision = "{rev}"
down_revision = {down}
{f'kind = "{kind}"' if kind else ""}

{dedent(above)}

operations = [{operations}]
{f"downgrade = [{downgrade}]" if downgrade else ""}
'''
        path = self.folder / "versions" / f"{rev}.py"
        path.write_text(body)
        self.written.append(rev)
        return rev

    @property
    def settings(self) -> Settings:
        """What lancemig.ini says."""
        return read_settings(self.folder / "lancemig.ini", environ={})

    @cached_property
    def opened(self) -> Catalog:
        """The store, opened once: clients of an S3 server take long to make."""
        return open_catalog(self.settings)

    def catalog(self, **environment: Any) -> Catalog:
        """The catalog as a new process would open it, its clock `late` later than it is."""
        opened = replace(self.opened)
        now = opened.environment.now
        return replace(
            opened,
            environment=replace(opened.environment, **{"now": lambda: now() + self.late, **environment}),
        )

    def upgrade(self, target: str = "head", catalog: Catalog | None = None, **options: Any) -> RunOutcome:
        """`lancemig upgrade TARGET`."""
        return self._run(catalog or self.catalog(), target, "up", options)

    def downgrade(self, target: str = "-1", catalog: Catalog | None = None, **options: Any) -> RunOutcome:
        """`lancemig downgrade TARGET`."""
        return self._run(catalog or self.catalog(), target, "down", options)

    def _run(self, catalog: Catalog, target: str, direction: Any, options: dict[str, Any]) -> RunOutcome:
        prepared = upgrade.prepare(
            catalog, target, direction, no_flip=options.get("no_flip", False), note=options.get("note")
        )
        return upgrade.apply_prepared(catalog, prepared)

    def outlive_the_lock(self) -> None:
        """Let the lock of a runner that died in this process expire."""
        self.late += timedelta(hours=1)

    @property
    def root(self) -> str:
        """The live root."""
        catalog = self.catalog()
        return catalog.active(catalog.seen()).prefix

    def dataset(self, table: str, root: str | None = None) -> lance.LanceDataset:
        """The live table, opened by Lance alone."""
        tables = self.catalog().store.tables
        return lance.dataset(
            tables.uri(self.root if root is None else root, table), storage_options=tables.options()
        )

    def rows(self, table: str, root: str | None = None, by: str | None = None) -> list[dict[str, Any]]:
        """The live table's rows, in the order of its first column (or `by`)."""
        found = self.dataset(table, root).to_table()
        return found.sort_by(by or found.column_names[0]).to_pylist()

    def append(self, table: str, rows: list[dict[str, Any]], root: str | None = None) -> None:
        """What another writer does: append to the live table (or to one in another root)."""
        dataset = self.dataset(table, root)
        schema = dataset.schema
        lance.write_dataset(
            pa.Table.from_pylist(rows, schema=schema),
            dataset.uri,
            mode="append",
            storage_options=self.catalog().store.tables.options(),
        )

    def tables(self) -> list[str]:
        """The names of the live tables."""
        return self.catalog().store.tables.names(self.root)


class Appender(threading.Thread):
    """Another writer that appends one row at a time, to whichever root is live, and keeps what was told."""

    def __init__(self, lab: Lab, table: str, make: Any, pause: float = 0.02) -> None:
        super().__init__(daemon=True)
        self.lab, self.table, self.make, self.pause = lab, table, make, pause
        self.told: list[Any] = []
        self.refused: list[BaseException] = []
        self.over = threading.Event()

    def run(self) -> None:
        number = 0
        while not self.over.wait(self.pause):
            number += 1
            row = self.make(number)
            try:
                self.lab.append(self.table, [row])
            except Exception as error:  # noqa: BLE001 - whatever a writer is told
                self.refused.append(error)
            else:
                self.told.append(row)

    def __enter__(self) -> "Appender":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join()
