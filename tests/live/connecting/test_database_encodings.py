"""Channel names in databases whose encoding is not UTF-8: unchanged or refused, never altered."""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Callable, Iterator
from typing import TypeAlias
from urllib.parse import quote

import gevent
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pglisten
from pglisten import InvalidChannelName, Listener, ListenerConnection, Notification, sse
from support.fixtures.broadcasters import MakeBroadcaster
from support.fixtures.listeners import Events, MakeConnection, MakeListener, fence
from support.fixtures.proxy import MakeProxy
from support.programs.wsgi import WsgiClient, refused
from support.servers.control import Control
from support.servers.server import Server
from support.timeouts import TIMEOUT
from support.timing import hold_before

ENCODINGS = ("EUC_JP", "EUC_TW", "LATIN1", "WIN1252", "SQL_ASCII")

LONGER = "¡" * 31
"""62 bytes in UTF-8, and 93 in EUC_JP, which the server cuts off."""
CUT = "¡" * 21
ALTERED = [
    pytest.param("EUC_JP", LONGER, "becomes '¡¡", id="cut in EUC_JP"),
    pytest.param("EUC_JP", "a¦b", "becomes 'a￤b'", id="changed in EUC_JP"),
    pytest.param("EUC_JP", "a😀", "does not have", id="inexpressible in EUC_JP"),
    pytest.param("EUC_TW", "丏" * 21, "becomes '丏丏", id="cut in EUC_TW"),
    pytest.param("EUC_TW", "é", "does not have", id="inexpressible in EUC_TW"),
    pytest.param("LATIN1", "щ", "does not have", id="inexpressible in LATIN1"),
    pytest.param("LATIN1", "é" * 30 + "щ", "does not have", id="its last is inexpressible in LATIN1"),
]

Listening: TypeAlias = "Listener | ListenerConnection"
Kind: TypeAlias = Callable[[str], Listening]


@pytest.fixture(scope="module")
def databases(server: Server) -> Iterator[dict[str, Control]]:
    """Databases by encoding, each with a session of the tests."""
    made: dict[str, Control] = {}
    for encoding in ENCODINGS:
        create(server, encoding.lower(), encoding)
        made[encoding] = Control(server.keywords | {"dbname": encoding.lower(), "client_encoding": "UTF8"})
        made[encoding].query("SELECT 1")  # Connect now, or the first test would seem to leak the descriptor.
    yield made
    for encoding, control in made.items():
        control.close()
        server.query(f"DROP DATABASE {encoding.lower()} WITH (FORCE)")


