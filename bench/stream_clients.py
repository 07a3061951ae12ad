"""The clients of event streams, read with epoll."""

from __future__ import annotations

import resource
import select
import socket
import time
from collections.abc import Callable

from bench.peers.script import CHANNEL
from bench.process import PeerFailed

REQUEST = f"GET /?channel={CHANNEL} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
TIMEOUT = 120.0

ANSWERED_TOGETHER = 100
"""Requests that are sent before their answers are read."""


class Clients:
    """Open streams. With *answers_at_once*, an answer begins when the stream is open, not with an event."""

    def __init__(self, port: int, *, answers_at_once: bool) -> None:
        self._port = port
        self._answers_at_once = answers_at_once
        self._epoll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._tails: dict[int, bytes] = {}

    def open(self, count: int) -> None:
        """Open *count* streams."""
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        while len(self._sockets) < count:
            fresh = [self._request() for _ in range(min(ANSWERED_TOGETHER, count - len(self._sockets)))]
            if self._answers_at_once:
                for client in fresh:
                    self._await_answer(client)
            for client in fresh:
                client.setblocking(False)
                self._sockets[client.fileno()] = client
                self._tails[client.fileno()] = b""
                self._epoll.register(client.fileno(), select.EPOLLIN)

    def _request(self) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self._port), timeout=TIMEOUT)
        client.sendall(REQUEST)
        return client

    @staticmethod
    def _await_answer(client: socket.socket) -> None:
        head = b""
        while b"\n\n" not in head.partition(b"\r\n\r\n")[2]:
            piece = client.recv(4096)
            head += piece
            if not piece or not head.startswith(b"HTTP/1.1 200"):
                raise PeerFailed(f"no stream: {head[:80]!r}")

    def until(self, condition: Callable[[], bool]) -> None:
        """Ask again until *condition* is true."""
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            if time.monotonic() > deadline:
                raise PeerFailed("not all streams were opened")

    def until_all(self, mark: str) -> list[float]:
        """Return the moment when each client had all of *mark*."""
        data = mark.encode()
        moments: dict[int, float] = {}
        deadline = time.monotonic() + TIMEOUT
        while len(moments) < len(self._sockets):
            if time.monotonic() > deadline:
                raise PeerFailed(f"{len(self._sockets) - len(moments)} clients have waited in vain")
            for number, _ in self._epoll.poll(1.0):
                piece = self._sockets[number].recv(1 << 16)
                if not piece:
                    raise PeerFailed("a stream has ended")
                if data in self._tails[number] + piece:
                    moments[number] = time.perf_counter()
                self._tails[number] = piece[-len(data) :]
        return list(moments.values())

    def close(self) -> None:
        """End the streams."""
        self._epoll.close()
        for client in self._sockets.values():
            client.close()
