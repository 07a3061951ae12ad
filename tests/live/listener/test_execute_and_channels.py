"""A user's SQL that undoes LISTEN has the effect that the documents name."""

from __future__ import annotations

import pytest

from pglisten import ChannelNotOpen, ListenerConnection
from support.fixtures.listeners import fence
from support.servers.server import Server
from support.timeouts import TIMEOUT


@pytest.mark.parametrize("sql", ["UNLISTEN *", 'UNLISTEN "x"', "DISCARD ALL"])
def test_what_undoes_listen_is_not_noticed_and_mended_by_listening_again(
    connection: ListenerConnection, server: Server, sql: str
) -> None:
    for channel in ("x", "y"):
        connection.listen(channel, timeout=TIMEOUT)
    connection.execute(sql, timeout=TIMEOUT)
    server.notify("x", "to no listener")
    assert connection.channels == {"x", "y"}
    connection.unlisten("y", timeout=TIMEOUT)
    connection.listen("y", timeout=TIMEOUT)
    fence(connection, "y")
    connection.unlisten("x", timeout=TIMEOUT)
    connection.listen("x", timeout=TIMEOUT)
    fence(connection, "x")


def test_a_rollback_undoes_what_was_listened_to_in_its_transaction(
    connection: ListenerConnection, server: Server
) -> None:
    connection.listen("before", timeout=TIMEOUT)
    connection.execute("BEGIN", timeout=TIMEOUT)
    connection.listen("x", timeout=TIMEOUT)
    connection.execute("ROLLBACK", timeout=TIMEOUT)
    server.notify("x", "to no listener")
    assert connection.channels == {"before", "x"}
    fence(connection, "before")


def test_what_sql_listens_to_arrives_and_is_not_in_the_set(
    connection: ListenerConnection, server: Server
) -> None:
    connection.execute("LISTEN x", timeout=TIMEOUT)
    server.notify("x", "from another session")
    assert connection.get(timeout=TIMEOUT).payload == "from another session"
    assert connection.channels == frozenset()
    with pytest.raises(ChannelNotOpen):
        connection.unlisten("x", timeout=TIMEOUT)
