"""The OpenAPI 3.1 document of an application."""

import inspect
import re
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterable, Iterator, Mapping
from enum import Enum
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, get_origin

from ._models.model import Mode, Model, model_of
from .params import BodyParam, FileParam
from .responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse, allows_body
from .sse import EventSourceResponse

if TYPE_CHECKING:
    from ._routes.fields import Field
    from .applications import CovetPy
    from .routing import Route

__all__ = ["openapi_document"]


def openapi_document(app: "CovetPy") -> dict[str, Any]:
    """Paths, parameters, bodies, responses and schemas, in the form that FastAPI gives them."""
    return _Document(app).build()


class _Document:
    def __init__(self, app: "CovetPy") -> None:
        self._app = app
        self._names = _Names()
        self._schemas: dict[str, Any] = {}
        self._security: dict[str, Any] = {}
        self._validates = False

    def build(self) -> dict[str, Any]:
        app = self._app
        info: dict[str, Any] = {"title": app.title, "version": app.version}
        for key, value in (
            ("summary", app.summary),
            ("description", app.description),
            ("termsOfService", app.terms_of_service),
            ("contact", app.contact),
            ("license", app.license_info),
        ):
            if value is not None:
                info[key] = value
        document: dict[str, Any] = {"openapi": "3.1.0", "info": info}
        if app.servers:
            document["servers"] = app.servers
        # Twice, because only then it is known which names stand for several things.
        self._paths()
        self._names.settle()
        self._schemas.clear()
        document["paths"] = self._paths()
        if self._validates:
            self._schemas.update(_ERROR_SCHEMAS)
        components: dict[str, Any] = {}
        if self._schemas:
            components["schemas"] = dict(sorted(self._schemas.items()))
        if self._security:
            components["securitySchemes"] = self._security
        if components:
            document["components"] = components
        if app.openapi_tags:
            document["tags"] = app.openapi_tags
        return document

    def _paths(self) -> dict[str, Any]:
        paths: dict[str, dict[str, Any]] = {}
        for route in self._app.routes:
            if not route.include_in_schema:
                continue
            operations = paths.setdefault(_CONVERTER.sub(r"{\1}", route.path), {})
            for method in route.methods:
                # OpenAPI has no word for every method.
                for one in [method] if method else _ALL_METHODS:
                    if one.lower() not in operations:
                        operations[one.lower()] = self._operation(route, one.lower())
        return paths

    def _operation(self, route: "Route", method: str) -> dict[str, Any]:
        options = route.options
        operation: dict[str, Any] = {}
        if tags := options.get("tags"):
            operation["tags"] = [tag.value if isinstance(tag, Enum) else tag for tag in tags]
        operation["summary"] = options.get("summary") or route.name.replace("_", " ").title()
        description = options.get("description")
        if description is None:
            description = _first_part(route.endpoint)
        if description:
            operation["description"] = description
        operation["operationId"] = _operation_id(route, method)
        if options.get("deprecated"):
            operation["deprecated"] = True
        parameters = self._parameters(route)
        if parameters:
            operation["parameters"] = parameters
        body = self._request_body(route, method)
        if body is not None:
            operation["requestBody"] = body
        security = self._security_of(route)
        if security:
            operation["security"] = security
        operation["responses"] = self._responses(route)
        return _merged(operation, options.get("openapi_extra") or {})

    def _parameters(self, route: "Route") -> list[dict[str, Any]]:
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for field in route.fields:
            if field.where in ("body", "form") or not field.info.include_in_schema:
                continue
            for parameter in self._of_members(field) if field.members else [self._parameter(field)]:
                found.setdefault((parameter["in"], parameter["name"]), parameter)
        # What the handler takes from the request itself is in the path all the same.
        for name in route.path_names:
            schema = {"type": "string", "title": name.replace("_", " ").title()}
            found.setdefault(("path", name), {"name": name, "in": "path", "required": True, "schema": schema})
        places = ("path", "query", "header", "cookie")
        return sorted(found.values(), key=lambda parameter: places.index(parameter["in"]))

    def _parameter(self, field: "Field") -> dict[str, Any]:
        parameter: dict[str, Any] = {"name": field.alias, "in": field.where, "required": field.required}
        parameter["schema"] = self._registered(*field.schema())
        if field.info.description is not None:
            parameter["description"] = field.info.description
        if field.info.openapi_examples is not None:
            parameter["examples"] = dict(field.info.openapi_examples)
        if field.info.deprecated:
            parameter["deprecated"] = True
        return parameter

    def _of_members(self, field: "Field") -> Iterable[dict[str, Any]]:
        """The parameters that the members of a model are."""
        schema, definitions = field.describe()
        if "$ref" in schema:
            schema = definitions.pop(schema["$ref"].rpartition("/")[2])
        required = schema.get("required", ())
        for name, member, _ in field.members:
            own = schema.get("properties", {}).get(member, {})
            if "$ref" not in own:
                own = {"title": member.replace("_", " ").title(), **own}
            parameter = {"name": name, "in": field.where, "required": member in required}
            parameter["schema"] = self._registered(own, definitions)
            if "description" in own:
                parameter["description"] = own["description"]
            yield parameter

    def _request_body(self, route: "Route", method: str) -> dict[str, Any] | None:
        plan = route.plan
        if plan.form_fields:
            return self._form_body(route, method, plan.form_fields)
        fields = plan.body_fields
        if not fields:
            return None
        info = fields[0].info
        media_type = info.media_type if isinstance(info, BodyParam) else "application/json"
        if plan.is_embedded:
            schema = self._object(route, method, fields)
            required = any(field.required for field in fields)
        else:
            schema = self._registered(*fields[0].schema())
            required = fields[0].required
        content: dict[str, Any] = {"schema": schema}
        if not plan.is_embedded and info.openapi_examples is not None:
            content["examples"] = dict(info.openapi_examples)
        body: dict[str, Any] = {"content": {media_type: content}}
        if required:
            body["required"] = True
        return body

    def _form_body(self, route: "Route", method: str, fields: list["Field"]) -> dict[str, Any]:
        is_multipart = any(isinstance(field.info, FileParam) for field in fields)
        media_type = "multipart/form-data" if is_multipart else "application/x-www-form-urlencoded"
        if len(fields) == 1 and fields[0].members:
            schema = self._registered(*fields[0].schema())
        else:
            schema = self._object(route, method, fields)
        body: dict[str, Any] = {"content": {media_type: {"schema": schema}}}
        if any(field.required for field in fields):
            body["required"] = True
        return body

    def _object(self, route: "Route", method: str, fields: list["Field"]) -> dict[str, Any]:
        """The schema of an object whose members are parameters."""
        properties: dict[str, Any] = {}
        required: list[str] = []
        for field in fields:
            if field.members:
                schema, definitions = field.describe()
                if "$ref" in schema:
                    schema = definitions.pop(schema["$ref"].rpartition("/")[2])
                for name, own in schema.get("properties", {}).items():
                    properties[name] = self._registered(own, definitions)
                required += schema.get("required", ())
                continue
            properties[field.alias] = self._registered(*field.schema())
            if field.required:
                required.append(field.alias)
        name = "Body_" + re.sub(r"[^\w.-]", "_", _operation_id(route, method), flags=re.ASCII)
        schema = {"properties": properties, "type": "object", "title": name}
        if required:
            schema["required"] = list(dict.fromkeys(required))
        self._schemas[name] = schema
        return {"$ref": f"#/components/schemas/{name}"}

    def _responses(self, route: "Route") -> dict[str, Any]:
        options = route.options
        responses: dict[str, Any] = {str(route.status_code): self._success(route)}
        for status, said in {**self._app.responses, **(options.get("responses") or {})}.items():
            response = {key: value for key, value in said.items() if key != "model"}
            key = str(status).upper() if str(status).lower() != "default" else "default"
            known = responses.get(key, {})
            response.setdefault("description", known.get("description") or _phrase(status))
            if said.get("model") is not None:
                schema = self._schema_of(model_of(said["model"]), "serialization")
                content = {**response.get("content", {})}
                content["application/json"] = {"schema": schema, **content.get("application/json", {})}
                response["content"] = content
            responses[key] = _merged(known, response)
        if route.fields and not {"422", "4XX", "default"} & responses.keys():
            self._validates = True
            responses["422"] = {
                "description": "Validation Error",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/HTTPValidationError"}}},
            }
        return responses

    def _success(self, route: "Route") -> dict[str, Any]:
        success: dict[str, Any] = {"description": route.options.get("response_description", "Successful Response")}
        if not allows_body(route.status_code):
            return success
        response_class = route.options.get("response_class") or self._app.default_response_class
        media_type: str | None = "application/json"
        if response_class is not None and issubclass(response_class, Response):
            media_type = response_class.media_type
        if route.response_model is not None:
            schema = self._schema_of(route.response_model, "serialization")
        elif response_class is not None and issubclass(response_class, (HTMLResponse, PlainTextResponse, EventSourceResponse)):
            schema = {"type": "string"}
        elif response_class is None:
            media_type, schema = self._of_annotation(route)
        else:
            schema = {}
        if media_type is not None and not (response_class is not None and response_class is StreamingResponse):
            success["content"] = {media_type: {"schema": schema}}
        return success

    def _of_annotation(self, route: "Route") -> tuple[str, dict[str, Any]]:
        """The media type and the schema of results that are not validated, by what the handler is said to return."""
        annotation = route.return_annotation
        if annotation is str:
            return "text/plain", {"type": "string"}
        if annotation is bytes:
            return "application/octet-stream", {"type": "string", "contentMediaType": "application/octet-stream"}
        if annotation is None or get_origin(annotation) in (tuple, Generator, Iterator, AsyncGenerator, AsyncIterator):
            return "application/json", {}
        try:
            return "application/json", self._schema_of(model_of(annotation), "serialization")
        except TypeError:
            return "application/json", {}

    def _security_of(self, route: "Route") -> list[dict[str, list[str]]]:
        found: dict[str, list[str]] = {}
        for scheme, scopes in route.plan.security:
            self._security[scheme.scheme_name] = scheme.model
            names = found.setdefault(scheme.scheme_name, [])
            names += [scope for scope in scopes if scope not in names]
        return [{name: scopes} for name, scopes in found.items()]

    def _schema_of(self, model: Model, mode: Mode) -> dict[str, Any]:
        return self._registered(*model.json_schema(mode), mode=mode)

    def _registered(self, schema: dict[str, Any], definitions: Mapping[str, Any], mode: Mode = "validation") -> dict[str, Any]:
        """The schema, whose definitions are in the document now."""
        renamed = self._names.of(definitions, mode)
        for name, definition in definitions.items():
            self._schemas[renamed.get(name, name)] = _with_refs(definition, renamed)
        found: dict[str, Any] = _with_refs(schema, renamed)
        return found


