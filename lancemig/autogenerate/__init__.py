"""Comparing declared models with a catalog, and the operations that make one into the other."""
