"""Sessions in a signed cookie: the client keeps them, and cannot change them."""

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Sequence, ValuesView
from hmac import compare_digest, digest
from time import time
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

from covet.responses import Response

from ._shared import TOKEN, add_vary, whole_number
from .base import BaseMiddleware, CallNext

if TYPE_CHECKING:
    from covet.requests import Request

__all__ = ["Session", "SessionMiddleware"]

#: One key, or several of which the first signs and all are accepted.
Keys: TypeAlias = str | bytes | Sequence[str | bytes]


class SessionMiddleware(BaseMiddleware):
    """Keeps `request.session`, a dictionary of what JSON can have, in a cookie of the client.

    The cookie is signed with HMAC-SHA256 and not encrypted: the client can read it. A cookie that was changed, is older
    than `max_age` seconds, or was signed with another key is an empty session. It is sent again when the session has
    changed, and deleted when it is emptied. With `max_age=None` it lasts until the browser is closed, and stays valid.

    `secret_key` has 16 characters or more. To change it, give a list: the first key signs, the others are still accepted.
    A key in the source is in the component for everyone to read; a function without arguments is called at the first
    request of an instance, so the key can come from the configuration: `secret_key=lambda: host.config("SESSION_KEY")`.

    A cookie of more than 4093 bytes, which browsers drop, is a ValueError. What a streamed body changes in the session
    while it is sent is not kept, and neither is what a request changed that ends with an exception nobody handles. A copy
    of a cookie stays valid until it is too old, also after the session was emptied; what must be revoked belongs into a
    database, with its key in the session.
    """

    def __init__(
        self,
        secret_key: Keys | Callable[[], Keys | None],
        *,
        session_cookie: str = "session",
        max_age: int | None = 14 * 24 * 60 * 60,
        path: str = "/",
        same_site: Literal["lax", "strict", "none"] = "lax",
        https_only: bool = False,
        domain: str | None = None,
    ) -> None:
        if not isinstance(session_cookie, str) or TOKEN.fullmatch(session_cookie) is None:
            raise ValueError(f"session_cookie: {session_cookie!r} is no name of a cookie")
        if max_age is not None:
            whole_number("max_age", max_age, 1)
        if not isinstance(path, str) or not path.startswith("/") or _ATTRIBUTE.fullmatch(path) is None:
            raise ValueError(f"path: {path!r} is no path for a cookie, which begins with '/'")
        if same_site not in ("lax", "strict", "none"):
            raise ValueError(f"same_site: {same_site!r} is none of lax, strict, none")
        if same_site == "none" and not https_only:
            raise ValueError("same_site: browsers accept 'none' only with https_only=True")
        if domain is not None and (not isinstance(domain, str) or _ATTRIBUTE.fullmatch(domain) is None):
            raise ValueError(f"domain: {domain!r} is no domain for a cookie")
        if session_cookie.startswith(("__Secure-", "__Host-")) and not https_only:
            raise ValueError(f"session_cookie: browsers accept the name {session_cookie} only with https_only=True")
        if session_cookie.startswith("__Host-") and (path != "/" or domain is not None):
            raise ValueError(f"session_cookie: browsers accept the name {session_cookie} only with path='/' and no domain")
        self._cookie = session_cookie
        self._max_age = max_age
        self._find_keys: Callable[[], Keys | None] | None = None
        self._keys: list[bytes] | None = None
        if callable(secret_key):
            self._find_keys = secret_key
        else:
            self._keys = self._derived(secret_key)

        attributes = f"; Path={path}; HttpOnly; SameSite={same_site.capitalize()}"
        if https_only:
            attributes += "; Secure"
        if domain is not None:
            attributes += f"; Domain={domain}"
        self._attributes = attributes if max_age is None else f"; Max-Age={max_age}{attributes}"
        self._deletion = f"{session_cookie}=; Max-Age=0; expires=Thu, 01 Jan 1970 00:00:00 GMT{attributes}"

    async def __call__(self, request: "Request", call_next: CallNext) -> Response:
        value = request.cookies.get(self._cookie)
        text = None if value is None else self._verified(value)
        session = Session()
        if text is not None:
            session._load(json.loads(text))
        request.state.session = session
        response = await call_next(request)
        if session.accessed or session.modified:
            # A cache must not give what was made for one session to another.
            add_vary(response.headers, "Cookie")
            if session.modified or session._has_changed(text):
                if session:
                    response.headers.append("set-cookie", self._signed(session))
                elif text is not None:
                    response.headers.append("set-cookie", self._deletion)
        return response

    def _verified(self, value: str) -> bytes | None:
        """The JSON in a cookie, None if the cookie is not valid."""
        if len(value) > COOKIE_SIZE_MAX or not value.isascii():
            return None
        signed, _, signature = value.rpartition(".")
        payload, _, moment = signed.rpartition(".")
        if not payload or not moment.isdecimal() or len(moment) > MOMENT_DIGITS_MAX:
            return None
        message, given = signed.encode(), signature.encode()
        # No `any`: how long it takes may tell which key it was, but not how much of a signature is right.
        for key in self._signing_keys():
            if compare_digest(_signature(key, message), given):
                break
        else:
            return None
        age = int(time()) - int(moment)
        if age < -CLOCK_DIFFERENCE_MAX or (self._max_age is not None and age > self._max_age):
            return None
        return urlsafe_b64decode(payload + "=" * (-len(payload) % 4))

    def _signed(self, session: "Session") -> str:
        """The value of the `set-cookie` field."""
        payload = urlsafe_b64encode(_json(session)).rstrip(b"=")
        message = b"%b.%d" % (payload, int(time()))
        signature = _signature(self._signing_keys()[0], message)
        field = f"{self._cookie}={message.decode()}.{signature.decode()}{self._attributes}"
        if len(field) > COOKIE_SIZE_MAX:
            raise ValueError(
                f"the session takes {len(field)} bytes as a cookie, and browsers keep {COOKIE_SIZE_MAX}; "
                "keep large things in a database and their keys in the session"
            )
        return field

    def _signing_keys(self) -> list[bytes]:
        keys = self._keys
        if keys is None:
            assert self._find_keys is not None
            keys = self._keys = self._derived(self._find_keys())
        return keys

    def _derived(self, keys: Any) -> list[bytes]:
        """The keys for this cookie, so that no other use of a secret can be mistaken for it, nor another cookie."""
        if isinstance(keys, (str, bytes)):
            keys = [keys]
        if keys is None and self._find_keys is not None:
            raise ValueError("secret_key: the function returned None; is the key configured?")
        if not isinstance(keys, Iterable):
            raise ValueError(f"secret_key is a str, a list of them or a function that returns one, not {type(keys).__name__}")
        secrets = []
        for key in keys:
            if not isinstance(key, (str, bytes)):
                raise ValueError(f"secret_key: a key is a str or bytes, not {type(key).__name__}")
            if len(key) < KEY_LENGTH_MIN:
                raise ValueError(f"secret_key: a key has {KEY_LENGTH_MIN} characters or more, not {len(key)}")
            secrets.append(key.encode() if isinstance(key, str) else key)
        if not secrets:
            raise ValueError("secret_key has no key in it")
        purpose = b"covet.session\0" + self._cookie.encode()
        return [digest(secret, purpose, "sha256") for secret in secrets]


