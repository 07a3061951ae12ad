"""One connection through the proxy, and how the bytes of each direction are treated.

Sockets are closed in one order everywhere: end the greenlets that wait for a socket, then close it. Closing a
descriptor never wakes the greenlet that waits for it.
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
    """What the proxy does with arriving bytes."""

    PASS = enum.auto()
    HOLD = enum.auto()
    STALL = enum.auto()
    DROP = enum.auto()


class Flow:
    """The state of one direction, shared by all connections: its treatment, and what has arrived."""

    def __init__(self, on_data: Callable[[], None]) -> None:
        """Call *on_data* whenever bytes have arrived."""
        self.treatment = Treatment.PASS
        self.delay = 0.0
        self.piece: int | None = None
        self.cut_after: tuple[int, Ending] | None = None
        self.received = 0
        self.queries = 0
        self.on_data = on_data
        # Forwarders wait for `reading` before they read, and for `passing` before they pass on an end of
        # stream.
        self.reading = gevent.event.Event()
        self.passing = gevent.event.Event()
        self.treat(Treatment.PASS)

    def treat(self, treatment: Treatment) -> None:
        """Change the treatment of bytes that arrive from now on."""
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
        """Send to the socket that *destination* returns; *count* counts the queries in some bytes."""
        self.held = bytearray()
        self.stopped = False
        """Whether nothing may be sent any more."""
        self._flow = flow
        self._destination = destination
        self._end = end
        self._count = count
        # Guards the order of sent bytes, because `Proxy.release` sends too.
        self._sending = gevent.lock.BoundedSemaphore(1)

    def run(self, source: socket) -> None:
        """Pass on bytes until the stream ends. Raises OSError if either side fails."""
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
            # The stall may have begun during the read.
            flow.reading.wait()
            if flow.treatment is not Treatment.DROP:
                self.held += data
            flow.on_data()
            self.flush()
            # If neither socket makes it wait, an endless sender would keep other greenlets from running.
            let_others_run()
        # A network that passes no bytes does not pass a FIN either.
        flow.passing.wait()
        self.flush()

    def flush(self) -> None:
        """Send the held bytes, if the flow passes bytes on."""
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
                # Let a reader in this process see the piece before the next one follows. sleep(0) is not
                # enough: the loop runs such callbacks repeatedly before it polls any socket.
                gevent.idle()
        if ending is not None:
            self._end(ending)


class ProxiedConnection:
    """A client's connection, and the connection to the server that belongs to it."""

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
        # Small segments must be sent at once; otherwise the kernel would join the pieces again.
        client.setsockopt(gevent.socket.IPPROTO_TCP, gevent.socket.TCP_NODELAY, 1)
        self._running: list[gevent.Greenlet[[], None]] = [gevent.spawn(self._run_up)]
        self._supervisor: gevent.Greenlet[[], None] = gevent.spawn(self._supervise)

    @property
    def ended(self) -> bool:
        """Whether nothing passes any more, even if the client has not noticed yet."""
        return self._ending.ready()

    def forwarders(self, direction: Direction) -> list[Forwarder]:
        """Return the forwarders of one direction, or of both."""
        return [forwarder for way, forwarder in self._forwarders.items() if way & direction]

    def end(self, ending: Ending) -> None:
        """End the connection, for the client by FIN or RST; the first call decides."""
        if not self.ended:
            for forwarder in self._forwarders.values():
                forwarder.stopped = True
            self._ending.set(ending)

    def release(self, direction: Direction) -> None:
        """Send the held bytes."""
        try:
            for forwarder in self.forwarders(direction):
                forwarder.flush()
        except OSError:
            self.end("rst")

    def close(self) -> None:
        """End all greenlets and close both sockets."""
        gevent.killall([self._supervisor, *self._running])
        self._close_server()
        self._client.close()
        self._on_closed(self)

    def _connect(self) -> socket:
        """Return the connection to the server; connect if there is none."""
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
                # The server may still send; its end of stream then ends the connection.
                self._server.shutdown(gevent.socket.SHUT_WR)
        except OSError:
            # After an error of either side, the other side cannot use the connection.
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
        with contextlib.suppress(OSError):  # the client may have disconnected
            if ending == "fin":
                # close() would send RST if unread bytes had arrived: so send FIN, and read them.
                self._client.shutdown(gevent.socket.SHUT_WR)
                while self._client.recv(_CHUNK):
                    let_others_run()
            else:
                # Linger for 0 s: the kernel discards unsent bytes and sends RST.
                no_linger = struct.pack("ii", 1, 0)
                self._client.setsockopt(gevent.socket.SOL_SOCKET, gevent.socket.SO_LINGER, no_linger)
        self._client.close()
        self._on_closed(self)

    def _close_server(self) -> None:
        if self._server is not None:
            self._server.close()
