from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import gevent
import pytest

from pglisten._cli.output import CHUNK, Output
from pglisten._demo.screen import Look, Screen


class Pipe:
    """The two ends of a pipe."""

    def __init__(self, encoding: str = "utf-8") -> None:
        reading, writing = os.pipe()
        self.reading = open(reading, "rb")  # noqa: SIM115 - closed by the fixture
        self.writing: TextIO = open(writing, "w", encoding=encoding)  # noqa: SIM115

    def read(self, size: int = 65536) -> bytes:
        return os.read(self.reading.fileno(), size)

    def fill(self) -> int:
        os.set_blocking(self.writing.fileno(), False)
        size = 0
        try:
            while True:
                size += os.write(self.writing.fileno(), bytes(CHUNK))
        except BlockingIOError:
            os.set_blocking(self.writing.fileno(), True)
        return size

    def close(self) -> None:
        self.reading.close()
        self.writing.close()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


def test_a_line_is_out_when_the_call_returns(pipe: Pipe) -> None:
    Output(pipe.writing).line("é")
    assert pipe.read() == "é\n".encode()


def test_what_the_encoding_lacks_is_escaped() -> None:
    pipe = Pipe("ascii")
    Output(pipe.writing).line("é €")
    assert pipe.read() == b"\\xe9 \\u20ac\n"
    pipe.close()


def test_a_full_pipe_holds_up_the_writer_and_nobody_else(pipe: Pipe) -> None:
    size = pipe.fill()
    writer = gevent.spawn(Output(pipe.writing).line, "late")
    gevent.idle()
    assert not writer.ready()
    while size:
        size -= len(pipe.read())
    writer.join()
    assert pipe.read() == b"late\n"


def test_lines_of_several_writes_do_not_mix(pipe: Pipe) -> None:
    output = Output(pipe.writing)
    lines = [letter * (CHUNK * 20) for letter in "abc"]
    writers = [gevent.spawn(output.line, line) for line in lines]
    gevent.idle()
    received = b""
    while not all(writer.ready() for writer in writers):
        received += pipe.read()
        gevent.idle()
    pipe.writing.close()
    received += pipe.reading.read()
    assert sorted(received.decode().splitlines()) == lines


def test_that_the_reader_is_gone_is_noticed_without_writing(pipe: Pipe) -> None:
    output = Output(pipe.writing)
    watcher = gevent.spawn(output.wait_closed)
    gevent.idle()
    assert not output.closed.is_set()
    pipe.reading.close()
    watcher.join()
    assert output.closed.is_set()
    assert output.error is None


def test_writing_without_a_reader_is_no_error(pipe: Pipe) -> None:
    output = Output(pipe.writing)
    pipe.reading.close()
    output.line("unread")
    output.line("nor this")
    assert output.closed.is_set()
    assert output.error is None


def test_a_writer_that_waits_gives_up_when_the_reader_goes(pipe: Pipe) -> None:
    pipe.fill()
    output = Output(pipe.writing)
    writer = gevent.spawn(output.line, "late")
    gevent.idle()
    pipe.reading.close()
    writer.join()
    assert output.closed.is_set()


def test_a_file_is_written_without_waiting_for_it(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with path.open("w", encoding="utf-8") as file:
        Output(file).line("x" * (3 * CHUNK))
    assert path.read_text() == "x" * (3 * CHUNK) + "\n"


def test_any_other_failure_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.touch()
    with path.open(encoding="utf-8") as only_readable:
        output = Output(only_readable)
        output.line("x")
    assert isinstance(output.error, OSError)
    assert output.closed.is_set()


def test_a_stream_that_was_closed_from_the_start_takes_lines_and_drops_them() -> None:
    output = Output(None)
    output.line("x")
    output.wait_closed()
    assert output.error is None


def _screen(pipe: Pipe, *, coloured: bool) -> Screen:
    times = iter([10.0, 12.5])
    names = ["psycopg2", "psycopg", "pg8000"]
    return Screen(Output(pipe.writing), coloured=coloured, names=names, clock=lambda: next(times))


def test_a_line_of_the_demo_has_three_columns(pipe: Pipe) -> None:
    _screen(pipe, coloured=False).tell("pg8000", "received 'order 1'")
    assert pipe.read() == b"  2.50 s  pg8000    received 'order 1'\n"


def test_the_demo_shows_nothing_that_drives_the_terminal(pipe: Pipe) -> None:
    _screen(pipe, coloured=False).tell("pg8000", "attempt failed: \x1b[2J\nx")
    assert pipe.read() == b"  2.50 s  pg8000    attempt failed: \\x1b[2J x\n"


def test_a_narrow_terminal_keeps_the_columns(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    _screen(pipe, coloured=True).tell("server", "shuts down, to come back in a second", Look.BAD)
    first, second = pipe.read().decode().splitlines()
    assert "\x1b[31mshuts down, to come back in a\x1b[0m" in first
    assert second == " " * 20 + "\x1b[31msecond\x1b[0m"


def test_a_stream_without_a_descriptor_is_refused() -> None:
    with pytest.raises(io.UnsupportedOperation):
        Output(io.StringIO())
