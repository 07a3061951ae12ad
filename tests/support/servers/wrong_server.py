"""A server that speaks the protocol, and breaks it on purpose: what it says is a script.

In the test's own process it is a greenlet. To flood a client it must be a process of its own
(`elsewhere`): a client that holds up the hub would hold up the flood as well, and get away with it.
"""

from __future__ import annotations

import base64
import contextlib
import pickle
import socket as numbers
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import gevent
from gevent import socket
from gevent.event import Event
from gevent.server import StreamServer

from support.timeouts import TIMEOUT

_SSL_REQUEST = (80877103).to_bytes(4, "big")


class Then(Enum):
    """What to do where nothing more is to be said."""

    HOLD = "keep the connection and say nothing"
    CLOSE = "close it"
    RESET = "reset it"


@dataclass(frozen=True)
class Endless:
    """Bytes to send again and again, until the client has gone."""

    piece: bytes


@dataclass(frozen=True)
class Trickle:
    """Bytes of which one is sent a second, until the client has gone."""

    data: bytes


Step = bytes | Endless | Trickle | Then


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + (len(body) + 4).to_bytes(4, "big") + body


def authentication(kind: int, body: bytes = b"") -> bytes:
    return message(b"R", kind.to_bytes(4, "big") + body)


def error(severity: str = "ERROR", sqlstate: str = "42601", text: str = "no", kind: bytes = b"E") -> bytes:
    return message(kind, f"S{severity}\0V{severity}\0C{sqlstate}\0M{text}\0\0".encode())


def notice(text: str = "hm") -> bytes:
    return error("NOTICE", "00000", text, b"N")


def notification(payload: bytes = b"hello", channel: bytes = b"orders", pid: int = 1) -> bytes:
    return message(b"A", pid.to_bytes(4, "big") + channel + b"\0" + payload + b"\0")


def status(name: str, value: str) -> bytes:
    return message(b"S", f"{name}\0{value}\0".encode())


READY = message(b"Z", b"I")
DONE = message(b"C", b"SELECT 1\0") + READY


def row(*values: bytes) -> bytes:
    """One row of text, without its end."""
    count = len(values).to_bytes(2, "big")
    columns = message(b"T", count + len(values) * (b"t\0" + bytes(18)))
    return columns + message(
        b"D", count + b"".join(len(value).to_bytes(4, "big") + value for value in values)
    )


STATE = row(b"false", b"off", b"4711")
"""A primary's answer to who it is, which a connection may begin with."""
ONE_VALUE = row(b"UTF8")
"""The answer that proves that a query with LISTEN was run to its end."""
LISTENS = row(b"4711", b"1000000")
"""The answer to how many channels the session listens to: enough."""
STATUS = b"".join(
    status(name, value)
    for name, value in {
        "client_encoding": "UTF8",
        "DateStyle": "ISO, MDY",
        "integer_datetimes": "on",
        "server_encoding": "UTF8",
        "server_version": "15.0",
        "standard_conforming_strings": "on",
    }.items()
)
KEY = message(b"K", bytes([0, 0, 18, 103, 0, 0, 0, 1]))
"""The pid is 4711."""
WELCOME = authentication(0) + STATUS + KEY + READY
"""A start-up without a password."""


@dataclass(frozen=True)
class Script:
    """One connection: what is said to the start-up message, and then to each query in turn.

    A step of bytes is sent; after `Endless` or `Then` nothing follows. What has no step left is answered
    as a well-behaved server would.
    """

    startup: tuple[Step, ...] = (WELCOME,)
    answers: tuple[tuple[Step, ...], ...] = ()
    tls: bytes = b"N"
    """What is said to a request for TLS. After ``S`` comes ``startup``, in place of a handshake."""


GOOD = Script()


