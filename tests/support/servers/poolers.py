"""Connection poolers that run in the tests' own process, in front of a real server.

Each answers as the program of its name does where it matters for LISTEN. `PgDogLike` follows PgDog's source,
and `OdysseyLike` what Odyssey 1.5 was seen to do; PgBouncer also runs itself, in the tests with the fixture
``pgbouncer``. They speak the simple query protocol. Clients need no password, and their sessions with the
server are the tests' own.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections import deque
from collections.abc import Iterator
from typing import ClassVar, TypeAlias

import gevent
from gevent import socket
from gevent.event import Event
from gevent.server import StreamServer

from pglisten._conninfo.dsn import keyword_string
from support.servers.control import connect
from support.servers.server import Server
from support.servers.wrong_server import READY, STATUS, authentication, error, message
from support.timeouts import TIMEOUT

SSL_REQUEST = (80877103).to_bytes(4, "big")
OPTIONS = re.compile(rb"\0options\0([^\0]*)\0")
DATABASE = re.compile(rb"\0database\0([^\0]*)\0")

Message: TypeAlias = tuple[bytes, bytes]
"""The type of a message, and the whole message."""


class Upstream:
    """A session with the server that *server*'s driver has opened; from then on its socket is used here."""

    def __init__(self, server: Server) -> None:
        keywords = server.keywords | {"sslmode": "disable"}
        self._connection = gevent.get_hub().threadpool.apply(connect, (keywords,))
        # pg8000 keeps its socket to itself.
        descriptor = getattr(self._connection, "_usock", self._connection).fileno()
        self._socket = socket.socket(fileno=os.dup(descriptor))
        self._buffer = b""

    def messages(self) -> Iterator[Message]:
        """Give the messages that come, and wait for them; end when the session ends."""
        while True:
            while len(self._buffer) < 5 or len(self._buffer) < self._size:
                piece = self._socket.recv(65536)
                if not piece:
                    return
                self._buffer += piece
            found, self._buffer = self._buffer[: self._size], self._buffer[self._size :]
            yield found[:1], found

    @property
    def _size(self) -> int:
        return 1 + int.from_bytes(self._buffer[1:5], "big")

    def send(self, sql: bytes) -> None:
        self._socket.sendall(message(b"Q", sql + b"\0"))

    def ask(self, sql: bytes) -> Iterator[Message]:
        """Run a query; give the messages of the reply, ReadyForQuery too."""
        self.send(sql)
        for kind, data in self.messages():
            yield kind, data
            if kind == b"Z":
                return

    def drop_what_came(self) -> None:
        """Forget the notifications that came while the session was idle."""
        self._socket.setblocking(False)
        try:
            while self._socket.recv(65536):
                pass
        except BlockingIOError:
            pass
        finally:
            self._socket.setblocking(True)

    def close(self) -> None:
        self._socket.close()
        # The driver may wait when it closes.
        gevent.get_hub().threadpool.apply(self._connection.close)