class _Names:
    """The names of definitions: those of what is read and of what is written differ where the definitions do."""

    def __init__(self) -> None:
        self._found: dict[str, dict[Mode, list[dict[str, Any]]]] = {}
        self._split: set[str] = set()

    def of(self, definitions: Mapping[str, Any], mode: Mode) -> dict[str, str]:
        """The names that are not those that the definitions have themselves."""
        renamed: dict[str, str] = {}
        for name, definition in definitions.items():
            alike = self._found.setdefault(name, {}).setdefault(mode, [])
            if definition not in alike:
                alike.append(definition)
            number = alike.index(definition) + 1
            suffix = ("-Output" if mode == "serialization" else "-Input") if name in self._split else ""
            if suffix or number > 1:
                renamed[name] = f"{name}{suffix}{number if number > 1 else ''}"
        return renamed

    def settle(self) -> None:
        """Finds the names that stand for several things; what refers to one of these does so too."""
        both = {name: modes for name, modes in self._found.items() if len(modes) > 1}
        self._split = {name for name, modes in both.items() if modes["validation"] != modes["serialization"]}
        found = self._split
        while found:
            found = {name for name, modes in both.items() if self._split & set(_references(modes))} - self._split
            self._split |= found


def _operation_id(route: "Route", method: str) -> str:
    path = _CONVERTER.sub(r"{\1}", route.path)
    return route.options.get("operation_id") or re.sub(r"\W", "_", f"{route.name}{path}_{method}")


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key == "$ref" and isinstance(value, str):
                yield value.rpartition("/")[2]
            else:
                yield from _references(value)
    elif isinstance(schema, list):
        for item in schema:
            yield from _references(item)


