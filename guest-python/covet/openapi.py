"""The OpenAPI 3.1 document of an application."""

import re
from typing import TYPE_CHECKING, Any

from .responses import HTMLResponse, PlainTextResponse

if TYPE_CHECKING:
    from .applications import CovetPy
    from .params import Field
    from .routing import Route

__all__ = ["openapi_document"]


def openapi_document(app: "CovetPy") -> dict[str, Any]:
    """Paths, parameters and responses, in the form that FastAPI gives them."""
    info: dict[str, Any] = {"title": app.title, "version": app.version}
    if app.description is not None:
        info["description"] = app.description
    paths: dict[str, dict[str, Any]] = {}
    validates = False
    for route in app.routes:
        if not route.include_in_schema:
            continue
        operations = paths.setdefault(_CONVERTER.sub(r"{\1}", route.path), {})
        for method in route.methods:
            # OpenAPI has no word for every method.
            for one in [method] if method else _ALL_METHODS:
                operations.setdefault(one.lower(), _operation(route, one.lower()))
        validates = validates or bool(route.fields)
    document: dict[str, Any] = {"openapi": "3.1.0", "info": info, "paths": paths}
    if validates:
        document["components"] = {"schemas": _ERROR_SCHEMAS}
    return document


def _operation(route: "Route", method: str) -> dict[str, Any]:
    operation: dict[str, Any] = {}
    if route.tags:
        operation["tags"] = route.tags
    operation["summary"] = route.summary or route.name.replace("_", " ").title()
    if route.description:
        operation["description"] = route.description
    operation["operationId"] = re.sub(r"\W", "_", f"{route.name}{route.path}_{method}")
    if route.deprecated:
        operation["deprecated"] = True
    parameters = [_parameter(field) for field in route.fields if field.info.include_in_schema]
    read = {field.alias for field in route.fields}
    # What the handler takes from the request itself is in the path all the same.
    parameters += [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "title": name.title()}}
        for name in route.path_names
        if name not in read
    ]
    if parameters:
        operation["parameters"] = parameters
    responses: dict[str, Any] = {str(route.status_code): _success(route)}
    if route.fields:
        responses["422"] = {
            "description": "Validation Error",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/HTTPValidationError"}}},
        }
    operation["responses"] = responses
    return operation


def _parameter(field: "Field") -> dict[str, Any]:
    parameter: dict[str, Any] = {"name": field.alias, "in": field.where, "required": field.required}
    parameter["schema"] = field.schema
    if field.info.description is not None:
        parameter["description"] = field.info.description
    if field.info.deprecated:
        parameter["deprecated"] = True
    return parameter


def _success(route: "Route") -> dict[str, Any]:
    success: dict[str, Any] = {"description": "Successful Response"}
    if route.status_code in (204, 304):
        return success
    if route.response_class in (HTMLResponse, PlainTextResponse):
        media_type, schema = str(route.response_class.media_type), {"type": "string"}
    else:
        media_type, schema = "application/json", {}
    success["content"] = {media_type: {"schema": schema}}
    return success


_CONVERTER = re.compile(r"\{(\w+):\w+\}")
_ALL_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD")

_ERROR_SCHEMAS: dict[str, Any] = {
    "HTTPValidationError": {
        "properties": {
            "detail": {"items": {"$ref": "#/components/schemas/ValidationError"}, "type": "array", "title": "Detail"}
        },
        "type": "object",
        "title": "HTTPValidationError",
    },
    "ValidationError": {
        "properties": {
            "loc": {
                "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
                "type": "array",
                "title": "Location",
            },
            "msg": {"type": "string", "title": "Message"},
            "type": {"type": "string", "title": "Error Type"},
            "input": {"title": "Input"},
            "ctx": {"type": "object", "title": "Context"},
        },
        "type": "object",
        "required": ["loc", "msg", "type"],
        "title": "ValidationError",
    },
}
