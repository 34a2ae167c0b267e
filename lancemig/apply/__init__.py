"""Applying a plan: in place or in a staged root; each commit is stamped, and the pointer is written last."""