def create(server: Server, name: str, encoding: str) -> None:
    server.query(
        f"CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    )


@pytest.fixture(params=["Listener", "ListenerConnection"])
def kind(
    request: pytest.FixtureRequest, make_listener: MakeListener, make_connection: MakeConnection
) -> Kind:
    return make_listener if request.param == "Listener" else make_connection


def held(control: Control, name: str) -> str:
    """Return the channel that the server has after LISTEN of *name*; ``""`` if the server refuses."""
    try:
        control.query(f'LISTEN "{name}"')
    except Exception as error:
        if getattr(error, "pgcode", None) == "22P05" or "22P05" in str(error):
            return ""
        raise
    ((there,),) = control.query("SELECT pg_listening_channels()")
    control.query("UNLISTEN *")
    return str(there)


@pytest.mark.parametrize(("encoding", "name", "why"), ALTERED)
def test_a_name_that_the_database_would_alter_is_refused(
    kind: Kind, server: Server, databases: dict[str, Control], encoding: str, name: str, why: str
) -> None:
    assert held(databases[encoding], name) != name
    made = kind(server.dsn(dbname=encoding.lower()))
    made.listen("ascii", timeout=TIMEOUT)
    with pytest.raises(InvalidChannelName, match=why) as caught:
        made.listen(name, timeout=TIMEOUT)
    assert encoding in str(caught.value)
    assert made.channels == {"ascii"}
    # Notifications to the altered name do not arrive either.
    if there := held(databases[encoding], name):
        databases[encoding].query(f"NOTIFY \"{there}\", 'not for it'")
    fence(made, "ascii")


@pytest.mark.parametrize(("encoding", "name", "why"), ALTERED)
def test_a_subscription_to_such_a_name_is_refused_and_the_others_go_on(
    make_broadcaster: MakeBroadcaster,
    server: Server,
    databases: dict[str, Control],
    encoding: str,
    name: str,
    why: str,
) -> None:
    broadcaster = make_broadcaster(server.dsn(dbname=encoding.lower()))
    kept = broadcaster.subscribe("ascii", timeout=TIMEOUT)
    with pytest.raises(InvalidChannelName, match=why):
        broadcaster.subscribe("another", name, timeout=TIMEOUT)
    with pytest.raises(InvalidChannelName, match=why):
        kept.listen(name, timeout=TIMEOUT)
    assert broadcaster.channels == kept.channels == {"ascii"}
    broadcaster.notify("ascii", "fence", timeout=TIMEOUT)
    assert kept.get(timeout=TIMEOUT)[1:] == ("ascii", "fence")


def test_an_event_stream_of_such_a_name_is_a_bad_request(
    make_broadcaster: MakeBroadcaster, server: Server, databases: dict[str, Control]
) -> None:
    app = sse.app(make_broadcaster(server.dsn(dbname="euc_jp")), authorize=lambda environ, channel: True)
    with contextlib.closing(WsgiClient()) as client:
        response = client.ask(app, query="channel=" + quote(LONGER))
        assert response.status == "400 Bad Request"
        assert "EUC_JP" in refused(response)


@pytest.mark.parametrize(("encoding", "name", "why"), ALTERED)
def test_nothing_is_sent_under_an_altered_name(
    kind: Kind, server: Server, databases: dict[str, Control], encoding: str, name: str, why: str
) -> None:
    made = kind(server.dsn(dbname=encoding.lower()))
    made.listen("ascii", timeout=TIMEOUT)
    if isinstance(made, Listener):
        made.wait_connected(TIMEOUT)
    if there := held(databases[encoding], name):
        made.listen(there, timeout=TIMEOUT)
    with pytest.raises(InvalidChannelName, match=why):
        made.notify(name, "lost", timeout=TIMEOUT)
    fence(made, "ascii")


@pytest.mark.parametrize(
    ("encoding", "name"),
    [("EUC_JP", "日本" * 10), ("EUC_JP", CUT), ("LATIN1", "é" * 31), ("SQL_ASCII", "щ" * 31)],
)
def test_a_name_that_the_database_keeps_brings_what_is_sent_to_it(
    kind: Kind, server: Server, databases: dict[str, Control], encoding: str, name: str
) -> None:
    made = kind(server.dsn(dbname=encoding.lower()))
    made.listen(name, timeout=TIMEOUT)
    databases[encoding].query(f"NOTIFY \"{name}\", 'from another session'")
    item = made.get(timeout=TIMEOUT)
    assert isinstance(item, Notification)
    assert item[1:] == (name, "from another session")
    fence(made, name)


def test_of_many_that_are_asked_for_at_once_the_altered_are_refused_and_no_other(
    make_listener: MakeListener, server: Server, databases: dict[str, Control]
) -> None:
    listener = make_listener(server.dsn(dbname="euc_jp"))
    good = [f"日本 {number}" for number in range(300)] + [f"ascii {number}" for number in range(300)]
    # The altered form of a bad name is a channel of its own, and wanted here.
    good += [CUT, "a￤b"]
    bad = [LONGER, "a¦b", *(f"😀 {number}" for number in range(5)), *(f"¦{number}" for number in range(50))]
    names = random.Random(7).sample([*good, *bad], len(good) + len(bad))
    calls = {name: gevent.spawn(listener.listen, name, timeout=TIMEOUT) for name in names}
    gevent.joinall(list(calls.values()), timeout=TIMEOUT)
    assert [name for name in good if calls[name].exception is not None] == []
    assert [name for name in bad if not isinstance(calls[name].exception, InvalidChannelName)] == []
    assert listener.channels == set(good)
    for name in [*good[::50], CUT, "a￤b"]:
        databases["EUC_JP"].query(f"NOTIFY \"{name}\", 'x'")
        item = listener.get(timeout=TIMEOUT)
        assert item is not None
        assert item.channel == name


def test_back_in_a_database_of_another_encoding_only_what_it_keeps_is_listened_to(
    make_listener: MakeListener,
    make_broadcaster: MakeBroadcaster,
    server: Server,
    caplog: pytest.LogCaptureFixture,
) -> None:
    create(server, "moved", "UTF8")
    try:
        events = Events()
        listener = make_listener(
            server.dsn(dbname="moved"), event_callback=events, max_reconnect_interval=0.05
        )
        broadcaster = make_broadcaster(server.dsn(dbname="moved"))
        for name in ("kept", "日本", LONGER, "a😀"):
            listener.listen(name, timeout=TIMEOUT)
        kept, given_up = (broadcaster.subscribe(name, timeout=TIMEOUT) for name in ("日本", LONGER))
        server.query("DROP DATABASE moved WITH (FORCE)")
        with caplog.at_level(logging.ERROR, "pglisten.connection"):
            create(server, "moved", "EUC_JP")
            events.wait_for("RECONNECTED")
            assert kept.get(timeout=TIMEOUT) is None
        assert listener.channels == {"kept", "日本"}
        lines = [record.getMessage() for record in caplog.records]
        assert any(LONGER in line and "EUC_JP" in line for line in lines)
        assert any("a😀" in line and "EUC_JP" in line for line in lines)
        assert listener.get(timeout=TIMEOUT) is None
        fence(listener, "kept")
        with pytest.raises(pglisten.ChannelNotOpen) as caught:
            given_up.get(timeout=TIMEOUT)
        assert isinstance(caught.value.__cause__, InvalidChannelName)
    finally:
        listener.close()
        broadcaster.close()
        server.query("DROP DATABASE IF EXISTS moved WITH (FORCE)")


CHECK = b"::pg_catalog.name"
"""Part of the query that asks for the database's form of a name."""


def test_what_happens_while_the_name_is_checked_breaks_nothing(
    make_listener: MakeListener, proxy: MakeProxy, server: Server, databases: dict[str, Control]
) -> None:
    between = proxy(server)
    listener = make_listener(server.dsn(dbname="euc_jp", host=between.host, port=between.port))
    listener.listen("ascii", timeout=TIMEOUT)
    waiting = gevent.spawn(listener.listen, LONGER, timeout=TIMEOUT)
    killed = gevent.spawn(listener.listen, "a¦b", timeout=TIMEOUT)
    late = gevent.spawn(listener.listen, "¦", timeout=0.01)
    kept = gevent.spawn(listener.listen, "日本", timeout=TIMEOUT)
    hold_before(between, CHECK)
    killed.kill()
    with pytest.raises(pglisten.OperationTimeout):
        late.get(timeout=TIMEOUT)
    leaving = gevent.spawn(listener.unlisten, LONGER, timeout=TIMEOUT)
    with pytest.raises(pglisten.ChannelNotOpen):
        waiting.get(timeout=TIMEOUT)
    again = gevent.spawn(listener.listen, LONGER, timeout=TIMEOUT)
    gevent.idle()
    # The connection is lost with the query in flight: the next connection repeats it.
    between.cut()
    between.release()
    leaving.get(timeout=TIMEOUT)
    with pytest.raises(InvalidChannelName):
        again.get(timeout=TIMEOUT)
    kept.get(timeout=TIMEOUT)
    assert listener.channels == {"ascii", "日本"}
    assert listener.get(timeout=TIMEOUT) is None
    fence(listener, "日本")


LETTERS = "aZ é¡¦§щ日本丏万ｱ￤—㍑\\'" + '"😀\U0002000b'
names = st.text(st.sampled_from(LETTERS), min_size=1, max_size=63).filter(
    lambda name: len(name.encode()) < 64
)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_exactly_those_names_are_taken_that_the_server_keeps(
    make_connection: MakeConnection, server: Server, databases: dict[str, Control], encoding: str
) -> None:
    control, connection = databases[encoding], make_connection(server.dsn(dbname=encoding.lower()))

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(names)
    def check(name: str) -> None:
        quoted = name.replace('"', '""')
        if held(control, quoted) != name:
            with pytest.raises(InvalidChannelName):
                connection.listen(name, timeout=TIMEOUT)
            with pytest.raises(InvalidChannelName):
                connection.notify(name, timeout=TIMEOUT)
            assert connection.channels == frozenset()
            return
        connection.listen(name, timeout=TIMEOUT)
        control.query(f'NOTIFY "{quoted}"')
        assert connection.get(timeout=TIMEOUT).channel == name
        fence(connection, name)
        connection.unlisten(name, timeout=TIMEOUT)

    check()
