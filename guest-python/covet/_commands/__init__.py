"""The command `covet`; not in the component."""
