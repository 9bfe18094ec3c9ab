"""What the compiled routes use to read requests: the parts of a request, and all that is wrong with it."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

from covet._guest import bridge
from covet._models.model import InvalidJSON, InvalidModel, read_json
from covet.datastructures import parse_cookies, parse_query
from covet.exceptions import RequestValidationError
from covet.forms import FormData, UploadFile
from covet.types import ErrorDetail

from .fields import MISSING, Field

__all__ = ["BodyReader", "Parts", "all_errors", "body_members", "body_of", "filled", "members_of", "query_dict", "query_lists"]


def query_dict(query: str) -> dict[str, str]:
    """The last value of each name."""
    if "%" in query or "+" in query:
        return dict(parse_qsl(query, keep_blank_values=True))
    return {name: value for name, _, value in [part.partition("=") for part in query.split("&")]}


def query_lists(query: str) -> dict[str, list[str]]:
    """All values of each name."""
    return _lists(parse_query(query))


def header_dict(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The first value of each name."""
    found: dict[str, str] = {}
    for name, value in headers:
        found.setdefault(name, value)
    return found


class Parts:
    """The parts of a request, each read when it is asked for."""

    def __init__(self, record: "bridge.RequestRecord", path_names: tuple[str, ...], form: FormData | None) -> None:
        self._record = record
        self._path_names = path_names
        self._form = form
        self._lists: dict[str, dict[str, list[Any]]] = {}

    def value(self, field: Field) -> Any:
        """What the request has for a parameter that is not in a JSON body; MISSING if nothing."""
        if field.where == "path":
            return self._record.params[self._path_names.index(field.alias)]
        lists = self._of(field.where)
        if field.members:
            # All of them are told as what the model was given, but not headers and cookies, which may be secrets.
            return members_of(field, lists, everything=field.where in ("query", "form"))
        values = lists.get(field.key)
        if not values:
            return MISSING
        if field.where == "form":
            values = filled(values, field.many)
            if not values:
                return MISSING
        if field.many:
            return values
        return values[0] if field.where in ("header", "cookie") else values[-1]

    def _of(self, where: str) -> dict[str, list[Any]]:
        lists = self._lists.get(where)
        if lists is None:
            lists = self._lists[where] = _lists(self._items(where))
        return lists

    def _items(self, where: str) -> Iterable[tuple[str, Any]]:
        if where == "query":
            return parse_query(self._record.target.partition("?")[2])
        if where == "header":
            return self._record.headers
        if where == "cookie":
            return parse_cookies(self._record.headers).items()
        return self._form.multi_items() if self._form is not None else ()


def members_of(field: Field, lists: Mapping[str, list[Any]], everything: bool = False) -> Any:
    """The members of a model, from all the values of each name; MISSING if there are none and the model is optional.

    Names that are not in the model are among them if it wants them, or with `everything`.
    """
    found: dict[str, Any] = {}
    is_header = field.where == "header"
    keys = [name.lower() if is_header else name for name, _, _ in field.members]
    takes_others = field.model is not None and field.model.takes_other_fields
    if not field.required and not (takes_others and lists) and not any(key in lists for key in keys):
        return MISSING
    if takes_others or everything:
        found = {name: values if len(values) > 1 else values[0] for name, values in lists.items() if name not in keys}
    for key, (_, member, many) in zip(keys, field.members, strict=True):
        values = lists.get(key)
        if values and field.where == "form":
            values = filled(values, many)
        if values:
            found[member] = values if many else values[0 if is_header else -1]
    return found


def filled(values: list[Any], many: bool = True) -> list[Any]:
    """The values of a name in a form that count: without files that could have been chosen and were not; and of those that
    are no list the last one, unless that is empty."""
    if not many:
        values = values[-1:] if values[-1] != "" else []
    return [one for one in values if type(one) is not UploadFile or one.filename or one.size]


