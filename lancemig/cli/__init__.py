"""The command line: options in, one call, text or JSON out, exit status.

Verbs that need no store must not load Lance, Arrow or boto3, so each verb imports what it calls.
"""

from lancemig.cli import files, flip, inspect, retention, upgrade
from lancemig.cli.session import main

__all__ = ["files", "flip", "inspect", "main", "retention", "upgrade"]
