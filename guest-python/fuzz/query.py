"""Query strings: nothing is raised, and they are read as the standard library reads them."""

from urllib.parse import parse_qsl

from harness import datastructures, fuzz

TOKENS = [b"&", b"=", b"+", b"%", b"%41", b"%C3%A4", b"%ff", b"%0", b";", b"?", b"#", b"\0", b"\xc3\xa4", b"a=1&"]


def check(data: bytes) -> None:
    text = data.decode(errors="replace")
    items = datastructures.parse_query(text)
    assert items == parse_qsl(text, keep_blank_values=True)
    parameters = datastructures.QueryParams(text)
    assert parameters.multi_items() == items
    assert dict(parameters) == dict(items)
    for name, value in items:
        assert parameters.getlist(name)[-1] == parameters[name]
        (name + value).encode()


if __name__ == "__main__":
    fuzz(check, TOKENS)
