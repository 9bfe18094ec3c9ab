"""Popular libraries in a component under covet-host: tests/guests/python/libraries has a route for each.

What is known of them, and of some more, is in docs/compatibility.md.
"""

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

PROJECT = Path(__file__).parents[2] / "tests" / "guests" / "python" / "libraries"
pytestmark = [pytest.mark.build, pytest.mark.host]


@pytest.fixture(scope="module")
def client(covet_host) -> Iterator[httpx.Client]:
    with covet_host("app:app", project=PROJECT, isolation="fresh", arguments=["--audit", "1"], timeout=30) as client:
        yield client


ANSWERS: dict[str, Any] = {
    "attrs": {"value": {"x": 1, "tags": ["a"]}, "error": "ValueError: 'x' must be >= 0: -1"},
    "beautifulsoup4": ["One", "/x"],
    "cachetools": [4, 4, 9, [2, 3]],
    "cattrs": [{"x": 1, "tags": ["a"]}, {"x": 2, "tags": []}],
    "click": {"parameters": {"count": 2, "name": "Ada"}, "run": [0, "Hello Ada! Hello Ada! \n"]},
    "httpx": {
        "application": [201, 'q=a+b {"n":1}'],
        "mock": [{"path": "/x"}, "Basic YWRhOng="],
        "request": ["http://example.com/%C3%A4", "multipart/form-data", True],
        "Client": "ConnectError: [Errno -4] A component has no sockets, and resolves no names",
        "AsyncClient": "ConnectError: All connection attempts failed",
    },
    "itsdangerous": {"loaded": {"user": 1}, "changed": "BadTimeSignature"},
    "marshmallow": {
        "dumped": {"title": "Hunky Dory", "released": "1971-12-17", "url": "https://example.com"},
        "errors": {"title": ["Shorter than minimum length 2."], "url": ["Not a valid URL."]},
    },
    "orjson": {"a": "ä", "b": [1, 2.5, None]},
    "passlib": {"pbkdf2": [True, False], "sha512": [True, False]},
    "pydantic-settings": {"name": "Shop", "key": "**********", "environ": []},
    "pyjwt": {
        "HS256": "ada",
        "HS512": "ada",
        "expired": "ExpiredSignatureError: Signature has expired",
        "RS256": "NotImplementedError: Algorithm 'RS256' could not be found. Do you have cryptography installed?",
    },
    "python-dateutil": {"parsed": "2026-11-23T10:00:00+01:00", "later": "2027-02-28", "rule": [23, 30, 7]},
    "python-slugify": ["unicode-grosse", "ying-shi-ma"],
    "pyyaml": {"loaded": {"a": [1, 2.5, True], "b": {"c": "ä"}, "d": {"c": "ä"}}, "dumped": "a:\n- 1\n- x\n"},
    "redis": {
        "Redis": "ConnectionError: Error -4 connecting to 127.0.0.1:6379. A component has no sockets, and resolves no names.",
        "asyncio.Redis": "ConnectionError: Error 40 connecting to 127.0.0.1:6379. A component has no sockets.",
    },
    "requests": {"mock": {"a": 1}, "request": "http://h/x?q=a+b", "get": "ConnectionError: HTTPConnectionPool"},
    "sqlalchemy": {
        "rows": [["ada", 2]],
        "posts": [1, 2],
        "postgresql": "SELECT users.name, count(posts.id) AS count_1 FROM users JOIN posts ON users.id = posts.user_id "
        "GROUP BY users.name",
        "file": "OperationalError: (sqlite3.OperationalError) unable to open database file",
    },
    "structlog": [{"request": 1, "event": "captured", "log_level": "warning"}],
    "tenacity": {"done": 3, "error": "RetryError", "calls": ["async"] * 3 + ["plain"] * 2},
    "tzdata": ["2026-07-01T00:00:00+02:00", "2026-07-01T00:00:00+05:30"],
    "zipfile": [["a.txt"], 400],
}
TEXTS = {
    "jinja2": "<title>&lt;Ada&gt; 1-2</title>",
    "markdown": "<h1>A</h1>\n<table>\n<thead>\n<tr>\n<th>a</th>\n<th>b</th>\n</tr>\n</thead>\n<tbody>\n<tr>\n<td>1</td>\n"
    "<td>2</td>\n</tr>\n</tbody>\n</table>",
    "rich": textwrap.dedent("""\
        ┏━━━━━━┳━━━━━━━┓
        ┃ Name ┃ Price ┃
        ┡━━━━━━╇━━━━━━━┩
        │ Lamp │ 40    │
        └──────┴───────┘
        {
          "a": 1
        }
    """),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_library_does_in_the_guest_what_it_does_elsewhere(client, name):
    for _ in range(2):
        answer = client.get(f"/{name}")
        assert answer.status_code == 200
        assert answer.json() == ANSWERS[name]


@pytest.mark.parametrize("name", TEXTS)
def test_a_library_writes_in_the_guest_what_it_writes_elsewhere(client, name):
    assert client.get(f"/{name}").text == TEXTS[name]


def test_a_library_reads_the_body_of_a_request(client):
    answer = client.post("/python-multipart", data={"note": "n"}, files={"file": ("a.txt", b"text")})
    assert answer.json() == {"fields": {"note": "n"}, "files": {"a.txt": 4}}
    answer = client.post("/email-validator", json={"email": "Ada@EXAMPLE.org"})
    assert answer.json() == {
        "email": "Ada@example.org",
        "checked": "ada@xn--exmple-cua.de",
        "delivered": "NoResolverConfiguration: cannot open /etc/resolv.conf",
    }
    assert client.post("/email-validator", json={"email": "ada"}).status_code == 422


def test_every_library_is_tried():
    routes = {*ANSWERS, *TEXTS, "python-multipart", "email-validator"}
    required = {line.partition("==")[0] for line in (PROJECT / "requirements.txt").read_text().split()}
    # pydantic is another one's dependency, and zipfile is the standard library's.
    assert required - {"pydantic"} == routes - {"zipfile"}
