"""Connects `logging` with the host's log."""

import logging
import os
import sys
import traceback

from .bridge import host

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
    """The traceback, from where the application's own code begins."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None and _is_ours(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    text = "".join(traceback.format_exception(type(error), error, trace)).rstrip("\n")
    if len(text) > TRACEBACK_MAX:
        # A recursion has a note for every level since Python 3.14.
        half = TRACEBACK_MAX // 2
        text = f"{text[:half]}\n... {len(text) - TRACEBACK_MAX} characters left out ...\n{text[-half:]}"
    return text


def _is_ours(filename: str) -> bool:
    return filename.startswith(("<route ", _FRAMEWORK))


def _level_of(number: int) -> str:
    if number >= logging.ERROR:
        return "ERROR"
    if number >= logging.WARNING:
        return "WARN"
    if number >= logging.INFO:
        return "INFO"
    return "DEBUG" if number >= logging.DEBUG else "TRACE"


#: Characters; the host bounds what a request may log.
TRACEBACK_MAX = 8000
_FRAMEWORK = os.path.dirname(os.path.dirname(__file__)) + os.sep
