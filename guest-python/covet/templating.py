"""Pages from templates: `Jinja2Templates`, for which an application needs jinja2 among its dependencies."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

try:
    import jinja2  # type: ignore[import-not-found, unused-ignore]

    # It imports these when something fails in a template, and a component can import nothing then.
    import jinja2.debug  # type: ignore[import-not-found, unused-ignore]
except ImportError as error:
    raise ImportError("covet.templating needs jinja2; add it to the dependencies of the application") from error

from . import _files
from .responses import HTMLResponse

if TYPE_CHECKING:
    from .datastructures import URL
    from .requests import Request

__all__ = ["Jinja2Templates", "TemplateResponse"]


class TemplateResponse(HTMLResponse):
    """A page that was made from a template; `template` and `context` say from which, for tests."""

    def __init__(
        self,
        template: Any,
        context: dict[str, Any],
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
        background: Callable[[], Any] | None = None,
    ) -> None:
        self.template = template
        self.context = context
        super().__init__(template.render(context), status_code, headers, media_type, background)


class Jinja2Templates:
    """Templates of one or more folders, or those of an `env` of jinja2's.

    Values are escaped in templates whose names end with `.html`, `.htm` and `.xml`. Every template has `request`, and
    `url_for(name, **params)`; `context_processors` are functions of the request that return more values.

    In a component the folder has to be bundled; one that is called `templates` is. Its templates are compiled when the
    component is built, so that no request has to, and their sources are not looked at again.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
        *,
        context_processors: "Sequence[Callable[[Request], Mapping[str, Any]]]" = (),
        env: Any = None,
    ) -> None:
        if (directory is None) == (env is None):
            raise TypeError("Jinja2Templates needs either a directory or an env")
        self.context_processors = list(context_processors)
        self.env: Any = env
        if directory is not None:
            loader = jinja2.FileSystemLoader(directory)
            self.env = jinja2.Environment(loader=loader, autoescape=jinja2.select_autoescape())
        self.env.globals.setdefault("url_for", _url_for)
        _files.at_the_end(self._compile)

    def get_template(self, name: str) -> Any:
        """A template by its name. Raises jinja2.TemplateNotFound."""
        return self.env.get_template(name)

    def TemplateResponse(
        self,
        request: "Request",
        name: str,
        context: Mapping[str, Any] | None = None,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
        background: Callable[[], Any] | None = None,
    ) -> TemplateResponse:
        """The page that a template makes of a context."""
        if isinstance(request, str):
            raise TypeError("the request comes first: TemplateResponse(request, name, context)")
        values = {"request": request, **(context or {})}
        for processor in self.context_processors:
            values.update(processor(request))
        return TemplateResponse(self.get_template(name), values, status_code, headers, media_type, background)

    def _compile(self) -> None:
        """Compiles every template. One that cannot be is one that a request cannot use either, and perhaps none wants to."""
        if self.env.loader is None:
            return
        self.env.auto_reload = False
        names = self.env.list_templates()
        if self.env.cache is not None and 0 <= getattr(self.env.cache, "capacity", -1) < len(names):
            self.env.cache = jinja2.environment.create_cache(len(names))
        for name in names:
            try:
                self.env.get_template(name)
            except (jinja2.TemplateError, UnicodeDecodeError) as error:
                _logger.warning("the template %s cannot be compiled: %s", name, error)


@jinja2.pass_context  # type: ignore[untyped-decorator, unused-ignore]
def _url_for(context: Any, name: str, /, **path_params: Any) -> "URL":
    url: URL = context["request"].url_for(name, **path_params)
    return url


_logger = logging.getLogger("covet")
