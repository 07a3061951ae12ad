"""One connection through the proxy, and what is done to the bytes of each direction.

Sockets are closed in one order everywhere: first the greenlets that wait on them, then they. A
descriptor closed under a waiting greenlet never wakes it.
"""

from __future__ import annotations

import contextlib
import enum
import struct
from collections.abc import Callable
from typing import Literal

import gevent
import gevent.event
import gevent.lock
import gevent.socket
from gevent.socket import socket

from .._greenlet import let_others_run
from ._proxy_wire import QueryCounter

__all__ = [
    "BOTH",
    "DOWN",
    "UP",
    "Address",
    "Direction",
    "Ending",
    "Flow",
    "Forwarder",
    "ProxiedConnection",
    "Treatment",
]

Address = tuple[str, int] | str
"""Host and port, or the path of a Unix socket."""

Ending = Literal["fin", "rst"]

_CHUNK = 65536
"""Bytes read at once: what a socket's buffer usually holds."""


class Direction(enum.Flag):
    """Which way bytes go."""

    UP = enum.auto()
    DOWN = enum.auto()


UP, DOWN, BOTH = Direction.UP, Direction.DOWN, Direction.UP | Direction.DOWN


class Treatment(enum.Enum):
    """What happens to bytes that come."""

    PASS = enum.auto()
    HOLD = enum.auto()
    STALL = enum.auto()
    DROP = enum.auto()


class Flow:
    """One direction of all connections: how it is treated, and what has come."""

    def __init__(self, on_data: Callable[[], None]) -> None:
        """Call *on_data* whenever something has come."""
        self.treatment = Treatment.PASS
        self.delay = 0.0
        self.piece: int | None = None
        self.cut_after: tuple[int, Ending] | None = None
        self.received = 0
        self.queries = 0
        self.on_data = on_data
        # What pumps wait for: that they may read, and that they may pass on the end of a stream.
        self.reading = gevent.event.Event()
        self.passing = gevent.event.Event()
        self.treat(Treatment.PASS)

    def treat(self, treatment: Treatment) -> None:
        """Change the treatment of what comes from now on."""
        self.treatment = treatment
        for event, is_set in (
            (self.reading, treatment is not Treatment.STALL),
            (self.passing, treatment is Treatment.PASS),
        ):
            if is_set:
                event.set()
            else:
                event.clear()


class Forwarder:
    """Moves one connection's bytes in one direction."""

    def __init__(
        self,
        flow: Flow,
        destination: Callable[[], socket],
        end: Callable[[Ending], None],
        count: Callable[[bytes], int],
    ) -> None:
        """Send to the socket that *destination* returns; *count* tells the questions among bytes."""
        self.held = bytearray()
        self.stopped = False
        """No byte is sent any more."""
        self._flow = flow
        self._destination = destination
        self._end = end
        self._count = count
        # Guards the order of what is sent: `Proxy.release` sends too.
        self._sending = gevent.lock.BoundedSemaphore(1)

    def run(self, source: socket) -> None:
        """Pass on what comes until the stream ends; OSError if either side breaks."""
        flow = self._flow
        while True:
            flow.reading.wait()
            data = source.recv(_CHUNK)
            if not data:
                break
            flow.received += len(data)
            flow.queries += self._count(data)
            if flow.delay:
                gevent.sleep(flow.delay)
            # The read may have been under way when the stall began.
            flow.reading.wait()
            if flow.treatment is not Treatment.DROP:
                self.held += data
            flow.on_data()
            self.flush()
            # Where neither socket makes it wait, a peer that never stops would keep others from running.
            let_others_run()
        # A network that passes no bytes passes no FIN either.
        flow.passing.wait()
        self.flush()

    def flush(self) -> None:
        """Send what is held, if the flow is passing."""
        with self._sending:
            while self._flow.treatment is Treatment.PASS and self.held and not self.stopped:
                data = bytes(self.held)
                self.held.clear()
                self._send(data)

    def _send(self, data: bytes) -> None:
        flow = self._flow
        ending: Ending | None = None
        if flow.cut_after is not None:
            remaining, ending = flow.cut_after
            if len(data) >= remaining:
                data, flow.cut_after = data[:remaining], None
            else:
                flow.cut_after, ending = (remaining - len(data), ending), None
        destination = self._destination()
        size = flow.piece or len(data) or 1
        for start in range(0, len(data), size):
            destination.sendall(data[start : start + size])
            if flow.piece:
                # Let a reader in this process see the piece before the next one joins it. sleep(0) would
                # not: the loop runs such callbacks again and again before it looks at any socket.
                gevent.idle()
        if ending is not None:
            self._end(ending)


