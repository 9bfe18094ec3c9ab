"""The files of the pages that show the OpenAPI document; `scripts/docs-assets.sh` makes them."""

from pathlib import Path

__all__ = ["asset"]


def asset(name: str) -> bytes:
    """A file as it is stored: text as it is, other files compressed, with `.gz` at the end of their names."""
    return (Path(__file__).parent / name).read_bytes()
