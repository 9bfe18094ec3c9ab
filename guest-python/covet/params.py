"""What is said about a parameter beside its type: `Query`, `Path`, `Header`, `Cookie`, `Body`, `Form`, `File`.

Each is given as a default (`limit: int = Query(10, le=100)`) or in `Annotated`. How a parameter is then read from a request
is in `_routes.fields`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec

__all__ = ["Body", "Cookie", "File", "Form", "Header", "Param", "Path", "Query"]


class _Required:
    def __repr__(self) -> str:
        return "required"


REQUIRED: Any = _Required()


class Param:
    """What all of them take.

    Without a default, or with `...`, a parameter must be given. `ge`, `gt`, `le`, `lt` and `multiple_of` bound numbers and
    dates, `min_length` and `max_length` strings and collections, `pattern` is a regular expression that is searched in a
    string. `alias` is its name in the request where that is not the name of the parameter. `title`, `description`,
    `example`, `examples`, `openapi_examples`, `deprecated` and `include_in_schema` are for the OpenAPI document.
    """

    where = ""

    def __init__(
        self,
        default: Any = REQUIRED,
        *,
        default_factory: Callable[[], Any] | None = None,
        alias: str | None = None,
        title: str | None = None,
        description: str | None = None,
        gt: Any = None,
        ge: Any = None,
        lt: Any = None,
        le: Any = None,
        multiple_of: float | None = None,
        allow_inf_nan: bool | None = None,
        min_length: int | None = None,
        max_length: int | None = None,
        pattern: str | None = None,
        example: Any = None,
        examples: Sequence[Any] | None = None,
        openapi_examples: Mapping[str, Any] | None = None,
        deprecated: bool = False,
        include_in_schema: bool = True,
    ) -> None:
        self.default = REQUIRED if default is ... else default
        self.default_factory = default_factory
        self.alias = alias
        self.title = title
        self.description = description
        self.gt, self.ge, self.lt, self.le = gt, ge, lt, le
        self.multiple_of = multiple_of
        self.allow_inf_nan = allow_inf_nan
        self.min_length, self.max_length = min_length, max_length
        self.pattern = pattern
        self.examples = [example] if examples is None and example is not None else examples
        self.openapi_examples = openapi_examples
        self.deprecated = deprecated
        self.include_in_schema = include_in_schema

    def constraints(self) -> dict[str, Any]:
        """The bounds that were given, by their names."""
        return {name: value for name in _CONSTRAINTS if (value := getattr(self, name)) is not None}

    def with_default(self, default: Any) -> "Param":
        """The same with another default."""
        copied = type(self).__new__(type(self))
        copied.__dict__.update(self.__dict__)
        copied.default = default
        return copied

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.default!r})"


class QueryParam(Param):
    """A parameter of the query string: `limit: int = Query(10, ge=1, le=100)`."""

    where = "query"


class PathParam(Param):
    """A placeholder of the route's path: `user_id: int = Path(ge=1)`. It has no default, because it is always there."""

    where = "path"


class HeaderParam(Param):
    """A header field: `user_agent: str | None = Header(None)`.

    The underscores of its name are hyphens in the request, unless `convert_underscores` is false.
    """

    where = "header"

    def __init__(self, default: Any = REQUIRED, *, convert_underscores: bool = True, **options: Any) -> None:
        super().__init__(default, **options)
        self.convert_underscores = convert_underscores


class CookieParam(Param):
    """A cookie: `session: str | None = Cookie(None)`."""

    where = "cookie"


class BodyParam(Param):
    """The body, read as JSON: `item: Item = Body()`.

    A parameter whose type is a model needs no `Body`. Several of them, or one with `embed`, are the members of one object,
    each under its name. With another `media_type` the body is not read as JSON, and the parameter is `str` or `bytes`.
    """

    where = "body"

    def __init__(
        self, default: Any = REQUIRED, *, embed: bool | None = None, media_type: str = "application/json", **options: Any
    ) -> None:
        super().__init__(default, **options)
        self.embed = embed
        self.media_type = media_type


class FormParam(Param):
    """A field of a form: `name: str = Form(max_length=50)`. An empty field counts as one that is not there."""

    where = "form"


class FileParam(FormParam):
    """An uploaded file of a form: `file: UploadFile = File()`; as `bytes` it is the file's content.

    A parameter of type `UploadFile` needs no `File`.
    """


P = ParamSpec("P")


def _as_default(make: Callable[P, Param]) -> Callable[P, Any]:
    """Lets a type checker accept `limit: int = Query(10)`."""
    return make


Query = _as_default(QueryParam)
Path = _as_default(PathParam)
Header = _as_default(HeaderParam)
Cookie = _as_default(CookieParam)
Body = _as_default(BodyParam)
Form = _as_default(FormParam)
File = _as_default(FileParam)

_CONSTRAINTS = ("gt", "ge", "lt", "le", "multiple_of", "allow_inf_nan", "min_length", "max_length", "pattern")