class ProxiedConnection:
    """A client's connection and the one to the server that belongs to it."""

    def __init__(
        self,
        client: socket,
        server: Address,
        flows: dict[Direction, Flow],
        on_closed: Callable[[ProxiedConnection], None],
    ) -> None:
        """Start to forward; call *on_closed* when neither greenlets nor sockets are left."""
        self._client = client
        self._address = server
        self._server: socket | None = None
        self._forwarders = {
            UP: Forwarder(flows[UP], self._connect, self.end, QueryCounter().feed),
            DOWN: Forwarder(flows[DOWN], lambda: client, self.end, lambda data: 0),
        }
        self._on_closed = on_closed
        self._ending: gevent.event.AsyncResult[Ending] = gevent.event.AsyncResult()
        # Small segments must leave at once, or pieces would be joined again.
        client.setsockopt(gevent.socket.IPPROTO_TCP, gevent.socket.TCP_NODELAY, 1)
        self._running: list[gevent.Greenlet[[], None]] = [gevent.spawn(self._run_up)]
        self._supervisor: gevent.Greenlet[[], None] = gevent.spawn(self._supervise)

    @property
    def ended(self) -> bool:
        """Whether nothing passes any more, though the client may not have noticed."""
        return self._ending.ready()

    def forwarders(self, direction: Direction) -> list[Forwarder]:
        """Return the pumps of a direction, or of both."""
        return [forwarder for way, forwarder in self._forwarders.items() if way & direction]

    def end(self, ending: Ending) -> None:
        """End the connection, for the client by FIN or RST; the first call decides."""
        if not self.ended:
            for forwarder in self._forwarders.values():
                forwarder.stopped = True
            self._ending.set(ending)

    def release(self, direction: Direction) -> None:
        """Send what was held."""
        try:
            for forwarder in self.forwarders(direction):
                forwarder.flush()
        except OSError:
            self.end("rst")

    def close(self) -> None:
        """Leave no greenlet and no socket."""
        gevent.killall([self._supervisor, *self._running])
        self._close_server()
        self._client.close()
        self._on_closed(self)

    def _connect(self) -> socket:
        """Return the connection to the server, made now if there is none."""
        if self._server is None:
            if isinstance(self._address, str):
                server = socket(gevent.socket.AF_UNIX)
                try:
                    server.connect(self._address)
                except BaseException:
                    server.close()
                    raise
            else:
                server = gevent.socket.create_connection(self._address)
                server.setsockopt(gevent.socket.IPPROTO_TCP, gevent.socket.TCP_NODELAY, 1)
            self._server = server
            self._running += [gevent.spawn(self._run_down)]
        return self._server

    def _run_up(self) -> None:
        try:
            self._forwarders[UP].run(self._client)
            if self._server is None:
                self.end("fin")
            else:
                # The server may still have something to say; its own end then is the end.
                self._server.shutdown(gevent.socket.SHUT_WR)
        except OSError:
            # Whichever side broke, the connection is of no use to the other.
            self.end("rst")

    def _run_down(self) -> None:
        try:
            self._forwarders[DOWN].run(self._connect())
            self.end("fin")
        except OSError:
            self.end("rst")

    def _supervise(self) -> None:
        ending = self._ending.get()
        gevent.killall(self._running)
        self._close_server()
        with contextlib.suppress(OSError):  # the client may be gone
            if ending == "fin":
                # close() would send RST if something unread had come: so say FIN, and read it.
                self._client.shutdown(gevent.socket.SHUT_WR)
                while self._client.recv(_CHUNK):
                    let_others_run()
            else:
                # On, and no time to linger: what is unsent is thrown away and RST is sent.
                no_linger = struct.pack("ii", 1, 0)
                self._client.setsockopt(gevent.socket.SOL_SOCKET, gevent.socket.SO_LINGER, no_linger)
        self._client.close()
        self._on_closed(self)

    def _close_server(self) -> None:
        if self._server is not None:
            self._server.close()
