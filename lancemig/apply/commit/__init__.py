"""Committing staged transactions beside other writers: recorded first, stamped, and made once."""
