"""When the server is asked what its database makes of a channel's name, and how the reply is used."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pglisten import ConnectionLost, InvalidChannelName, Listener, ListenerConnection, ServerError
from pglisten._connection.plan import BATCH
from pglisten._connection.server_names import REMEMBERED, ServerNames
from pglisten._sql import ENCODING_QUERY, READ_COMMITTED, names_query
from pglisten.testing import FakeBackend, FakeServer
from support.timeouts import TIMEOUT


class Database:
    """Answers as a database with *encoding*, which has the characters of *alphabet*."""

    def __init__(self, encoding: str, **changes: str) -> None:
        self.encoding = encoding
        self.changes = changes
        self.asked: list[str] = []
        self.lacks = "😀"

    def fetch(self, sql: str) -> list[tuple[str, ...]]:
        self.asked.append(sql)
        if sql == ENCODING_QUERY:
            return [(self.encoding,)]
        if self.lacks in sql:
            raise ServerError("no equivalent", sqlstate="22P05")
        names = sql.removeprefix(READ_COMMITTED + "VALUES (E'").split("'::pg_catalog.name::pg_catalog.text)")
        return [(self.changes.get(name, name),) for name in (each.rpartition("'")[2] for each in names[:-1])]


def test_ascii_names_ask_nothing() -> None:
    database = Database("EUC_JP")
    assert ServerNames(database.fetch).altered(["orders", 'a "quoted" one', "x" * 63]) == {}
    assert database.asked == []


def test_a_database_in_utf8_is_asked_for_its_encoding_once() -> None:
    database = Database("UTF8")
    names = ServerNames(database.fetch)
    assert names.altered(["日本"]) == names.altered(["é", "a"]) == {}
    assert database.asked == [ENCODING_QUERY]


def test_elsewhere_each_name_that_is_not_ascii_is_asked_for_once() -> None:
    database = Database("EUC_JP")
    names = ServerNames(database.fetch)
    assert names.altered(["日本", "a", "é"]) == names.altered(["é", "日本"]) == {}
    assert names.altered(["日本", "ü"]) == {}
    assert database.asked == [ENCODING_QUERY, names_query(["日本", "é"]), names_query(["ü"])]


def test_names_without_end_are_not_all_remembered() -> None:
    database = Database("EUC_JP")
    names = ServerNames(database.fetch)
    for number in range(REMEMBERED + 1):
        names.altered([f"é{number}"])
    names.altered([f"é{REMEMBERED}"])
    assert len(database.asked) == REMEMBERED + 2
    names.altered(["é0"])
    assert len(database.asked) == REMEMBERED + 3


def test_an_altered_name_is_refused_each_time() -> None:
    names = ServerNames(Database("EUC_JP", **{"a¦b": "a￤b"}).fetch)
    for _ in range(2):
        altered = names.altered(["日本", "a¦b", "a"])
        assert list(altered) == ["a¦b"]
        assert isinstance(altered["a¦b"], InvalidChannelName)
        assert "'a¦b' becomes 'a￤b' in the database, whose encoding is EUC_JP" in str(altered["a¦b"])


def test_of_several_names_only_the_one_that_cannot_be_expressed_is_refused() -> None:
    names = ServerNames(Database("LATIN1").fetch)
    with pytest.raises(ServerError):
        names.altered(["é", "😀"])
    error = names.altered(["😀", "ascii"])["😀"]
    assert "does not have" in str(error)
    assert isinstance(error.__cause__, ServerError)


@pytest.mark.parametrize("rows", [[], [()], [(None,)], [("UTF8", "UTF8")]])
def test_a_server_that_does_not_answer_counts_as_lost(rows: list[tuple[str | None, ...]]) -> None:
    with pytest.raises(ConnectionLost):
        ServerNames(lambda _: rows).altered(["é"])


@pytest.fixture(params=["Listener", "ListenerConnection"])
def made(request: pytest.FixtureRequest) -> Iterator[tuple[Listener | ListenerConnection, FakeServer]]:
    server = FakeServer()
    if request.param == "Listener":
        listener: Listener | ListenerConnection = Listener(backend=FakeBackend(server))
    else:
        listener = ListenerConnection("", backend=FakeBackend(server))
    with listener:
        yield listener, server


def test_in_utf8_a_connection_asks_once_whatever_is_listened_to_and_sent(
    made: tuple[Listener | ListenerConnection, FakeServer],
) -> None:
    listener, server = made
    listener.listen("ascii", timeout=TIMEOUT)
    listener.notify("ascii", timeout=TIMEOUT)
    assert ENCODING_QUERY not in server.queries
    for number in range(BATCH // 100):
        listener.listen(f"é{number}", timeout=TIMEOUT)
        listener.notify(f"é{number}", timeout=TIMEOUT)
    assert server.queries.count(ENCODING_QUERY) == 1
    assert not [sql for sql in server.queries if "VALUES" in sql]
