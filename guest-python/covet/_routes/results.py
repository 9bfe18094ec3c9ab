"""What becomes of a handler's result: of which class its response is, and which model it has."""

import dataclasses
from collections.abc import Mapping
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

from covet._guest import bridge
from covet._models.model import InvalidModel, Model, model_of
from covet.exceptions import ResponseValidationError
from covet.responses import JSON_HEADERS, Response, _of_tuple, allows_body, as_record, as_response

if TYPE_CHECKING:
    from covet.requests import Request

__all__ = ["Result", "response_model_of"]


class Result:
    """How the results of one route become responses."""

    def __init__(
        self,
        app: Any,
        path_names: tuple[str, ...],
        status_code: int,
        response_class: type[Response] | None,
        model: Model | None,
        model_options: Mapping[str, Any],
    ) -> None:
        self.status_code = bridge.checked_status(status_code)
        self.response_class = response_class
        self.model = model
        self._allows_body = allows_body(status_code)
        self._model_options = dict(model_options)
        self._app = app
        self._path_names = path_names
        #: Whether a dict is written as it is.
        self.is_plain = response_class is None and model is None and allows_body(status_code)

    def as_record(self, result: Any, request: "Request | None", record: "bridge.RequestRecord") -> "bridge.ResponseRecord":
        """The response as the record that the host gets."""
        if isinstance(result, Response):
            if result._prepare is not None:
                from covet.requests import Request

                result = result._prepare(request or Request(record, self._app, self._path_names))
            response: Response = result
            return response._lower()
        if self.is_plain:
            return as_record(result, self.status_code)
        if self.model is not None and self.response_class is None and type(result) is not tuple and self._allows_body:
            return bridge.response(self.status_code, JSON_HEADERS, self._dump(result))
        return self.as_response(result)._lower()

    def as_response(self, result: Any) -> Response:
        """The response as an object."""
        if isinstance(result, Response):
            return result
        if self.is_plain:
            return as_response(result, self.status_code)
        return self._convert(result, self.status_code)

    def _convert(self, result: Any, status: int) -> Response:
        if isinstance(result, Response):
            return result
        if type(result) is tuple:
            return _of_tuple(result, self._convert)
        if not allows_body(status):
            return Response(None, status)
        if self.model is None:
            return as_response(result, status) if self.response_class is None else self.response_class(result, status)
        if self.response_class is None:
            return Response(self._dump(result), status, media_type="application/json")
        return self.response_class(self.model.serialize(self._validated(result), **self._model_options), status)

    def _dump(self, result: Any) -> str:
        assert self.model is not None
        try:
            return self.model.dump_json(result, **self._model_options)
        except InvalidModel as error:
            raise ResponseValidationError(error.errors) from None

    def _validated(self, result: Any) -> Any:
        assert self.model is not None
        try:
            return self.model.validate_result(result)
        except InvalidModel as error:
            raise ResponseValidationError(error.errors) from None


def response_model_of(annotation: Any, said: Any) -> Model | None:
    """The model of a route's results: what was said, else what the handler's annotation says if there is a model in it."""
    if said is not None:
        return None if said is False else model_of(said)
    return model_of(annotation) if _has_model(annotation) else None


def is_typed_dict(type_: Any) -> bool:
    """Also that of `typing_extensions`, which `typing.is_typeddict` does not know."""
    return isinstance(type_, type) and issubclass(type_, dict) and hasattr(type_, "__total__")


def _has_model(annotation: Any) -> bool:
    if get_origin(annotation) is Annotated:
        return _has_model(get_args(annotation)[0])
    origin = get_origin(annotation) or annotation
    if origin in (Union, UnionType):
        members = get_args(annotation)
        return any(map(_has_model, members)) and not any(isinstance(one, type) and issubclass(one, Response) for one in members)
    if not isinstance(origin, type):
        return False
    if dataclasses.is_dataclass(origin) or is_typed_dict(origin) or hasattr(origin, "__pydantic_validator__"):
        return True
    return any(_has_model(item) for item in get_args(annotation) if item is not ...)
