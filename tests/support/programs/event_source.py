"""A client for event streams: the parser of the HTML standard, and HTTP down to its last chunk."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import BinaryIO

import gevent
from gevent import socket
from gevent.event import Event as Signal


@dataclass(frozen=True)
class Event:
    """What a browser's listener gets."""

    type: str
    data: str
    last_event_id: str


class Parser:
    """HTML standard, 9.2.6, word for word; takes the stream in any pieces."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.comments: list[str] = []
        self.retry: int | None = None
        self.last_event_id = ""
        self._bytes = b""
        self._started = False
        self._data = self._type = self._id = ""

    def feed(self, data: bytes) -> None:
        self._bytes += data
        # A CR at the end may be the first half of a CRLF.
        *lines, rest = re.split(rb"\r\n|\n|\r(?!\Z)", self._bytes)
        self._bytes = rest
        for line in lines:
            text = line.decode()
            if not self._started:
                self._started = True
                text = text.removeprefix("\ufeff")
            self._line(text)

    def _line(self, line: str) -> None:
        if not line:
            self._dispatch()
        elif line.startswith(":"):
            self.comments.append(line[1:])
        else:
            name, _, value = line.partition(":")
            self._field(name, value.removeprefix(" "))

    def _field(self, name: str, value: str) -> None:
        if name == "event":
            self._type = value
        elif name == "data":
            self._data += value + "\n"
        elif name == "id":
            if "\0" not in value:
                self._id = value
        elif name == "retry" and re.fullmatch("[0-9]+", value):
            self.retry = int(value)

    def _dispatch(self) -> None:
        self.last_event_id = self._id
        data, kind = self._data, self._type
        self._data = self._type = ""
        if data:
            self.events.append(Event(kind or "message", data.removesuffix("\n"), self.last_event_id))


def parse(data: bytes) -> Parser:
    """Parse a whole stream."""
    parser = Parser()
    parser.feed(data)
    return parser


@dataclass
class EventSource:
    """One open stream, read by a greenlet of its own."""

    port: int
    target: str
    headers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.parser = Parser()
        self.status = ""
        self.response_headers: dict[str, str] = {}
        self.complete = False
        """Whether the response has come to its own end: the last chunk is there."""
        self.error: Exception | None = None
        self.ended_at: float | None = None
        """When that was, or the connection ended; of the monotonic clock."""
        self._changed = Signal()
        self._socket = socket.create_connection(("127.0.0.1", self.port))
        self._greenlet = gevent.spawn(self._read)

    def wait(self, condition: object, timeout: float = 20) -> None:
        """Wait until ``condition(self)`` holds."""
        assert callable(condition)
        with gevent.Timeout(timeout, TimeoutError(f"it never came to that: {self!r} {self.parser.events}")):
            while not condition(self):
                self._changed.clear()
                self._changed.wait()

    def wait_open(self) -> None:
        """Wait until the stream has begun."""
        self.wait(lambda _: self.parser.retry is not None)
        assert self.status == "200 OK"

    def wait_data(self, data: str) -> None:
        """Wait until the last event is one with that data, whatever word stands before it."""
        self.wait(lambda _: self.parser.events and self.parser.events[-1].data.split()[-1:] == [data])

    def wait_end(self, timeout: float = 20) -> None:
        """Wait until the response has ended, however it did."""
        self.wait(lambda _: self.ended_at is not None, timeout)

    def close(self) -> None:
        self._greenlet.kill()
        self._socket.close()

    def _read(self) -> None:
        request = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        try:
            self._socket.sendall(f"GET {self.target} HTTP/1.1\r\nHost: test\r\n{request}\r\n".encode())
            with self._socket.makefile("rb") as file:
                self._read_head(file)
                chunked = self.response_headers.get("transfer-encoding") == "chunked"
                while chunked and not self.complete:
                    chunk = file.read(int(file.readline(), 16))
                    assert file.readline() == b"\r\n"
                    self.complete = not chunk
                    self.parser.feed(chunk)
                    self._changed.set()
        except (OSError, ValueError) as error:
            self.error = error
        finally:
            self.ended_at = time.monotonic()
            self._changed.set()

    def _read_head(self, file: BinaryIO) -> None:
        readline = file.readline
        _, _, self.status = readline().decode().rstrip().partition(" ")
        while line := readline().decode().rstrip():
            name, _, value = line.partition(":")
            self.response_headers[name.lower()] = value.strip()
