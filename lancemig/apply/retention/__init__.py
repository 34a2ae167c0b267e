"""Old roots: archived, copied, and collected once nothing needs them any more."""
