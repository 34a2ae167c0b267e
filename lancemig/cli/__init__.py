"""The command line: options in, one call of `commands`, text or JSON out, exit status.

Verbs that need no store must not load Lance, Arrow or boto3, so each verb imports what it calls: a module of
`commands` as `NAME_commands`, a module of `report` as `NAME_report`.
"""

from lancemig.cli import files, flip, inspect, retention, upgrade
from lancemig.cli.session import main

__all__ = ["files", "flip", "inspect", "main", "retention", "upgrade"]