def all_errors(
    fields: Iterable[Field],
    record: "bridge.RequestRecord",
    path_names: tuple[str, ...],
    form: FormData | None,
    body: "BodyReader | None",
) -> list[ErrorDetail]:
    """Everything in a request that does not fit some parameters, in the order of `_PLACES`.

    Raises RequestValidationError for a body that is not JSON.
    """
    errors: list[ErrorDetail] = []
    parts = Parts(record, path_names, form)
    for field in sorted(fields, key=lambda field: _PLACES.index(field.where)):
        if field.where != "body":
            field.read(parts.value(field), errors)
        elif body is not None:
            try:
                body.check(field, record, errors)
            except InvalidJSON as error:
                # Whatever else is wrong, also elsewhere, the body tells nothing.
                raise RequestValidationError([_json_error(error)], partial(body_of, record, form, body)) from None
    return errors


class BodyReader:
    """Reads the parameters of a body: those with one name from the whole of it, others from the members of an object."""

    def __init__(self, fields: list[Field], is_embedded: bool) -> None:
        self.is_embedded = is_embedded
        self._media_type = str(getattr(fields[0].info, "media_type", "application/json"))
        self.is_json = _is_json_type(self._media_type)

    def read(self, record: "bridge.RequestRecord", field: Field) -> Any:
        """The value of a parameter that is the whole body, which is there. Raises `INVALID` or InvalidJSON."""
        data = bridge.body_data(record)
        model = field.model
        assert model is not None
        if not data:
            if field.required:
                raise InvalidModel([_missing()])
            return field.make_default()
        if self.is_json and bridge.is_json(record.headers):
            return model.validate_json(data)
        # As octets, however they have arrived; a parameter that is a `str` takes those that are UTF-8.
        return model.validate(data.encode() if isinstance(data, str) else data)

    def check(self, field: Field, record: "bridge.RequestRecord", errors: list[ErrorDetail]) -> None:
        """Adds what is wrong with a parameter. Raises InvalidJSON."""
        if self.is_embedded:
            try:
                field.read(body_members(record).get(field.alias, MISSING), errors)
            except InvalidModel:
                errors.append({**_missing(), "loc": field.location})
            return
        try:
            self.read(record, field)
        except InvalidModel as error:
            errors += [{**detail, "loc": ("body", *detail["loc"])} for detail in error.errors]


def body_members(record: "bridge.RequestRecord") -> dict[str, Any]:
    """The members of a body that is an object; none where there is no JSON.

    Raises InvalidModel for JSON that is no object, and InvalidJSON.
    """
    data = bridge.body_data(record)
    if not data or not bridge.is_json(record.headers):
        return {}
    members = read_json(data)
    if not isinstance(members, dict):
        raise InvalidModel([_missing()])
    return members


def body_of(record: "bridge.RequestRecord", form: FormData | None, body: BodyReader | None) -> Any:
    """What has been sent to a route that reads a body, for those who want to tell about errors in it."""
    data = bridge.body_data(record)
    if form is not None or body is None or not data:
        return form
    if not bridge.is_json(record.headers):
        return data.encode() if isinstance(data, str) else data
    try:
        return read_json(data)
    except InvalidJSON:
        return data if isinstance(data, str) else data.decode(errors="replace")


def _missing() -> ErrorDetail:
    return {"type": "missing", "loc": (), "msg": "Field required", "input": None}


def _json_error(error: InvalidJSON) -> ErrorDetail:
    return {
        "type": "json_invalid",
        "loc": ("body", error.position),
        "msg": "JSON decode error",
        "input": {},
        "ctx": {"error": error.message},
    }


def _is_json_type(media_type: str) -> bool:
    return bridge.is_json([("content-type", media_type)])


def _lists(items: Iterable[tuple[str, Any]]) -> dict[str, list[Any]]:
    lists: dict[str, list[Any]] = {}
    for name, value in items:
        lists.setdefault(name, []).append(value)
    return lists


#: The order in which errors are told.
_PLACES = ("path", "query", "header", "cookie", "form", "body")
