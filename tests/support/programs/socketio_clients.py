"""Socket.IO clients that say numbers, and report what each of them has heard.

    socketio_clients.py PORT CLIENTS COUNT

Lines on stdout: the process ids of the workers, when all clients are connected; ``half``, when half of it has
been heard; at the end, what each client has heard. It begins to talk at a line on stdin.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402
import socketio  # noqa: E402
from gevent.event import Event  # noqa: E402

PORT, CLIENTS, COUNT = map(int, sys.argv[1:])
LONG = 60


class Client:
    """One client, which may be on any worker."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.said: list[Any] = []
        self.blobs: list[int] = []
        self.answers: list[str] = []
        self.changed = Event()
        self.io = socketio.Client(reconnection=False)
        self.io.on("said", self._note(self.said))
        self.io.on("blob", lambda data: self._note(self.blobs)(len(data)))
        self.io.on("answer", self._note(self.answers))
        self.io.on("question", lambda: name)
        self.io.connect(f"http://127.0.0.1:{PORT}", transports=["websocket"])
        self.pid = self.io.call("join", name, timeout=LONG)

    def _note(self, heard: list[Any]) -> Any:
        def note(data: Any) -> None:
            heard.append(data)
            self.changed.set()

        return note

    def talk(self) -> None:
        for number in range(COUNT):
            self.io.call("say", [self.name, number], timeout=LONG)

    def has_all(self) -> bool:
        return len(self.said) >= CLIENTS * COUNT and len(self.answers) >= 1 and len(self.blobs) >= 2

    def wait(self, condition: Any) -> None:
        with gevent.Timeout(LONG, TimeoutError(f"{self.name}: {len(self.said)}, {self.blobs}")):
            while not condition():
                self.changed.clear()
                self.changed.wait()


def main() -> None:
    clients = [Client("c0")]
    # One worker may accept all connections, so this one accepts no others for a moment.
    os.kill(clients[0].pid, signal.SIGSTOP)
    clients.append(Client("c1"))
    os.kill(clients[0].pid, signal.SIGCONT)
    clients += [Client(f"c{number}") for number in range(2, CLIENTS)]
    print(json.dumps(sorted({client.pid for client in clients})), flush=True)
    sys.stdin.readline()
    talks = [gevent.spawn(client.talk) for client in clients]
    first = clients[0]
    first.wait(lambda: len(first.said) >= CLIENTS * COUNT // 2)
    print("half", flush=True)
    gevent.joinall(talks, raise_error=True)
    sys.stdin.readline()
    elsewhere = next(client for client in clients if client.pid != first.pid)
    first.io.emit("ask", elsewhere.name)
    for client in clients:
        client.wait(client.has_all)
    first.io.emit("end", elsewhere.io.get_sid())
    with gevent.Timeout(LONG):
        elsewhere.io.wait()
    print(json.dumps([[client.said, client.answers, client.blobs] for client in clients]), flush=True)
    for client in clients:
        client.io.disconnect()


if __name__ == "__main__":
    main()
