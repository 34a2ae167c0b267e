"""Replication of other writers' commits from one root into another: during a rebuild, and after the flip."""
