"""Urlencoded forms: nothing but a 400 or 413 is raised, and they are read as the standard library reads them."""

from urllib.parse import parse_qsl

from harness import forms, fuzz, outcome

TOKENS = [b"&", b"=", b"+", b"%", b"%41", b"%C3%A4", b"%ff", b"%0", b";", b"\0", b"\xc3\xa4", b"\xff", b"a=1&"]


def check(data: bytes) -> None:
    text = data.decode(errors="replace")
    expected = parse_qsl(text, keep_blank_values=True)
    content_type = "application/x-www-form-urlencoded"
    for body in (text, data):
        result = outcome(lambda body=body: forms.read_form_sync(content_type, body).multi_items())
        assert result == (expected if len(expected) <= 1000 else (400, TOO_MANY)), result
    for name, value in expected[:1000]:
        (name + value).encode()
    result = outcome(lambda: forms.parse_urlencoded(data, max_fields=3, max_part_size=20).multi_items())
    assert isinstance(result, tuple) or (len(result) <= 3 and result == expected)


TOO_MANY = "Too many fields. Maximum number of fields is 1000."

if __name__ == "__main__":
    fuzz(check, TOKENS)
