"""The trigger of docs/sending.md aborts no write, and `notify_over` sends in any cursor's transaction."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import pglisten
from pglisten import Broadcaster, Subscription
from support.broadcasters import payloads
from support.logs import CONNECTIONS, Opened, open_connection
from support.servers.server import Server
from support.timeouts import TIMEOUT

PAGE = (Path(__file__).parents[3] / "docs" / "sending.md").read_text(encoding="utf-8")
SQL = re.compile(r"^```postgresql\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def backend_name() -> str:
    """What sends does not depend on who receives: one backend is enough."""
    return "psycopg2"


@pytest.fixture
def subscription(broadcaster: Broadcaster) -> Iterator[Subscription]:
    with broadcaster.subscribe("orders", timeout=TIMEOUT) as made:
        yield made


@pytest.mark.parametrize("library", sorted(CONNECTIONS))
def test_a_notification_is_part_of_the_transaction_of_any_cursor(
    server: Server, subscription: Subscription, library: str
) -> None:
    with open_connection(library, server) as opened:
        opened.rollback()
        pglisten.notify_over(opened.cursor, "orders", "rolled back")
        opened.rollback()
        for wrong in ("x" * 8000, "é" * 4000, "\0", "\ud800"):
            with pytest.raises(ValueError, match="payload"):
                pglisten.notify_over(opened.cursor, "orders", wrong)
        for channel in ("", "x" * 64, "\0"):
            with pytest.raises(pglisten.InvalidChannelName):
                pglisten.notify_over(opened.cursor, channel)
        sent = ["it's \\ 100 % %s :a ?", "é" * 3999, ""]
        for payload in sent:
            pglisten.notify_over(opened.cursor, "orders", payload)
        opened.commit()
        assert payloads(subscription, 3) == sent


def test_what_has_no_transaction_is_refused() -> None:
    for wrong in (None, "dsn", object()):
        with pytest.raises(TypeError, match="cursor"):
            pglisten.notify_over(wrong, "orders")


@pytest.fixture
def writer(server: Server) -> Iterator[Opened]:
    (statements,) = SQL.findall(PAGE)
    with open_connection("psycopg2", server) as opened:
        opened.cursor.execute(statements)
        opened.commit()
        yield opened
        opened.rollback()
        opened.cursor.execute("DROP TABLE orders; DROP FUNCTION orders_changed")
        opened.commit()


def test_the_trigger_sends_what_fits_then_the_key_then_nothing_but_that_there_was_a_change(
    writer: Opened, subscription: Subscription
) -> None:
    rows = [
        ("1", "é"),
        ("2", "x" * 20_000),
        ("3", "é" * 10_000),
        ("4" * 2_000, "\\\"'\n"),
        ("5", None),
        ("é" * 1_200, "x" * 7_000),
    ]
    for row in rows:  # one transaction
        writer.cursor.execute("INSERT INTO orders VALUES (%s, %s)", row)
    writer.cursor.execute("UPDATE orders SET note = repeat('ü', 5000) WHERE id = '1'")
    writer.cursor.execute("DELETE FROM orders WHERE id = '2'")
    writer.commit()
    got = [json.loads(payload) for payload in payloads(subscription, 8) if payload]
    assert got == [
        {"op": "INSERT", "id": "1", "note": "é"},
        {"op": "INSERT", "id": "2"},
        {"op": "INSERT", "id": "3"},
        {"op": "INSERT", "id": "4" * 2_000, "note": "\\\"'\n"},
        {"op": "INSERT", "id": "5", "note": None},
        {"op": "INSERT", "id": "é" * 1_200},
        {"op": "UPDATE", "id": "1"},
        {"op": "DELETE", "id": "2"},
    ]


def test_the_payload_is_whole_up_to_the_last_byte(writer: Opened, subscription: Subscription) -> None:

    envelope = len('{"op" : "INSERT", "id" : "1000", "note" : ""}')
    for key in range(1000, 1004):
        note = "x" * (7999 - envelope - 6 + (key - 1000)) + "éüö"
        writer.cursor.execute("INSERT INTO orders VALUES (%s, %s)", (str(key), note))
    writer.commit()
    got = [json.loads(payload) for payload in payloads(subscription, 4) if payload]
    assert ["note" in each for each in got] == [True, False, False, False]
    assert got[0]["note"].endswith("éüö")


def test_no_failure_of_the_trigger_aborts_the_write(
    server: Server, writer: Opened, subscription: Subscription
) -> None:
    writer.cursor.execute("ALTER TABLE orders DROP CONSTRAINT orders_pkey")
    writer.cursor.execute("INSERT INTO orders VALUES (repeat('k', 20000), 'a key that is too long')")
    writer.cursor.execute("ALTER TABLE orders RENAME COLUMN note TO remark")
    writer.cursor.execute("INSERT INTO orders VALUES ('6', 'a column that was renamed')")
    writer.commit()
    assert payloads(subscription, 1) == [""]
    assert server.query("SELECT count(*) FROM orders") == [(2,)]
