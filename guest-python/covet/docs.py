"""The pages that show the OpenAPI document of an application: Swagger UI and ReDoc.

Everything they load comes from the application itself, so they work without any other server, and their content security
policy forbids all others. It is imported when an application has such pages, not before.
"""

import base64
import hashlib
import json
import posixpath
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from . import _files, _negotiation
from ._assets import asset
from .exceptions import HTTPException
from .requests import Request
from .responses import HTMLResponse, Response

if TYPE_CHECKING:
    from .applications import CovetPy

__all__ = ["oauth2_redirect_html", "pages", "redoc_html", "swagger_ui_html"]

Handler = Callable[..., Response]


def pages(app: "CovetPy") -> list[tuple[str, Handler]]:
    """The paths of an application's pages, and of what they load, with their handlers.

    `swagger_ui_parameters` and `swagger_ui_init_oauth` of the application, if it has them, are for Swagger UI.
    """
    places = [place for place in (app.docs_url, app.redoc_url) if place is not None]
    if not places or app.openapi_url is None:
        return []
    assets = _Assets([*(_SWAGGER_UI if app.docs_url is not None else ()), *(_REDOC if app.redoc_url is not None else ())])
    assets_path = f"{places[0].rstrip('/')}/assets-{assets.digest}"
    found: list[tuple[str, Handler]] = []
    if app.docs_url is not None:
        found += _swagger_ui_pages(app, app.docs_url, app.openapi_url, assets_path)
    if app.redoc_url is not None:
        found.append((app.redoc_url, _redoc_page(app, app.redoc_url, app.openapi_url, assets_path)))
    found.append((f"{assets_path}/{{file}}", assets.docs_asset))
    return found


def swagger_ui_html(
    *,
    title: str,
    openapi_url: str,
    assets_url: str,
    oauth2_redirect_url: str | None = None,
    init_oauth: Mapping[str, Any] | None = None,
    parameters: Mapping[str, Any] | None = None,
    connect: Iterable[str] = (),
) -> HTMLResponse:
    """The page of Swagger UI. The URLs may be relative to the page; `assets_url` is that of the folder of its files.

    `parameters` are Swagger UI's own, `init_oauth` what its `initOAuth` gets. `connect` are origins beside its own, such as
    `https://api.example.com`, to which the page may send requests.
    """
    options = {"url": openapi_url, **_SWAGGER_UI_PARAMETERS, **(parameters or {})}
    lines = [f"const options = {_in_script(options)};", "options.presets = [SwaggerUIBundle.presets.apis];"]
    if oauth2_redirect_url is not None:
        lines.append(f"options.oauth2RedirectUrl = new URL({_in_script(oauth2_redirect_url)}, location.href).href;")
    lines.append("const ui = SwaggerUIBundle(options);")
    if init_oauth is not None:
        lines.append(f"ui.initOAuth({_in_script(init_oauth)});")
    assets = escape(assets_url.rstrip("/"))
    script = "\n".join(lines)
    body = f'<div id="swagger-ui"></div>\n<script src="{assets}/swagger-ui-bundle.js"></script>\n<script>{script}</script>'
    head = f'<link rel="icon" type="image/png" href="{assets}/favicon.png">\n'
    head += f'<link rel="stylesheet" href="{assets}/swagger-ui.css">'
    policy = {
        "script-src": f"'self' '{_hash_of(script)}'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": " ".join(["'self'", *connect]),
    }
    return _page(title, head, body, policy)


def redoc_html(
    *,
    title: str,
    openapi_url: str,
    assets_url: str,
    options: Mapping[str, Any] | None = None,
) -> HTMLResponse:
    """The page of ReDoc. The URLs may be relative to the page; `assets_url` is that of the folder of its files.

    `options` are ReDoc's own, as in `{"hideDownloadButton": True}`.
    """
    attributes = "".join(f' {_attribute(name)}="{escape(_plain(value))}"' for name, value in (options or {}).items())
    assets = escape(assets_url.rstrip("/"))
    body = f'<redoc spec-url="{escape(openapi_url)}"{attributes}></redoc>\n<script src="{assets}/redoc.standalone.js"></script>'
    policy = {
        "script-src": "'self'",
        "style-src": "'unsafe-inline'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        # Its search runs in a worker that it makes of a string.
        "worker-src": "blob:",
        "child-src": "blob:",
    }
    return _page(title, "<style>body { margin: 0; padding: 0; }</style>", body, policy)


def oauth2_redirect_html(*, assets_url: str) -> HTMLResponse:
    """The page to which an OAuth2 server sends back the browser window that Swagger UI opened."""
    body = f'<script src="{escape(assets_url.rstrip("/"))}/oauth2-redirect.js"></script>'
    return _page("Swagger UI: OAuth2 redirect", "", body, {"script-src": "'self'"})


