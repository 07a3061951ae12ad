"""A TCP proxy that simulates a failing network, for tests.

The two directions are controlled separately: ``UP`` is from client to server, ``DOWN`` from server to client.
A new proxy passes everything on at once. It runs in greenlets of the process that made it.

A proxy cannot lose packets, because its kernel acknowledges even dropped bytes. The test is harder that way:
TCP keepalive does not notice the loss.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

import gevent
import gevent.event
import gevent.socket

from ._proxy_link import BOTH, DOWN, UP, Address, Direction, Ending, Flow, ProxiedConnection, Treatment

__all__ = ["BOTH", "DOWN", "UP", "Address", "Direction", "Ending", "Proxy"]

_BACKLOG = 128
"""Connections that may wait to be accepted; the traditional limit of the kernel (net.core.somaxconn)."""


class Proxy:
    """Pass TCP connections to a server through a network that the test controls.

    *server* is a host and port, or the path of a Unix socket. The proxy listens from the start, on
    127.0.0.1 and *port* (0: any free port). It connects to the server only to pass on a client's first bytes:
    with ``hold(UP)`` or ``drop(UP)`` it accepts the client and never connects. A context manager.
    """

    def __init__(self, server: Address, *, port: int = 0) -> None:
        self._server = server
        self.host = "127.0.0.1"
        self.port = port
        """Does not change with `refuse` and `accept`."""
        self.connections = 0
        """Accepted so far."""
        self._flows = {UP: Flow(self._notice_change), DOWN: Flow(self._notice_change)}
        self._open_connections: set[ProxiedConnection] = set()
        self._changed = gevent.event.Event()
        self._acceptor: gevent.Greenlet[[], None] | None = None
        self._socket = self._bound()
        self.port = self._socket.getsockname()[1]
        self.accept()

    def __repr__(self) -> str:
        up, down = (flow.treatment.name.lower() for flow in self._flows.values())
        state = "accepting" if self._acceptor else "refusing"
        return f"<Proxy {self.host}:{self.port} {state} up={up} down={down} links={self.links}>"

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # What has passed.

    @property
    def queries(self) -> int:
        """Simple queries and Syncs of clients so far: each is a round trip.

        Start-up and authentication do not count. Encrypted queries cannot be counted.
        """
        return self._flows[UP].queries

    @property
    def bytes_up(self) -> int:
        """Bytes received from clients, passed on or not."""
        return self._flows[UP].received

    @property
    def bytes_down(self) -> int:
        """Bytes received from the server, passed on or not."""
        return self._flows[DOWN].received

    def held(self, direction: Direction = DOWN) -> bytes:
        """Return the bytes that `hold` has kept, of all connections."""
        return b"".join(
            bytes(forwarder.held)
            for connection in self._open_connections
            for forwarder in connection.forwarders(direction)
        )

    @property
    def links(self) -> int:
        """Connections that are open now."""
        return sum(not connection.ended for connection in self._open_connections)

    def wait_until(self, condition: Callable[[], bool], timeout: float = 10.0) -> None:
        """Wait until *condition* is true; call it whenever bytes arrive, or a connection opens or closes.

        Raises TimeoutError after *timeout* seconds.
        """
        with gevent.Timeout(timeout, TimeoutError(f"not within {timeout:g} s: {self!r}")):
            while not condition():
                self._changed.clear()
                self._changed.wait()

    # The network.

    def hold(self, direction: Direction = BOTH) -> None:
        """Keep arriving bytes until `release`, which delivers them in one piece."""
        self._treat(direction, Treatment.HOLD)

    def stall(self, direction: Direction = BOTH) -> None:
        """Stop reading until `release`: the sender's TCP window closes, as if the receiver hung."""
        self._treat(direction, Treatment.STALL)

    def drop(self, direction: Direction = BOTH) -> None:
        """Discard arriving bytes. Open connections cannot be used in that direction afterwards."""
        self._treat(direction, Treatment.DROP)

    def release(self, direction: Direction = BOTH) -> None:
        """Deliver the held bytes, and pass on what arrives."""
        self._treat(direction, Treatment.PASS)
        for connection in list(self._open_connections):
            connection.release(direction)

    def delay(self, seconds: float, direction: Direction = BOTH) -> None:
        """Pass everything on after *seconds*; 0 ends the delay."""
        for flow in self._select(direction):
            flow.delay = seconds

    def split(self, size: int | None, direction: Direction = BOTH) -> None:
        """Pass on at most *size* bytes at a time, each piece in a segment of its own; ``None`` ends that."""
        for flow in self._select(direction):
            flow.piece = size

    def cut(self, ending: Ending = "fin") -> None:
        """End all open connections: for the client by FIN or RST, for the server by FIN."""
        for connection in list(self._open_connections):
            connection.end(ending)

    def cut_after(self, size: int | None, ending: Ending = "fin", direction: Direction = DOWN) -> None:
        """`cut` after *size* more bytes, even within a message; ``None`` cancels that."""
        for flow in self._select(direction):
            flow.cut_after = None if size is None else (size, ending)

    def refuse(self) -> None:
        """Refuse new connections until `accept`; open connections stay."""
        if self._acceptor is not None:
            # End the greenlet first: closing its descriptor would never wake it.
            self._acceptor.kill()
            self._acceptor = None
            self._socket.close()
            # A socket that is bound and does not listen refuses connections and keeps the port. Otherwise a
            # client could be given this port as its own, and connect to itself.
            self._socket = self._bound()

    def accept(self) -> None:
        """Accept new connections again, on the same port."""
        if self._acceptor is None:
            self._socket.listen(_BACKLOG)
            self._acceptor = gevent.spawn(self._accept_all)

    def _bound(self) -> gevent.socket.socket:
        bound = gevent.socket.socket()
        try:
            # Earlier connections may still be in TIME_WAIT on the port.
            bound.setsockopt(gevent.socket.SOL_SOCKET, gevent.socket.SO_REUSEADDR, 1)
            bound.bind((self.host, self.port))
        except BaseException:
            bound.close()
            raise
        return bound

    def close(self) -> None:
        """End all connections, greenlets and sockets. Idempotent."""
        if self._acceptor is not None:
            self._acceptor.kill()
            self._acceptor = None
        self._socket.close()
        for connection in list(self._open_connections):
            connection.close()

    def _accept_all(self) -> None:
        while True:
            client, _ = self._socket.accept()
            self.connections += 1
            connection = ProxiedConnection(client, self._server, self._flows, self._closed)
            self._open_connections.add(connection)
            self._notice_change()

    def _closed(self, connection: ProxiedConnection) -> None:
        self._open_connections.discard(connection)
        self._notice_change()

    def _notice_change(self) -> None:
        self._changed.set()

    def _treat(self, direction: Direction, treatment: Treatment) -> None:
        for flow in self._select(direction):
            flow.treat(treatment)

    def _select(self, direction: Direction) -> list[Flow]:
        return [flow for way, flow in self._flows.items() if way & direction]
