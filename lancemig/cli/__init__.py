"""The command line: options in, one call, text or JSON out, exit status.

Verbs that need no store must not load Lance, Arrow or boto3, so each verb imports what it calls.
"""

from lancemig.cli import changing, files, keeping, looking, pointing
from lancemig.cli.session import main

__all__ = ["changing", "files", "keeping", "looking", "main", "pointing"]