def _swagger_ui_pages(app: "CovetPy", docs_url: str, openapi_url: str, assets_path: str) -> list[tuple[str, Handler]]:
    redirect_path = f"{docs_url.rstrip('/')}/oauth2-redirect"

    def make() -> HTMLResponse:
        return swagger_ui_html(
            title=f"{app.title} - Swagger UI",
            openapi_url=_relative(openapi_url, docs_url),
            assets_url=_relative(assets_path, docs_url),
            oauth2_redirect_url=_relative(redirect_path, docs_url),
            init_oauth=getattr(app, "swagger_ui_init_oauth", None),
            parameters=getattr(app, "swagger_ui_parameters", None),
            connect=_origins(json.loads(app.openapi_json())),
        )

    page = _Once(make)

    def docs() -> Response:
        return page.response()

    def docs_oauth2_redirect() -> Response:
        return oauth2_redirect_html(assets_url=_relative(assets_path, redirect_path))

    return [(docs_url, docs), (redirect_path, docs_oauth2_redirect)]


def _redoc_page(app: "CovetPy", redoc_url: str, openapi_url: str, assets_path: str) -> Handler:
    def redoc() -> Response:
        return redoc_html(
            title=f"{app.title} - ReDoc",
            openapi_url=_relative(openapi_url, redoc_url),
            assets_url=_relative(assets_path, redoc_url),
        )

    return redoc


class _Once:
    """A page that is made when it is asked for the first time, and at the latest when a component is built."""

    def __init__(self, make: Callable[[], HTMLResponse]) -> None:
        self._make = make
        self._made: HTMLResponse | None = None
        _files.at_the_end(self.response)

    def response(self) -> Response:
        """A response of its own for each request, since middleware may change it."""
        if self._made is None:
            self._made = self._make()
        return Response(self._made.body, headers=self._made.headers)


class _Assets:
    """The files of pages, which are read at once: a component has no files."""

    def __init__(self, names: Sequence[str]) -> None:
        self._files = {name.removesuffix(".gz"): (name.endswith(".gz"), asset(name)) for name in names}
        digest = hashlib.sha256()
        for _, data in self._files.values():
            digest.update(data)
        #: Part of the URL, so that clients may keep what they got for ever.
        self.digest = digest.hexdigest()[:10]

    def docs_asset(self, request: Request) -> Response:
        """Sends a file as it is stored to clients that accept gzip, which all browsers do."""
        name = request.path_params["file"]
        if name not in self._files:
            raise HTTPException(404)
        is_compressed, data = self._files[name]
        headers = {"cache-control": "public, max-age=31536000, immutable", "x-content-type-options": "nosniff"}
        if is_compressed:
            headers["vary"] = "Accept-Encoding"
            if _accepts_gzip(request.headers.getlist("accept-encoding")):
                headers["content-encoding"] = "gzip"
            else:
                data = zlib.decompress(data, wbits=31)
        return Response(data, headers=headers, media_type=_MEDIA_TYPES[posixpath.splitext(name)[1]])


def _page(title: str, head: str, body: str, policy: Mapping[str, str]) -> HTMLResponse:
    everywhere = {"default-src": "'none'", "base-uri": "'none'", "form-action": "'none'", "frame-ancestors": "'self'"}
    content = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
{head}
</head>
<body>
{body}
</body>
</html>
"""
    headers = {
        "content-security-policy": "; ".join(f"{name} {value}" for name, value in (everywhere | dict(policy)).items()),
        "x-content-type-options": "nosniff",
    }
    return HTMLResponse(content, headers=headers)


def _relative(path: str, page: str) -> str:
    """A path as seen from a page, so that it holds behind a proxy that puts a prefix before both."""
    return posixpath.relpath(path, posixpath.dirname(page))


def _in_script(value: Any) -> str:
    """JSON that can stand in a script in HTML."""
    text = json.dumps(value)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hash_of(script: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def _attribute(name: str) -> str:
    attribute = re.sub(r"[A-Z]", lambda match: f"-{match[0].lower()}", name)
    if not re.fullmatch(r"[a-z][a-z0-9-]*", attribute):
        raise ValueError(f"{name!r} is no option of ReDoc")
    return attribute


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _origins(document: Mapping[str, Any]) -> list[str]:
    """The other servers that the document tells of: those of the interface, and those that give tokens."""
    urls = [server.get("url") for server in document.get("servers", ())]
    for scheme in document.get("components", {}).get("securitySchemes", {}).values():
        urls.append(scheme.get("openIdConnectUrl"))
        for flow in scheme.get("flows", {}).values():
            urls += [flow.get("tokenUrl"), flow.get("refreshUrl")]
    origins = [match[0] for url in urls if isinstance(url, str) and (match := _ORIGIN.match(url))]
    return list(dict.fromkeys(origins))


def _accepts_gzip(fields: Sequence[str]) -> bool:
    weights = dict(_negotiation._weighted(fields))
    return weights.get("gzip", weights.get("*", 0.0)) > 0


#: Scheme, host and port; nothing that could end a part of the policy.
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.\-:\[\]]+(?=[/?#]|$)")

_SWAGGER_UI = (
    *("favicon.png.gz", "oauth2-redirect.js.gz", "swagger-ui-bundle.js.gz", "swagger-ui.css.gz"),
    "swagger-ui-bundle.js.LICENSE.txt",
)
_REDOC = ("redoc.standalone.js.gz", "redoc.standalone.js.LICENSE.txt")
_MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".png": "image/png", ".txt": "text/plain"}

#: As in FastAPI.
_SWAGGER_UI_PARAMETERS = {
    "dom_id": "#swagger-ui",
    "layout": "BaseLayout",
    "deepLinking": True,
    "showExtensions": True,
    "showCommonExtensions": True,
}