@dataclass
class WrongServer:
    """Plays *scripts*, one for each connection in turn, and the last one for all that follow."""

    scripts: tuple[Script, ...]
    connections: int = 0
    startups: list[bytes] = field(default_factory=list)
    """The start-up messages, without their lengths."""
    queries: list[bytes] = field(default_factory=list)
    open: list[socket.socket] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._changed = Event()
        self._server = StreamServer(("127.0.0.1", 0), self._serve)
        self._server.start()
        self.port = int(self._server.address[1])

    def dsn(self) -> str:
        return dsn(self.port)

    def say(self, data: bytes) -> None:
        """Send *data* on every connection, unasked."""
        for client in self.open:
            client.sendall(data)

    def wait_until(self, condition: object) -> None:
        """Wait for *condition*, a function of no arguments that looks at the attributes."""
        assert callable(condition)
        with gevent.Timeout(TIMEOUT):
            while not condition():
                self._changed.clear()
                self._changed.wait()

    def close(self) -> None:
        self._server.stop(timeout=0)
        for client in self.open:
            client.close()

    def _serve(self, client: socket.socket, _address: object) -> None:
        # As PostgreSQL does: what is said has left then, and is not kept for the next acknowledgement.
        client.setsockopt(numbers.IPPROTO_TCP, numbers.TCP_NODELAY, 1)
        script = self.scripts[min(self.connections, len(self.scripts) - 1)]
        self.connections += 1
        self.open.append(client)
        self._changed.set()
        try:
            with contextlib.suppress(OSError, EOFError):
                self._play(client, script)
        finally:
            if client in self.open:
                self.open.remove(client)
            client.close()
            self._changed.set()

    def _play(self, client: socket.socket, script: Script) -> None:
        while (startup := _read(client, int.from_bytes(_read(client, 4), "big") - 4))[:4] == _SSL_REQUEST:
            client.sendall(script.tls)
            if script.tls == b"S":
                break
        self.startups.append(startup)
        _say(client, script.startup)
        answers = iter(script.answers)
        while True:
            kind, length = struct.unpack("!cI", _read(client, 5))
            body = _read(client, length - 4)
            if kind == b"Q":
                questions = {b"pg_is_in_recovery": STATE, b"pg_listening_channels": LISTENS}
                if reply := next((reply for asked, reply in questions.items() if asked in body), None):
                    _say(client, (reply + DONE,))
                    continue
                self.queries.append(body[:-1])
                self._changed.set()
                well = ONE_VALUE + DONE if b"LISTEN" in body else DONE
                _say(client, next(answers, (well,)))
            elif kind == b"X":
                return


on_the_last: Callable[[], None] = lambda: None  # noqa: E731
"""Called where a script is about to say the last that it says."""


def _say(client: socket.socket, steps: tuple[Step, ...]) -> None:
    for step in steps:
        if not isinstance(step, bytes):
            on_the_last()
        if isinstance(step, bytes):
            client.sendall(step)
        elif isinstance(step, Endless):
            piece = step.piece * max(1, 65536 // len(step.piece))
            while True:
                client.sendall(piece)
                gevent.sleep(0)
        elif isinstance(step, Trickle):
            for at in range(len(step.data)):
                client.sendall(step.data[at : at + 1])
                gevent.sleep(1)
            raise EOFError
        elif step is Then.HOLD:
            while client.recv(65536):
                pass
            raise EOFError
        else:
            if step is Then.RESET:
                client.setsockopt(numbers.SOL_SOCKET, numbers.SO_LINGER, struct.pack("ii", 1, 0))
            raise EOFError


def _read(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = client.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def dsn(port: int) -> str:
    return f"host=127.0.0.1 port={port} user=app dbname=app password=s3cret sslmode=disable"


@contextlib.contextmanager
def wrong_server(*scripts: Script) -> Iterator[WrongServer]:
    """Give a server that plays *scripts*, here."""
    server = WrongServer(scripts or (GOOD,))
    try:
        yield server
    finally:
        server.close()


@contextlib.contextmanager
def elsewhere(*scripts: Script) -> Iterator[str]:
    """Give the DSN of a server that plays *scripts* in a process of its own."""
    with elsewhere_watched(*scripts) as (its_dsn, _):
        yield its_dsn


@contextlib.contextmanager
def elsewhere_watched(*scripts: Script) -> Iterator[tuple[str, Callable[[], object]]]:
    """Give the DSN of such a server, and a function that blocks until it says the last that a script says."""
    program = "from support.servers.wrong_server import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(base64.b64encode(pickle.dumps(scripts)).decode() + "\n")
        process.stdin.flush()
        try:
            yield dsn(int(process.stdout.readline())), process.stdout.readline
        finally:
            process.kill()


def main() -> None:
    """Play the scripts that standard input gives until it closes; print the port, a line for each last."""
    global on_the_last  # noqa: PLW0603
    server = WrongServer(pickle.loads(base64.b64decode(sys.stdin.readline())))
    print(server.port, flush=True)
    on_the_last = lambda: print(flush=True)  # noqa: E731
    gevent.get_hub().threadpool.apply(sys.stdin.read)
