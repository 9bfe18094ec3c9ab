"""What is known of the current request everywhere."""

from contextvars import ContextVar

request_name: ContextVar[str] = ContextVar("request_name", default="nobody")
