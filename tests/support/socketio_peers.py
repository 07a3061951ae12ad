"""Socket.IO servers in the process of a test, and what their clients get."""

from __future__ import annotations

from typing import Any

import gevent
import socketio

from pglisten.socketio import PgManager
from support.timeouts import TIMEOUT

__all__ = ["Peer"]


class Peer:
    """A server with *manager*, and clients. The network between them is left out, and nothing else."""

    def __init__(self, manager: PgManager) -> None:
        self.manager = manager
        self.server = socketio.Server(async_mode="gevent", client_manager=manager, namespaces="*")
        self.received: dict[str, list[Any]] = {}
        """What each client has got: an event is the list of its name and arguments."""
        self._binary: dict[str, Any] = {}
        self.server.eio.send_packet = lambda name, packet: self._deliver(name, packet.data)
        self.server.eio.send = self._deliver

    def connect(self, name: str, namespace: str = "/") -> str:
        """Connect a client; return its sid."""
        self.received.setdefault(name, [])
        if name not in self.server.environ:
            self.server._handle_eio_connect(name, {})
        self.server._handle_eio_message(name, "0" if namespace == "/" else f"0{namespace},")
        return str(self.server.manager.sid_from_eio_sid(name, namespace))

    def acknowledge(self, name: str, number: int, *arguments: str) -> None:
        """Have a client answer the event *number*."""
        said = ",".join(f'"{argument}"' for argument in arguments)
        self.server._handle_eio_message(name, f"3{number}[{said}]")

    def wait(self, name: str, count: int) -> list[Any]:
        """Return what the client has got, when that is as much as *count*."""
        with gevent.Timeout(TIMEOUT, TimeoutError(f"{name} has {self.received[name]}")):
            while len(self.received[name]) < count:
                gevent.sleep(0.002)
        return self.received[name]

    def _deliver(self, name: str, data: str | bytes) -> None:
        if isinstance(data, bytes):
            if self._binary[name].add_attachment(data):
                self.received[name].append(self._binary.pop(name).data)
            return
        decoded = socketio.packet.Packet(encoded_packet=data)
        if decoded.packet_type == socketio.packet.BINARY_EVENT:
            self._binary[name] = decoded
        elif decoded.packet_type == socketio.packet.EVENT:
            self.received[name].append(decoded.data if decoded.id is None else [*decoded.data, decoded.id])
        elif decoded.packet_type == socketio.packet.DISCONNECT:
            self.received[name].append("disconnected")
