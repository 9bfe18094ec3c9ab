"""`print` and the standard streams: what of them reaches the log of the host, and when."""

import asyncio
import io
import logging
import sys

import pytest

from covet import CovetPy, StreamingResponse
from covet._guest import bridge, output


@pytest.fixture
def install(monkeypatch):
    """Puts the streams of a component in the place of those of the process; gives what they write to without a host.

    The test calls it, because pytest sets the streams again when a test begins.
    """

    def install():
        without_host = io.StringIO(), io.StringIO()
        for name, stream in zip(("stdout", "stderr"), without_host, strict=True):
            monkeypatch.setattr(sys, f"__{name}__", None)
            monkeypatch.setattr(sys, name, stream)
        monkeypatch.setattr(output, "_installed", [])
        monkeypatch.setattr(bridge.host, "live", False)
        output.install()
        return without_host

    yield install
    assert output.unfinished == set()


@pytest.fixture
def logged(serve, install):
    """Runs a function as a handler; gives the log of its request."""

    def logged(function):
        without_host = install()
        app = CovetPy()

        @app.get("/")
        def index():
            function()

        instance = serve(app)
        answer = instance.get("/")
        assert answer.status == 200
        assert [stream.getvalue() for stream in without_host] == ["", ""]
        return instance.host.logs

    return logged


def test_a_line_is_an_event_of_the_log_with_the_level_and_the_target_of_its_stream(logged):
    def handler():
        print("one", 1)
        print("two\nthree", file=sys.stderr)
        sys.__stdout__.write("four\r\n\n")
        sys.__stderr__.writelines(["fi", "ve\n"])

    assert logged(handler) == [
        ("INFO", "stdout", "one 1"),
        ("WARN", "stderr", "two"),
        ("WARN", "stderr", "three"),
        ("INFO", "stdout", "four"),
        ("INFO", "stdout", ""),
        ("WARN", "stderr", "five"),
    ]


def test_a_line_that_is_not_finished_waits_for_the_end_of_the_request_also_when_it_is_flushed(serve, install):
    install()
    app = CovetPy()
    seen = []

    @app.get("/sync")
    def sync():
        print("sync", end="", flush=True)
        seen.append(len(instance.host.logs))

    @app.get("/async")
    async def asynchronous():
        print("as", end="")
        await asyncio.sleep(1)
        seen.append(len(instance.host.logs))
        print("ync", end="")

    @app.get("/stream")
    def stream():
        def pieces():
            print("str", end="")
            yield "x"
            print("eam", end="")

        return StreamingResponse(pieces())

    @app.get("/silent")
    def silent():
        pass

    instance = serve(app)
    for number, name in enumerate(["sync", "async", "stream", "silent"]):
        instance.get(f"/{name}")
        assert [message for _, _, message in instance.host.logs] == ["sync", "async", "stream"][: number + 1]
    assert seen == [0, 1]


def test_what_startup_leaves_unfinished_is_written_at_its_end(serve, install):
    install()
    app = CovetPy()
    app.on_event("startup")(lambda: print("starting", end=""))
    assert serve(app).host.logs == [("INFO", "stdout", "starting")]


def test_octets_are_text_of_utf_8_and_a_character_may_come_in_parts(logged):
    def handler():
        sys.stdout.buffer.write("a\u20ac".encode()[:2])
        sys.stdout.buffer.write(memoryview("\u20ac".encode()[1:] + b"b\n"))
        assert sys.stderr.buffer.write(bytearray(b"\xff\n")) == 2
        print("and ", end="")
        sys.stdout.buffer.write(b"octets\xe2")
        sys.stdout.buffer.flush()

    assert [message for _, _, message in logged(handler)] == ["a\u20acb", "\ufffd", "and octets\ufffd"]


def test_the_beginning_of_a_character_alone_is_written_at_the_end(logged):
    assert logged(lambda: sys.stdout.buffer.write(b"\xe2")) == [("INFO", "stdout", "\ufffd")]


