"""Connects `logging` with the host's log."""

import logging
import sys
import traceback

from ._bridge import host

__all__ = ["HostHandler", "install"]


class HostHandler(logging.Handler):
    """Hands records to the host: level, name of the logger, message with traceback. At build time they go to stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
            if record.exc_info and record.exc_info[1] is not None:
                message = f"{message}\n{_format_error(record.exc_info[1])}"
            elif record.exc_text:
                message = f"{message}\n{record.exc_text}"
            if record.stack_info:
                message = f"{message}\n{record.stack_info}"
            if not host.log(_level_of(record.levelno), record.name, message):
                sys.stderr.write(f"{record.levelname} {record.name}: {message}\n")
        except RecursionError:
            raise
        except Exception:
            self.handleError(record)


def install() -> None:
    """Makes the host's log the place of everything that is logged at level INFO and above."""
    root = logging.getLogger()
    root.addHandler(HostHandler())
    root.setLevel(logging.INFO)


def _format_error(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)).rstrip("\n")


def _level_of(number: int) -> str:
    if number >= logging.ERROR:
        return "ERROR"
    if number >= logging.WARNING:
        return "WARN"
    if number >= logging.INFO:
        return "INFO"
    return "DEBUG" if number >= logging.DEBUG else "TRACE"
