"""LISTEN that fails because the server forgot a transaction of its queue: trimmed, and tried again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest

from pglisten import Listener, ListenerConnection, ServerError
from pglisten._cli.doctor import delivery
from pglisten._connection.target import Target
from pglisten._sql import TRIM_QUEUE
from pglisten.testing import FakeBackend, FakeServer
from pglisten.testing._fake_process import FakeProcess

LOST = ServerError(
    "could not access status of transaction 1048537",
    sqlstate="58P01",
    detail='Could not open file "pg_xact/0000": No such file or directory.',
)


class Forgetful(FakeServer):
    """Refuses LISTEN until its queue is trimmed, as a real server did; forever if it is *incurable*."""

    def __init__(self, *channels: str, incurable: bool = False) -> None:
        super().__init__()
        self.channels = channels
        self.incurable = incurable
        self.forget()

    def forget(self) -> None:
        self.refuse_listen = dict.fromkeys(self.channels, LOST)

    def run(self, process: FakeProcess, sql: str) -> list[tuple[str | None, ...]]:
        rows = super().run(process, sql)
        if sql == TRIM_QUEUE and not self.incurable:
            self.refuse_listen.clear()
        return rows

    @property
    def steps(self) -> list[str]:
        """The LISTENs and trims among the queries."""
        return [
            "trim" if sql == TRIM_QUEUE else "LISTEN"
            for sql in self.queries
            if "LISTEN" in sql or sql == TRIM_QUEUE
        ]


Make = Callable[[FakeServer], "Listener | ListenerConnection"]


@pytest.fixture(params=["Listener", "ListenerConnection"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Make a `Listener` or a `ListenerConnection`."""
    made: list[Listener | ListenerConnection] = []

    def make(server: FakeServer) -> Listener | ListenerConnection:
        if request.param == "Listener":
            made.append(Listener(backend=FakeBackend(server), min_reconnect_interval=0.01))
        else:
            made.append(ListenerConnection("", backend=FakeBackend(server)))
        return made[-1]

    yield make
    for each in made:
        each.close()


def repaired(caplog: pytest.LogCaptureFixture) -> int:
    records = [record for record in caplog.records if "trimming" in record.getMessage()]
    assert all(record.levelno == logging.WARNING and "58P01" in record.getMessage() for record in records)
    return len(records)


def test_listen_succeeds_after_the_queue_was_trimmed(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    server = Forgetful("orders")
    listening = make(server)
    listening.listen("orders", timeout=5)
    assert server.steps == ["LISTEN", "trim", "LISTEN"]
    assert repaired(caplog) == 1
    server.notify("orders", "hello")
    item = listening.get(timeout=5)
    assert item is not None
    assert item.payload == "hello"


def test_each_time_it_happens_it_is_repaired_and_logged_once(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    server = Forgetful("a", "b", "c")
    listening = make(server)
    listening.listen("a", timeout=5)
    listening.listen("b", timeout=5)
    assert repaired(caplog) == 1
    server.forget()
    listening.listen("c", timeout=5)
    assert repaired(caplog) == 2


def test_a_listener_that_reconnects_repairs_it_within_the_attempt(caplog: pytest.LogCaptureFixture) -> None:
    server = Forgetful("orders", "bills")
    with Listener(backend=FakeBackend(server), min_reconnect_interval=0.01) as listener:
        listener.listen("orders", timeout=5)
        listener.listen("bills", timeout=5)
        server.forget()
        server.cut()
        assert listener.get(timeout=5) is None
        assert listener.channels == {"orders", "bills"}
        assert listener.stats().failed_attempts == 0
        server.notify("bills", "hello")
        item = listener.get(timeout=5)
        assert item is not None
        assert item.payload == "hello"
    assert repaired(caplog) == 2


def test_what_trimming_does_not_repair_is_an_error_as_any_other(make: Make) -> None:
    server = Forgetful("orders", incurable=True)
    listening = make(server)
    with pytest.raises(ServerError) as caught:
        listening.listen("orders", timeout=5)
    assert caught.value.sqlstate == "58P01"
    assert server.steps[:3] == ["LISTEN", "trim", "LISTEN"]
    assert "orders" not in listening.channels
    listening.listen("others", timeout=5)


def test_a_server_that_refuses_to_trim_leaves_the_first_error(make: Make) -> None:
    class Strict(Forgetful):
        def run(self, process: FakeProcess, sql: str) -> list[tuple[str | None, ...]]:
            if sql == TRIM_QUEUE:
                self.queries.append(sql)
                raise ServerError("permission denied for function", sqlstate="42501")
            return super().run(process, sql)

    listening = make(Strict("orders"))
    with pytest.raises(ServerError) as caught:
        listening.listen("orders", timeout=5)
    assert caught.value.sqlstate == "58P01"
    listening.listen("others", timeout=5)


def test_no_other_refusal_is_taken_for_it(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    server = FakeServer()
    server.refuse_listen["orders"] = ServerError("no", sqlstate="42501")
    with pytest.raises(ServerError, match="42501"):
        make(server).listen("orders", timeout=5)
    assert TRIM_QUEUE not in server.queries
    assert repaired(caplog) == 0


@pytest.mark.parametrize("incurable", [False, True])
def test_the_doctor_repairs_by_the_same_rule_and_says_how_to_get_rid_of_it(incurable: bool) -> None:
    server = Forgetful("orders", incurable=incurable)
    conninfo, _ = Target("host=127.0.0.1", FakeBackend(server), None).current()
    session = FakeBackend(server).connect(conninfo, 5)
    try:
        verdict = delivery.listen(session, ["orders"], 5)
    finally:
        session.close()
    assert server.steps == ["LISTEN", "trim", "LISTEN"]
    assert ("refuses LISTEN" if incurable else "after the queue was trimmed") in verdict.found
    assert verdict.remedy == "update the server: the minor releases of February 2026 mend this"