class Session(dict[str, Any]):
    """What a client has in its session. It notes that it was read and that it was changed.

    A change inside of a list or dictionary in it counts as well.
    """

    #: Whether it was looked at or changed.
    accessed: bool = False
    #: Whether an item was set or deleted. It may be set, to have the cookie sent again with the present time.
    modified: bool = False

    def _load(self, items: Any) -> None:
        """Takes the items that a cookie brought."""
        if isinstance(items, dict):
            super().update(items)

    def _has_changed(self, text: bytes | None) -> bool:
        """Whether something inside of it has changed since it was loaded."""
        nested = any(isinstance(value, (dict, list)) for value in super().values())
        return nested and text is not None and _json(self) != text

    def _change(self) -> None:
        self.accessed = self.modified = True

    def __getitem__(self, key: str) -> Any:
        self.accessed = True
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None, /) -> Any:
        self.accessed = True
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        self.accessed = True
        return super().__contains__(key)

    def __iter__(self) -> Iterator[str]:
        self.accessed = True
        return super().__iter__()

    def __reversed__(self) -> Iterator[str]:
        self.accessed = True
        return super().__reversed__()

    def __len__(self) -> int:
        self.accessed = True
        return super().__len__()

    def __eq__(self, other: object) -> bool:
        self.accessed = True
        return super().__eq__(other)

    __hash__ = None

    def keys(self) -> KeysView[str]:  # type: ignore[override]
        self.accessed = True
        return super().keys()

    def values(self) -> ValuesView[Any]:  # type: ignore[override]
        self.accessed = True
        return super().values()

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]
        self.accessed = True
        return super().items()

    def copy(self) -> dict[str, Any]:
        self.accessed = True
        return dict(super().items())

    def __or__(self, other: Any) -> dict[str, Any]:  # type: ignore[override]
        joined: dict[str, Any] = self.copy() | other
        return joined

    def __ror__(self, other: Any) -> dict[str, Any]:  # type: ignore[override]
        joined: dict[str, Any] = other | self.copy()
        return joined

    def __setitem__(self, key: str, value: Any) -> None:
        self._change()
        super().__setitem__(key, value)

    def __delitem__(self, key: str) -> None:
        self._change()
        super().__delitem__(key)

    def __ior__(self, other: Any) -> Self:  # type: ignore[override]
        self._change()
        super().update(other)
        return self

    def clear(self) -> None:
        self._change()
        super().clear()

    def pop(self, key: str, *default: Any) -> Any:
        self.accessed = True
        if super().__contains__(key):
            self._change()
        return super().pop(key, *default)

    def popitem(self) -> tuple[str, Any]:
        self._change()
        return super().popitem()

    def setdefault(self, key: str, default: Any = None, /) -> Any:
        self.accessed = True
        if not super().__contains__(key):
            self._change()
        return super().setdefault(key, default)

    def update(self, *args: Any, **items: Any) -> None:
        self._change()
        super().update(*args, **items)


def _signature(key: bytes, message: bytes) -> bytes:
    # The text is compared, not the bytes that it stands for: more than one text can stand for the same bytes.
    return urlsafe_b64encode(digest(key, message, "sha256")).rstrip(b"=")


def _json(session: Session) -> bytes:
    try:
        text = json.dumps(dict(dict.items(session)), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise type(error)(f"the session cannot be written as JSON: {error}") from None
    # Lone surrogates, which JSON from a client may have, are read back by `json.loads`.
    return text.encode(errors="surrogatepass")


KEY_LENGTH_MIN = 16
#: Browsers keep 4096 bytes of a cookie with its attributes, some of them a little less.
COOKIE_SIZE_MAX = 4093
MOMENT_DIGITS_MAX = 12
#: Seconds by which the clocks of hosts that share a key may differ.
CLOCK_DIFFERENCE_MAX = 300
#: No control characters, no `;`.
_ATTRIBUTE = re.compile(r"[!-:<-~]+")
