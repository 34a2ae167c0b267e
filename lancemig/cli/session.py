"""What all verbs share: settings and store opened on demand, errors turned into exit statuses, options."""

import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lancemig.config import MAIN, Settings, read_settings
from lancemig.errors import ConfigError, LancemigError

if TYPE_CHECKING:
    from lancemig.commands.context import Catalog

INTERRUPTED = 130


@dataclass
class Session:
    """What was given before the verb; settings and store are opened when a verb first asks."""

    config: Path
    name: str
    x: tuple[str, ...]
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    @cached_property
    def settings(self) -> Settings:
        """The chosen section of lancemig.ini."""
        return read_settings(self.config, self.name, environ=self.environ, x=self.x)

    @cached_property
    def catalog(self) -> "Catalog":
        """The catalog, its store opened."""
        from lancemig.commands.context import open_catalog

        return open_catalog(self.settings)

    @property
    def workspace(self) -> Path | None:
        """Where the repository lies on a runner of GitHub Actions."""
        found = self.environ.get("GITHUB_WORKSPACE")
        return Path(found) if found else None

    def confirm(self, given: str | None) -> None:
        """Let a protected catalog be changed only by somebody who types its name."""
        if not self.settings.protected:
            return
        name = self.settings.name
        if given is None and sys.stdin.isatty():
            given = click.prompt(f"catalog {name} is protected; type its name to confirm", err=True)
        if given != name:
            raise ConfigError(f"catalog {name} is protected", next_step=f"add --confirm {name}")

    def have_backup(self, given: bool) -> None:
        """Let a protected catalog be flipped only where there is a backup, known or vouched for."""
        if not self.settings.protected or given:
            return
        from lancemig.commands.retention import missing_backup

        said = missing_backup(self.catalog)
        if said is None:
            return
        if sys.stdin.isatty() and click.confirm(f"{said}; do you have a backup?", err=True):
            return
        raise ConfigError(
            f"catalog {self.settings.name} is protected, and {said}",
            next_step="back it up: lancemig copy; or confirm that you have a backup: --i-have-a-backup",
        )


SECTIONS = {
    "Files": "lancemig.cli.files",
    "State": "lancemig.cli.inspect",
    "Change": "lancemig.cli.upgrade",
    "Pointer": "lancemig.cli.flip",
    "Retention": "lancemig.cli.retention",
}


class Verbs(click.Group):
    """Turns LancemigError into a message, the next command and the exit status; help in sections."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the verbs by what they touch, in the order of their definition."""
        widest = max(len(name) for name in self.commands)
        for title, module in SECTIONS.items():
            rows = [
                (name, verb.get_short_help_str(limit=formatter.width - widest - 4))
                for name, verb in self.commands.items()
                if verb.callback is not None and verb.callback.__module__ == module
            ]
            with formatter.section(title):
                formatter.write_dl(rows, col_max=widest)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb."""
        try:
            return super().invoke(ctx)
        except LancemigError as error:
            if ctx.params.get("verbose"):
                click.echo("".join(traceback.format_exception(error)), err=True)
            click.echo(f"lancemig: {error.message}", err=True)
            if error.next_step:
                click.echo(f"next: {error.next_step}", err=True)
            ctx.exit(error.exit_status)
        except (KeyboardInterrupt, click.Abort):
            click.echo(
                "lancemig: interrupted. Completed steps are kept; run the same command to continue.", err=True
            )
            ctx.exit(INTERRUPTED)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-c", "--config", type=click.Path(path_type=Path), default=Path("lancemig.ini"),
              envvar="LANCEMIG_CONFIG", show_default=True, help="Configuration file.")  # fmt: skip
@click.option(
    "-n",
    "--name",
    default=MAIN,
    show_default=True,
    help="Section of the configuration file, i.e. the catalog.",
)
@click.option("-x", "x", multiple=True, metavar="KEY=VALUE", help="Override a key of the configuration file.")
@click.option("-v", "--verbose", is_flag=True, help="Show tracebacks and Lance's log.")
@click.version_option(package_name="lancemig")
@click.pass_context
def main(ctx: click.Context, config: Path, name: str, x: tuple[str, ...], verbose: bool) -> None:
    """Versioned, reviewed, crash-safe migrations for Lance and LanceDB catalogs."""
    if not verbose:
        # Lance warns of each centroid of an index that is empty, between the lines of a plan.
        os.environ.setdefault("LANCE_LOG", "error")
    ctx.obj = Session(config, name, x)


def shown(text: Callable[[], str], document: Callable[[], Any], as_json: bool) -> None:
    """Print the text, or the JSON document."""
    click.echo(json.dumps(document(), indent=2, default=str) if as_json else text())


def warned(said: str) -> None:
    """Print a warning, which is no part of what a verb answers."""
    click.echo(f"warning: {said}", err=True)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
note_option = click.option("--note", help="Reason for the change; recorded in the lineage and the pointer.")
confirm_option = click.option(
    "--confirm", metavar="NAME", help="Confirm a change of the protected catalog NAME."
)
backup_option = click.option(
    "--i-have-a-backup", "backup", is_flag=True,
    help="Flip a protected catalog even if the lineage records no recent copy.",
)  # fmt: skip