def _with_refs(schema: Any, renamed: Mapping[str, str]) -> Any:
    if not renamed:
        return schema
    if isinstance(schema, dict):
        prefix, _, name = str(schema.get("$ref", "")).rpartition("/")
        changed = {key: _with_refs(value, renamed) for key, value in schema.items()}
        if name in renamed and isinstance(schema.get("$ref"), str):
            changed["$ref"] = f"{prefix}/{renamed[name]}"
        return changed
    return [_with_refs(item, renamed) for item in schema] if isinstance(schema, list) else schema


def _merged(base: dict[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Both, member by member; lists are joined, and otherwise the second counts."""
    merged = dict(base)
    for key, value in extra.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, Mapping):
            merged[key] = _merged(old, value)
        elif isinstance(old, list) and isinstance(value, list):
            merged[key] = old + value
        else:
            merged[key] = value
    return merged


def _first_part(endpoint: Any) -> str:
    """The docstring up to a form feed: what follows is for readers of the source."""

    return (inspect.getdoc(endpoint) or "").partition("\f")[0].strip()


def _phrase(status: int | str) -> str:
    try:
        return HTTPStatus(int(status)).phrase
    except ValueError:
        return _RANGES.get(str(status).upper(), "Additional Response")


_RANGES = {
    "1XX": "Information",
    "2XX": "Success",
    "3XX": "Redirection",
    "4XX": "Client Error",
    "5XX": "Server Error",
    "DEFAULT": "Default Response",
}
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
