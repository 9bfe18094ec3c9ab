"""Models: what is checked in bodies and parameters and written in responses, with pydantic or without it."""
