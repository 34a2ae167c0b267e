"""One function a verb: it wires the parts together, and supplies the clock, the ids and the caller."""
