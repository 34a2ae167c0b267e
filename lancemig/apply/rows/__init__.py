"""Which rows an operation changes, and to which values. Reads pinned tables; commits nothing."""
