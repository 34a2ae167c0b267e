"""Verification of a staged root, before the flip or later; the modules have the gates, which only read."""
