"""A plan becomes effects: in place or in a staged root, each step stamped, the pointer last."""