class Client:
    """One client's connection."""

    def __init__(self, connection: socket.socket, pid: int) -> None:
        self.connection = connection
        self.pid = pid
        self.channels: set[bytes] = set()

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.connection.recv(size - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def say(self, *messages: bytes) -> None:
        self.connection.sendall(b"".join(messages))


class PoolerLike:
    """A pooler in transaction mode: each query runs in the session of the pool that was idle longest.

    *sessions* is how many the pool has. With one, all clients share it.
    """

    sessions: ClassVar[int] = 1
    after_each: ClassVar[bytes] = b""
    """SQL that it runs in a session before it gives it back to the pool."""

    def __init__(self, server: Server) -> None:
        self.queries: list[bytes] = []
        self._idle = deque(Upstream(server) for _ in range(self.sessions))
        self._all = list(self._idle)
        self._given_back = Event()
        self._pids = itertools.count(900001)
        self._keywords = server.keywords
        self._server = StreamServer(("127.0.0.1", 0), self._serve)
        self._server.start()
        self._clients: list[Client] = []

    def dsn(self, **keywords: object) -> str:
        """A connection string that leads through it."""
        here = {"host": "127.0.0.1", "port": self._server.address[1], "sslmode": "disable"}
        return keyword_string(self._keywords | here | keywords)

    def close(self) -> None:
        self._server.stop(timeout=0)
        for client in self._clients:
            client.connection.close()
        for upstream in self._all:
            upstream.close()

    def refusal(self, startup: bytes) -> bytes:
        """What it says to a login that it refuses; nothing to others."""
        raise NotImplementedError

    def answer(self, client: Client, sql: bytes) -> None:
        """Run *sql* in a session of the pool."""
        with self._borrowed() as upstream:
            upstream.drop_what_came()
            for _, data in upstream.ask(sql):
                client.say(data)
            for _ in upstream.ask(self.after_each) if self.after_each else ():
                pass

    @contextlib.contextmanager
    def _borrowed(self) -> Iterator[Upstream]:
        with gevent.Timeout(TIMEOUT):
            while not self._idle:
                self._given_back.clear()
                self._given_back.wait()
        upstream = self._idle.popleft()
        try:
            yield upstream
        finally:
            self._idle.append(upstream)
            self._given_back.set()

    def _serve(self, connection: socket.socket, _address: object) -> None:
        client = Client(connection, next(self._pids))
        self._clients.append(client)
        with contextlib.suppress(OSError, EOFError):
            self._talk(client)
        self._clients.remove(client)
        connection.close()

    def _talk(self, client: Client) -> None:
        startup = client.read(int.from_bytes(client.read(4), "big") - 4)
        if startup == SSL_REQUEST:
            client.say(b"N")
            startup = client.read(int.from_bytes(client.read(4), "big") - 4)
        if refusal := self.refusal(startup):
            client.say(refusal)
            return
        key = message(b"K", client.pid.to_bytes(4, "big") + bytes(4))
        client.say(authentication(0), STATUS, key, READY)
        while True:
            kind, size = client.read(1), int.from_bytes(client.read(4), "big")
            body = client.read(size - 4)
            if kind == b"X":
                return
            assert kind == b"Q", kind
            self.queries.append(body[:-1])
            self.answer(client, body[:-1])


class PgBouncerLike(PoolerLike):
    """PgBouncer in transaction mode: LISTEN stays, and notifications for an idle session are dropped."""

    def refusal(self, startup: bytes) -> bytes:
        refused = OPTIONS.search(startup) is not None
        return error("FATAL", "08P01", "unsupported startup parameter: options") if refused else b""


class BusyPgBouncerLike(PgBouncerLike):
    """The same with two sessions in the pool, which take turns."""

    sessions = 2


class OdysseyLike(PoolerLike):
    """Odyssey in transaction mode: its smart discard ends LISTEN after each transaction."""

    after_each = b"RESET ALL;UNLISTEN *;DISCARD PLANS"

    def refusal(self, startup: bytes) -> bytes:
        found = DATABASE.search(startup)
        known = found is None or found[1].decode() == self._keywords["dbname"]
        return b"" if known else error("ERROR", "08000", "odyssey: c1a2b3: route for 'x.y' is not found")


class PgDogLike(PoolerLike):
    """PgDog in transaction mode, with its own LISTEN and NOTIFY.

    It looks at the first statement of a query. If that is LISTEN, UNLISTEN or NOTIFY, it acknowledges that at
    once, carries it out later in a session of its own, and forgets the rest of the query.
    """

    def __init__(self, server: Server) -> None:
        self._pub_sub = Upstream(server)
        super().__init__(server)
        self._reader = gevent.spawn(self._pass_on)

    def close(self) -> None:
        self._reader.kill()
        super().close()
        self._pub_sub.close()

    def refusal(self, startup: bytes) -> bytes:
        found = DATABASE.search(startup)
        known = found is None or found[1].decode() == self._keywords["dbname"]
        text = 'password for user "x" and database "y" is wrong, or the database does not exist'
        return b"" if known else error("FATAL", "28000", text)

    def answer(self, client: Client, sql: bytes) -> None:
        first = re.match(rb'\s*(LISTEN|UNLISTEN|NOTIFY) "?([^";,]*)"?[^;]*', sql)
        if first is None:
            super().answer(client, sql)
            return
        tag, channel = first[1], first[2]
        if tag == b"LISTEN":
            client.channels.add(channel)
        elif tag == b"UNLISTEN":
            client.channels.discard(channel)
        if tag != b"UNLISTEN":
            self._pub_sub.send(first[0])
        client.say(message(b"C", tag + b"\0"), READY)

    def _pass_on(self) -> None:
        for kind, data in self._pub_sub.messages():
            if kind == b"A":
                channel = data[9 : data.index(b"\0", 9)]
                for client in self._clients:
                    if channel in client.channels:
                        client.say(data)
