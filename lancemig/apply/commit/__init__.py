"""Staged changes become commits: announced, stamped, and once, among other writers."""
