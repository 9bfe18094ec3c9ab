"""The names for describing parameters, in one place: `from covet.validation import Path, Query`."""

from .params import Path, Query

__all__ = ["Path", "Query"]
