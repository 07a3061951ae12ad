"""Backends change no process-wide state: no thread ever sees a changed registry."""

from __future__ import annotations

import codecs
import locale
import logging
import os
import signal
import socket
import sys
import warnings
from types import FrameType
from typing import Any

from gevent import monkey

from pglisten import ListenerConnection
from support.servers.server import PrivateServer

# In a patched process, the public functions start greenlets.
start_new_thread = monkey.get_original("_thread", "start_new_thread")
allocate_lock = monkey.get_original("_thread", "allocate_lock")

SIGNALS = tuple(signal.valid_signals())
LIMIT = 20.0
"""Limit in seconds for operations that take milliseconds."""


def _registries(backend_name: str) -> dict[str, Any]:
    """Return the process-wide settings of the driver and of the standard library."""
    if backend_name == "psycopg2":
        from psycopg2 import extensions

        of_the_driver = {
            "encodings": dict(extensions.encodings),
            "types": dict(extensions.string_types),
            "binary types": dict(extensions.binary_types),
            "adapters": dict(extensions.adapters),
            "wait callback": extensions.get_wait_callback(),
        }
    elif backend_name == "psycopg":
        import psycopg

        adapters: Any = psycopg.adapters
        of_the_driver = {
            "types": list(adapters.types),
            "dumpers": {key: dict(found) for key, found in adapters._dumpers.items()},
            "loaders": [dict(found) for found in adapters._loaders],
        }
        assert all(of_the_driver.values())
    else:
        from pg8000 import converters

        of_the_driver = {
            name: dict(found)
            for name, found in vars(converters).items()
            if name.isupper() and isinstance(found, dict)
        }
        assert of_the_driver
    return of_the_driver | {
        "environment": dict(os.environ),
        "warnings": list(warnings.filters),
        "signals": [signal.getsignal(number) for number in SIGNALS],
        "logging": (logging.root.level, list(logging.root.handlers), logging.root.manager.disable),
        "socket timeout": socket.getdefaulttimeout(),
        "locale": locale.setlocale(locale.LC_ALL),
        "hooks": (sys.excepthook, sys.unraisablehook, sys.displayhook),
        "codec error handlers": [codecs.lookup_error(name) for name in ("strict", "replace")],
    }


class _Onlooker:
    """An OS thread that reads the registries whenever Python runs in the main thread, and keeps differences.

    The main thread waits for each look without the interpreter's lock, so the onlooker sees everything that
    another thread can see.
    """

    def __init__(self, backend_name: str) -> None:
        self.looks = 0
        self.differences: dict[str, Any] = {}
        self._name, self._before = backend_name, _registries(backend_name)
        self._wanted, self._done = allocate_lock(), allocate_lock()
        self._over = False

    def __enter__(self) -> _Onlooker:
        self._wanted.acquire()
        self._done.acquire()
        start_new_thread(self._run, ())
        sys.setprofile(self._look)
        return self

    def _run(self) -> None:
        while self._wanted.acquire() and not self._over:
            now = _registries(self._name)
            self.differences |= {name: now[name] for name in now if now[name] != self._before[name]}
            self.looks += 1
            self._done.release()

    def _look(self, _: FrameType, event: str, __: object) -> None:
        if event == "call":
            self._wanted.release()
            assert self._done.acquire(timeout=LIMIT)

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        self._over = True
        self._wanted.release()


def test_another_thread_never_sees_a_registry_changed(
    private_server: PrivateServer, backend_name: str
) -> None:
    # The server sends a WARNING at each login, as after an upgrade of the C library. So Python code runs
    # during psycopg2's poll.
    private_server.query("UPDATE pg_database SET datcollversion = '0'")
    ListenerConnection(
        private_server.dsn(), backend=backend_name
    ).close()  # After this, all imports are done.
    with (
        _Onlooker(backend_name) as onlooker,
        ListenerConnection(private_server.dsn(), backend=backend_name) as c,
    ):
        c.execute("LISTEN c; NOTIFY c, 'größer'", timeout=LIMIT)
        item = c.get(timeout=LIMIT)
    assert onlooker.differences == {}
    assert onlooker.looks > 100
    assert item is not None
    assert item.payload == "größer"