@pytest.mark.parametrize("character", ["x", "\u00e9", "\u20ac", "\U0001f600"])
@pytest.mark.parametrize("end", ["\n", ""])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_long_line_is_cut_into_pieces_of_whole_characters(logged, character, end, at_once):
    text = "a" + character * 20_000 + end

    def handler():
        for piece in [text] if at_once else [text[begin : begin + 7] for begin in range(0, len(text), 7)]:
            sys.stdout.write(piece)

    pieces = [message for _, _, message in logged(handler)]
    assert "".join(pieces) + end == text
    assert max(len(piece.encode()) for piece in pieces) <= 8192
    assert all(len(piece.encode()) > 8192 - 4 for piece in pieces[:-1])


def test_a_line_without_an_end_is_not_collected_without_bound(serve, install):
    install()
    app = CovetPy()

    @app.get("/")
    def index():
        for _ in range(3 * 8192 // 64):
            sys.stdout.write("x" * 64)
        sys.stdout.buffer.write(b"x" * 64)
        return len(instance.host.logs)

    instance = serve(app)
    assert instance.get("/").json() == 3


def test_a_line_of_8_kib_is_one_event(logged):
    assert [len(message) for _, _, message in logged(lambda: print("x" * 8192))] == [8192]
    assert [len(message) for _, _, message in logged(lambda: print("x" * 8193))] == [8192, 1]


def test_text_that_utf_8_cannot_have_is_replaced(logged):
    assert [message[-1] for _, _, message in logged(lambda: print("\ud800\n" + "\ud800" * 5000))] == ["?", "?"]


def test_the_streams_are_what_programs_expect_of_them(logged):
    def handler():
        for stream, name in ((sys.stdout, "<stdout>"), (sys.stderr, "<stderr>")):
            assert isinstance(stream, io.TextIOBase)
            assert isinstance(stream.buffer, io.BufferedIOBase)
            assert (stream.name, stream.encoding, stream.errors) == (name, "utf-8", "replace")
            for half in (stream, stream.buffer):
                assert (half.isatty(), half.writable(), half.readable(), half.seekable()) == (False, True, False, False)
                with pytest.raises(io.UnsupportedOperation):
                    half.fileno()
                half.close()
                assert not half.closed
            stream.reconfigure(line_buffering=True)
            assert stream.write("\u20ac") == 1
            with pytest.raises(TypeError, match="must be str, not bytes"):
                stream.write(b"x")
        wrapped = io.TextIOWrapper(sys.stdout.buffer, "utf-8", line_buffering=True)
        wrapped.write("wrapped\n")
        wrapped.detach()

    assert [message for _, _, message in logged(handler)] == ["\u20acwrapped", "\u20ac"]


def test_a_logging_handler_that_was_made_at_import_writes_to_the_log(serve, install):
    without_host = install()
    logger = logging.getLogger("test.made-at-import")
    handler = logging.StreamHandler()
    logger.addHandler(handler)
    logger.propagate = False
    try:
        app = CovetPy()
        app.get("/")(lambda: logger.warning("handled"))
        logger.warning("imported")
        instance = serve(app)
        instance.get("/")
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
    assert without_host[1].getvalue() == "imported\n"
    assert instance.host.logs == [("WARN", "stderr", "handled")]


def test_what_is_printed_at_import_goes_to_the_build_tool(install, tmp_path):
    without_host = install()
    print("before")
    with output.collected_in(str(tmp_path / "output.txt")):
        print("printed")
        print("an error", file=sys.stderr)
        sys.stdout.buffer.write(b"octets\n")
        sys.stdout.flush()
    print("after")
    assert (tmp_path / "output.txt").read_text(encoding="utf-8") == "printed\nan error\noctets\n"
    assert without_host[0].getvalue() == "before\nafter\n"
