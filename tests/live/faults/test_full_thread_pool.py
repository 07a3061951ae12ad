"""An application that keeps gevent's threads busy forever, and files that do not answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest

from pglisten import ConnectionFailed, ListenerConnection
from pglisten._conninfo import passfile as _passfile
from support.fixtures.listeners import MakeListener
from support.fixtures.servers import Server
from support.fixtures.tls import PASSWORD, TlsServer


@pytest.fixture
def full_pool() -> Iterator[None]:
    """Block every thread of gevent's pool."""
    pool, go_on = gevent.get_hub().threadpool, threading.Event()
    busy = [pool.spawn(go_on.wait) for _ in range(pool.maxsize)]
    yield
    go_on.set()
    for each in busy:
        each.get(timeout=20)


def _connects(dsn: str, backend_name: str) -> None:
    # More often than there are threads, since each attempt could leave one busy.
    for _ in range(12):
        with ListenerConnection(dsn, backend=backend_name, connect_timeout=5.0) as connection:
            connection.ping(timeout=5)


@pytest.mark.usefixtures("full_pool")
@pytest.mark.parametrize("sslmode", ["disable", "require"])
def test_authentication_and_tls_need_none_of_its_threads(
    tls_server: TlsServer, backend_name: str, sslmode: str
) -> None:
    _connects(tls_server.login("scram-sha-256", sslmode=sslmode), backend_name)


@pytest.mark.usefixtures("full_pool")
def test_resolving_a_name_needs_none_of_its_threads(server: Server, backend_name: str) -> None:
    _connects(server.dsn(host="localhost"), backend_name)


@pytest.mark.usefixtures("full_pool")
def test_the_password_file_needs_none_of_its_threads(
    tls_server: TlsServer, backend_name: str, tmp_path: Path
) -> None:
    passfile = tmp_path / "passfile"
    escaped = PASSWORD.replace("\\", "\\\\").replace(":", "\\:")
    passfile.write_text(f"*:*:*:*:{escaped}\n", encoding="utf-8")
    passfile.chmod(0o600)
    dsn = tls_server.login("scram-sha-256", sslmode="disable", password=None, passfile=str(passfile))
    _connects(dsn, backend_name)


@pytest.fixture
def stuck_file(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Block the reading of the password file, like a file server that does not answer."""
    asked, go_on = threading.Event(), threading.Event()

    def read(path: str) -> _passfile.Content:
        asked.set()
        go_on.wait(60)
        return FileNotFoundError(2, "No such file or directory", path)

    monkeypatch.setattr(_passfile, "read", read)
    yield asked
    go_on.set()


@pytest.mark.usefixtures("stuck_file")
def test_a_password_file_that_does_not_answer_blocks_neither_the_hub_nor_the_attempt(
    server: Server, backend_name: str
) -> None:
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            gevent.sleep(0.01)

    ticker = gevent.spawn(tick)
    started = time.monotonic()
    with pytest.raises(ConnectionFailed, match=r"the password file was not read within 0\.3 s"):
        ListenerConnection(server.dsn(password=""), backend=backend_name, connect_timeout=0.3)
    assert time.monotonic() - started < 2
    ticker.kill()
    assert ticks > 5


def test_close_does_not_wait_for_it(
    make_listener: MakeListener, server: Server, stuck_file: threading.Event
) -> None:
    listener = make_listener(server.dsn(password=""), connect_timeout=60.0)
    with gevent.Timeout(20):
        while not stuck_file.is_set():
            gevent.idle()
    started = time.monotonic()
    listener.close()
    assert time.monotonic() - started < 1
