"""What the run's own process writes to the logs, over the sessions that are under attack."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence

from gevent.event import Event

import pglisten
from pglisten import EventLog
from support.chaos.log_servers import LogServers
from support.chaos.log_writers import Transaction


class OwnWrites:
    """Appends and trims, until `stop`."""

    def __init__(
        self,
        logs: Mapping[str, EventLog],
        channels: Sequence[str],
        servers: LogServers,
        seed: int,
        note: Callable[[str], None],
    ) -> None:
        self.said: list[Transaction] = []
        self.trimmed = 0
        self._logs = logs
        self._names = list(logs)
        self._channels = channels
        self._servers = servers
        self._seed = seed
        self._note = note
        self._stopping = Event()

    def stop(self) -> None:
        self._stopping.set()

    def append(self) -> None:
        """Append entries with ``append()``."""
        rng, number = random.Random(f"{self._seed} appends"), 0
        while not self._stopping.wait(rng.uniform(0.0, 0.1)):
            number += 1
            said = Transaction(time.monotonic(), [f"own/{number}"])
            with self._servers.held_up():
                said.began = time.monotonic()
                try:
                    self._logs[rng.choice(self._names)].append(
                        rng.choice(self._channels), said.payloads[0], timeout=2.0
                    )
                except (pglisten.NotConnected, pglisten.ServerError):
                    continue  # Certainly not committed.
                except (pglisten.ConnectionLost, pglisten.OperationTimeout):
                    self.said.append(said)
                    continue
            said.committed = time.monotonic()
            self.said.append(said)

    def trim(self) -> None:
        """Trim, more or less."""
        rng = random.Random(f"{self._seed} trims")
        while not self._stopping.wait(rng.uniform(0.1, 0.5)):
            with self._servers.held_up():
                try:
                    keep = rng.choice((50, 200, 1000, 10_000))
                    self.trimmed += self._logs[rng.choice(self._names)].trim(keep=keep, timeout=2.0)
                except (pglisten.NotConnected, pglisten.ConnectionLost, pglisten.OperationTimeout):
                    pass
                except pglisten.ServerError as error:
                    if error.sqlstate[:2] not in ("25", "57"):
                        self._note(f"trim raised {error!r}")
