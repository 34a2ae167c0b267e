"""Retention of old roots: archive, copy, garbage collection, and the leases of readers."""
