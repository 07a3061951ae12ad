from __future__ import annotations

import pytest

import pglisten
from pglisten import Listener, ListenerConnection
from pglisten.backend import Backend, ConnInfo, Session
from pglisten.errors import ConnectionFailed
from pglisten.testing import FakeBackend, FakeServer


class Recording(FakeBackend):
    """Notes the timeout of each attempt, and fails the attempt."""

    def __init__(self) -> None:
        super().__init__(FakeServer())
        self.timeouts: list[float | None] = []

    def connect(self, conninfo: ConnInfo, timeout: float | None) -> Session:
        self.timeouts.append(timeout)
        raise ConnectionFailed("refused")


@pytest.mark.parametrize(
    "options",
    [
        {"min_reconnect_interval": 0},
        {"min_reconnect_interval": -1},
        {"min_reconnect_interval": None},
        {"min_reconnect_interval": float("nan")},
        {"min_reconnect_interval": "1"},
        {"max_reconnect_interval": 0},
        {"max_reconnect_interval": float("inf")},
        {"min_reconnect_interval": 2, "max_reconnect_interval": 1},
        {"jitter": -0.1},
        {"jitter": 1.1},
        {"jitter": None},
        {"event_callback": 1},
        {"queue_size": 0},
        {"queue_size": 1.5},
        {"queue_size": None},
        {"queue_size": True},
        {"overflow": "drop"},
        {"overflow": None},
        {"connect_timeout": 0},
        {"connect_timeout": "10"},
        {"heartbeat_interval": 0},
        {"heartbeat_interval": -1},
        {"heartbeat_timeout": None},
        {"heartbeat_timeout": 0},
        {"dsn": "nonsense=1"},
        {"dsn": "port=0"},
        {"dsn": None},
        {"dsn": 5},
    ],
    ids=repr,
)
def test_an_option_that_cannot_work_is_refused_here_and_now_by_name(options: dict[str, object]) -> None:
    with pytest.raises(pglisten.ConfigurationError) as caught:
        Listener(**{"backend": FakeBackend(FakeServer()), **options})  # type: ignore[arg-type]
    name = list(options)[-1]
    assert name in str(caught.value) or name in ("dsn",)
    assert caught.value.option == name
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [{"queue_size": 0}, {"connect_timeout": -1}, {"dsn": "nonsense=1"}])
def test_a_connection_refuses_them_too(options: dict[str, object]) -> None:
    with pytest.raises(pglisten.ConfigurationError):
        ListenerConnection(**{"dsn": "", "backend": FakeBackend(FakeServer()), **options})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("dsn", "option", "taken"),
    [
        ("host=127.0.0.1", 10.0, 10.0),
        ("host=127.0.0.1", None, None),
        ("host=127.0.0.1 connect_timeout=3", 10.0, 3.0),
        ("host=127.0.0.1 connect_timeout=0", 10.0, None),
    ],
)
def test_the_connection_strings_time_out_goes_before_the_option(
    dsn: str, option: float | None, taken: float | None
) -> None:
    backend = Recording()
    with pytest.raises(ConnectionFailed):
        ListenerConnection(dsn, backend=backend, connect_timeout=option)
    assert backend.timeouts == [taken]


def test_each_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    from pglisten._connection import resolve as _resolve

    found = [(2, 1, 6, "", ("127.0.0.2", 5432)), (2, 1, 6, "", ("127.0.0.3", 5432))]
    monkeypatch.setattr(_resolve, "getaddrinfo", lambda *_, **__: found)
    tried: list[str] = []

    class Trying(Recording):
        def connect(self, conninfo: ConnInfo, timeout: float | None) -> Session:
            tried.append(conninfo.hostaddr)
            if len(tried) == 1:
                raise ConnectionFailed("refused")
            return FakeBackend(FakeServer()).connect(conninfo, timeout)

    with ListenerConnection("host=db", backend=Trying()):
        assert tried == ["127.0.0.2", "127.0.0.3"]


def test_what_the_backend_cannot_do_is_refused_here_and_now() -> None:
    class Picky(FakeBackend):
        def check(self, conninfo: ConnInfo) -> None:
            raise pglisten.ConfigurationError("not with this driver")

    with pytest.raises(pglisten.ConfigurationError, match="not with this driver"):
        Listener("", backend=Picky(FakeServer()))


def test_a_backend_is_a_name_or_an_instance() -> None:
    with pytest.raises(pglisten.BackendNotFound, match="name"):
        Listener("", backend=Backend)  # type: ignore[arg-type]
