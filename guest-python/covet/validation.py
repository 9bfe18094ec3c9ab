"""The names for describing parameters, in one place: `from covet.validation import Body, Depends, Path, Query`."""

from .dependencies import Depends, Security, SecurityScopes
from .exceptions import RequestValidationError, ResponseValidationError
from .forms import UploadFile
from .params import Body, Cookie, File, Form, Header, Path, Query

__all__ = [
    "Body",
    "Cookie",
    "Depends",
    "File",
    "Form",
    "Header",
    "Path",
    "Query",
    "RequestValidationError",
    "ResponseValidationError",
    "Security",
    "SecurityScopes",
    "UploadFile",
]
