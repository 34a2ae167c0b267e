"""Which rows change, and to what: told from pinned tables, and nothing is committed."""
