"""Imported late."""

MARK = "!"
