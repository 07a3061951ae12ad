"""SQL of the user's own that undoes LISTEN: what the documents say of it."""

from __future__ import annotations

import pytest

from pglisten import ChannelNotOpen, ListenerConnection
from support.fixtures.listeners import fence
from support.servers.server import Server

PATIENCE = 20.0


@pytest.mark.parametrize("sql", ["UNLISTEN *", 'UNLISTEN "x"', "DISCARD ALL"])
def test_what_undoes_listen_is_not_noticed_and_mended_by_listening_again(
    connection: ListenerConnection, server: Server, sql: str
) -> None:
    for channel in ("x", "y"):
        connection.listen(channel, timeout=PATIENCE)
    connection.execute(sql, timeout=PATIENCE)
    server.notify("x", "to no listener")
    assert connection.channels == {"x", "y"}
    connection.unlisten("y", timeout=PATIENCE)
    connection.listen("y", timeout=PATIENCE)
    fence(connection, "y")
    connection.unlisten("x", timeout=PATIENCE)
    connection.listen("x", timeout=PATIENCE)
    fence(connection, "x")


def test_a_rollback_undoes_what_was_listened_to_in_its_transaction(
    connection: ListenerConnection, server: Server
) -> None:
    connection.listen("before", timeout=PATIENCE)
    connection.execute("BEGIN", timeout=PATIENCE)
    connection.listen("x", timeout=PATIENCE)
    connection.execute("ROLLBACK", timeout=PATIENCE)
    server.notify("x", "to no listener")
    assert connection.channels == {"before", "x"}
    fence(connection, "before")


def test_what_sql_listens_to_arrives_and_is_not_in_the_set(
    connection: ListenerConnection, server: Server
) -> None:
    connection.execute("LISTEN x", timeout=PATIENCE)
    server.notify("x", "from another session")
    assert connection.get(timeout=PATIENCE).payload == "from another session"
    assert connection.channels == frozenset()
    with pytest.raises(ChannelNotOpen):
        connection.unlisten("x", timeout=PATIENCE)
