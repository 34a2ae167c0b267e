"""The proof before a flip, and at any time after: a gate a module, all of them only read."""
