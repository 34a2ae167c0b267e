"""What all verbs share: the catalog, opened on first use; errors as exit statuses; logging; options."""

import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lancemig.commands.lance_versions import unsupported, versions_text
from lancemig.config import MAIN, Settings, read_settings
from lancemig.errors import ConfigError, Interrupted, LancemigError
from lancemig.events import json_on_stderr, log_event, logging_to_stderr

if TYPE_CHECKING:
    from lancemig.catalog.findings import Finding
    from lancemig.commands.context import Catalog

_log = logging.getLogger(__name__)

INTERRUPTED = 130
_INTERRUPTED_TEXT = "interrupted. Completed steps are kept; run the same command to continue."


@dataclass
class Session:
    """The options before the verb. Settings and store are opened when a verb first asks for them."""

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
        """The catalog, its store opened. Warns of untested releases of Lance, with which no verb writes."""
        if (error := unsupported()) is not None:
            warned(f"{error.message}\nnext: {error.next_step}")
        from lancemig.commands.context import open_catalog

        return open_catalog(self.settings)

    @property
    def workspace(self) -> Path | None:
        """The folder of the repository on a runner of GitHub Actions."""
        folder = self.environ.get("GITHUB_WORKSPACE")
        return Path(folder) if folder else None

    def confirm(self, given: str | None) -> None:
        """Require that a person types the name of a protected catalog; `given` is the value of `--confirm`.

        Raises:
            ConfigError: the name is missing or wrong.
        """
        if not self.settings.protected:
            return
        name = self.settings.name
        if given is None and sys.stdin.isatty():
            given = click.prompt(f"catalog {name} is protected; type its name to confirm", err=True)
        if given != name:
            raise ConfigError(f"catalog {name} is protected", next_step=f"add --confirm {name}")

    def have_backup(self, given: bool) -> None:
        """Require a backup of a protected catalog: a recorded copy, or a confirmation (`given`).

        Raises:
            ConfigError: there is none.
        """
        if not self.settings.protected or given:
            return
        from lancemig.commands.retention import missing_backup

        missing = missing_backup(self.catalog)
        if missing is None:
            return
        if sys.stdin.isatty() and click.confirm(f"{missing}; do you have a backup?", err=True):
            return
        raise ConfigError(
            f"catalog {self.settings.name} is protected, and {missing}",
            next_step="copy the live root out of the store: lancemig copy SRC DST; or confirm that you have "
            "a backup: --i-have-a-backup",
        )


SECTIONS = {
    "Files": "lancemig.cli.files",
    "State": "lancemig.cli.inspect",
    "Change": "lancemig.cli.upgrade",
    "Pointer": "lancemig.cli.flip",
    "Retention": "lancemig.cli.retention",
}


class Verbs(click.Group):
    """A group with help in sections; shows a LancemigError as message, next command and exit status."""

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

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the command line."""
        _escape_what_cannot_be_encoded()
        return super().main(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb."""
        try:
            return super().invoke(ctx)
        except BaseException as error:
            told = _told(error)
            if told is None:
                raise
            if isinstance(error, LancemigError) and ctx.params.get("verbose"):
                _show_traceback(error)
            _show_error(*told)
            ctx.exit(told[2])


def _told(error: BaseException) -> tuple[str, str | None, int] | None:
    """The message, the next step and the exit status for an exception; None for one of another kind."""
    if isinstance(error, LancemigError):
        return error.message, error.next_step, error.exit_status
    if isinstance(error, Interrupted):
        return error.message, error.next_step, INTERRUPTED
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return _INTERRUPTED_TEXT, None, INTERRUPTED
    if isinstance(error, ImportError) and (refused := unsupported()) is not None:
        # Another release of pylance may not have a name that lancemig imports.
        return f"{refused.message}: {error}", refused.next_step, refused.exit_status
    if type(error).__name__ == "PanicException":
        # Of Lance, where no run is open. The class cannot be imported.
        return f"Lance failed internally: {error}", "lancemig check", LancemigError.exit_status
    return None


def _show_traceback(error: LancemigError) -> None:
    if json_on_stderr():
        _log.debug("%s", error.message, exc_info=error)
    else:
        click.echo("".join(traceback.format_exception(error)), err=True)


