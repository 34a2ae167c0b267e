"""One function for each verb: it wires the parts together, and supplies clock, ids and identity."""