def _escape_what_cannot_be_encoded() -> None:
    """Let stdout and stderr escape the letters that their encoding lacks, as on Windows with a pipe.

    An error handler that the user has chosen, as in PYTHONIOENCODING=cp1252:replace, is kept.
    """
    for stream in (sys.stdout, sys.stderr):
        if not isinstance(stream, TextIOWrapper):
            continue
        is_utf8 = stream.encoding.lower().replace("-", "").replace("_", "") == "utf8"
        if stream.errors == "strict" or (stream.errors == "surrogateescape" and not is_utf8):
            stream.reconfigure(errors="backslashreplace")


def _show_error(message: str, next_step: str | None, status: int) -> None:
    if json_on_stderr():
        log_event(_log, "error", "%s", message, next_step=next_step, exit_status=status)
        return
    click.echo(f"lancemig: {message}", err=True)
    if next_step:
        click.echo(f"next: {next_step}", err=True)


def _print_versions(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        click.echo(f"lancemig {version('lancemig')} ({versions_text()})")
        ctx.exit()


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
@click.option("-v", "--verbose", count=True,
              help="Log what happens to stderr, with tracebacks and Lance's log; -vv logs more.")  # fmt: skip
@click.option("--log-json", is_flag=True, help="Log to stderr as JSON, one object a line.")
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_versions,
              help="Show the versions of lancemig, lancedb and pylance, and exit.")  # fmt: skip
@click.pass_context
def main(
    ctx: click.Context, config: Path, name: str, x: tuple[str, ...], verbose: int, log_json: bool
) -> None:
    """Versioned, reviewed, crash-safe migrations for Lance and LanceDB catalogs."""
    if not verbose:
        # Lance warns of each centroid of an index that is empty, between the lines of a plan.
        os.environ.setdefault("LANCE_LOG", "error")
    if verbose or log_json:
        level = logging.DEBUG if verbose > 1 else logging.INFO
        ctx.with_resource(logging_to_stderr(level, as_json=log_json))
    ctx.obj = Session(config, name, x)


def typed(ctx: click.Context, name: str) -> bool:
    """Whether the command line has this parameter."""
    return ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def refuse_idle(ctx: click.Context, beside: str, *names: str) -> None:
    """Refuse options of this command line that have no effect beside another one.

    Args:
        ctx: The context of the command.
        beside: The other option, as it is typed.
        names: The parameters that have no effect beside it.

    Raises:
        click.UsageError: one of them was typed.
    """
    for parameter in ctx.command.params:
        if parameter.name in names and typed(ctx, parameter.name):
            name = parameter.opts[0] if isinstance(parameter, click.Option) else parameter.human_readable_name
            raise click.UsageError(f"{name} has no effect with {beside}; leave one of them out", ctx)


def shown(text: Callable[[], str], document: Callable[[], Any], as_json: bool) -> None:
    """Print the text, or the JSON document."""
    click.echo(json.dumps(document(), indent=2, default=str) if as_json else text())


def noted(message: str) -> None:
    """Print a message for people to stderr."""
    if json_on_stderr():
        log_event(_log, "notice", "%s", message)
    else:
        click.echo(message, err=True)


CONFLICTS_NEXT = (
    "next: lancemig reconcile --when-exists overwrite, to take the values of the old root, or "
    "--when-exists keep; or leave these rows in the old root for good: lancemig reconcile --discard"
)


def exit_if_not_replicated(conflicts: Iterable[str]) -> None:
    """Exit with status 1 if late writes were not replicated after a flip; the output names them."""
    if any(conflicts):
        noted(CONFLICTS_NEXT)
        click.get_current_context().exit(1)


def warned(message: str) -> None:
    """Print a warning to stderr."""
    if json_on_stderr():
        log_event(_log, "warning", "%s", message)
    else:
        click.echo(f"warning: {message}", err=True)


def show_findings(findings: "Iterable[Finding]", show: Callable[[str], None] = warned) -> None:
    """Print each finding with its code and next step to stderr, by `warned` or `noted`."""
    for finding in findings:
        show(f"{finding.code}  {finding.message}\nnext: {finding.next_step}")


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
note_option = click.option("--note", help="Reason for the change; recorded in the lineage and the pointer.")
confirm_option = click.option(
    "--confirm", metavar="NAME", help="Confirm a change of the protected catalog NAME."
)
backup_option = click.option(
    "--i-have-a-backup", "backup", is_flag=True,
    help="Flip a protected catalog even if the lineage records no recent copy.",
)  # fmt: skip
