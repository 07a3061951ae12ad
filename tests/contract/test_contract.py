"""The contract notices a backend that breaks it: each here has a defect that some driver has had."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import gevent
import pytest

from pglisten.backend import MAX_RESULT, ConnInfo, Notification, Session
from pglisten.errors import ConnectionLost
from pglisten.testing import FakeServer
from pglisten.testing._fake import _FakeSession
from pglisten.testing.contract import EndContract, FetchContract, NotificationContract, QueryContract


class KeepsAHundred(_FakeSession):
    def receive(self) -> list[Notification]:
        return super().receive()[-100:]


class ReversesABurst(_FakeSession):
    def receive(self) -> list[Notification]:
        return super().receive()[::-1]


class TakesWhatComesWithAReplyLater(_FakeSession):
    _late: tuple[Notification, ...] = ()

    def execute(self, sql: str, timeout: float | None) -> None:
        super().execute(sql, timeout)
        self._late = tuple(super().receive())

    def receive(self) -> list[Notification]:
        arrived = super().receive()
        if arrived:
            arrived, self._late = [*self._late, *arrived], ()
        return arrived


class KnowsAscii(_FakeSession):
    def receive(self) -> list[Notification]:
        return [each for each in super().receive() if each.payload.isascii()]


class LosesTheReason(_FakeSession):
    def receive(self) -> list[Notification]:
        try:
            return super().receive()
        except ConnectionLost:
            raise ConnectionLost("network error") from None


class ForgetsWhatCameBefore(_FakeSession):
    def receive(self) -> list[Notification]:
        if self._process.reason is not None:
            self._process.take()
        return super().receive()


class WaitsForEver(_FakeSession):
    def execute(self, sql: str, timeout: float | None) -> None:
        super().execute(sql, None if timeout is None else timeout + 10)


class RunsTheLastStatementAlone(_FakeSession):
    def fetch(self, sql: str, timeout: float | None) -> list[Row]:
        return super().fetch(sql.rsplit(";", 1)[-1], timeout)


class TakesNullForEmpty(_FakeSession):
    def fetch(self, sql: str, timeout: float | None) -> list[Row]:
        return [tuple(value or "" for value in row) for row in super().fetch(sql, timeout)]


class ReturnsWhatWasBefore(_FakeSession):
    _rows: tuple[Row, ...] = ()

    def fetch(self, sql: str, timeout: float | None) -> list[Row]:
        self._rows = tuple(super().fetch(sql, timeout)) or self._rows
        return list(self._rows)


class DropsWhatComesWithRows(_FakeSession):
    def fetch(self, sql: str, timeout: float | None) -> list[Row]:
        rows = super().fetch(sql, timeout)
        self.receive()
        return rows


class TakesRowsWithoutEnd(_FakeSession):
    def fetch(self, sql: str, timeout: float | None) -> list[Row]:
        return self._run(sql, timeout)


class FetchesForEver(_FakeSession):
    def fetch(self, sql: str, timeout: float | None) -> list[Row]:
        return super().fetch(sql, None if timeout is None else timeout + 10)


class ClosesNothing(_FakeSession):
    def close(self) -> None:
        pass


NOTIFICATIONS, QUERIES, ENDS = NotificationContract(), QueryContract(), EndContract()
FETCHES = FetchContract()
TOO_LONG = f"SELECT repeat('x', {MAX_RESULT})"

Row = tuple["str | None", ...]
Check = Callable[[Session, Session], None]

DEFECTS: list[tuple[type[_FakeSession], Check]] = [
    (KeepsAHundred, lambda a, b: NOTIFICATIONS.test_a_burst_arrives_complete_and_in_order(a, b, "x", 101)),
    (ReversesABurst, lambda a, b: NOTIFICATIONS.test_a_burst_arrives_complete_and_in_order(a, b, "x", 101)),
    (
        TakesWhatComesWithAReplyLater,
        lambda a, _: NOTIFICATIONS.test_what_a_session_sends_itself_is_there_after_its_query(a, "x"),
    ),
    (KnowsAscii, lambda a, b: NOTIFICATIONS.test_any_text_passes_as_channel_and_payload(a, b, "x", "é")),
    (LosesTheReason, ENDS.test_an_idle_session_that_is_terminated_says_why),
    (
        ForgetsWhatCameBefore,
        lambda a, b: ENDS.test_what_arrived_before_the_end_is_received_first(a, b, "x"),
    ),
    (WaitsForEver, QUERIES.test_a_query_without_an_end_in_time_loses_the_connection),
    (
        RunsTheLastStatementAlone,
        lambda a, _: FETCHES.test_what_a_session_sends_itself_comes_along_and_is_received(a, "x"),
    ),
    (TakesNullForEmpty, lambda a, _: FETCHES.test_null_is_none_and_not_the_empty_string(a)),
    (ReturnsWhatWasBefore, lambda a, _: FETCHES.test_what_returns_no_rows_gives_none(a, "UNLISTEN *")),
    (
        DropsWhatComesWithRows,
        lambda a, b: FETCHES.test_what_had_arrived_before_is_received(a, b, "x"),
    ),
    (
        TakesRowsWithoutEnd,
        lambda a, b: FETCHES.test_rows_over_the_limit_lose_the_connection(a, b, "x", TOO_LONG),
    ),
    (FetchesForEver, FETCHES.test_rows_without_an_end_in_time_lose_the_connection_and_the_hub_runs),
    (ClosesNothing, ENDS.test_a_closed_session_is_gone_at_the_server),
]


@pytest.fixture
def make() -> Iterator[Callable[[type[_FakeSession]], Session]]:
    server, made = FakeServer(), list[_FakeSession]()

    def make(kind: type[_FakeSession]) -> Session:
        made.append(kind(server, server.accept(ConnInfo({}), None)))
        return made[-1]

    yield make
    for session in made:
        _FakeSession.close(session)


@pytest.mark.parametrize(("kind", "check"), DEFECTS, ids=[kind.__name__ for kind, _ in DEFECTS])
def test_the_contract_notices_a_session_that(
    make: Callable[[type[_FakeSession]], Session], kind: type[_FakeSession], check: Check
) -> None:
    with gevent.Timeout(10):
        check(make(_FakeSession), make(_FakeSession))
    noticed = (AssertionError, pytest.fail.Exception, gevent.Timeout)
    # What waits for something that never comes need not wait as long as the contract does.
    with pytest.raises(noticed), gevent.Timeout(0.5):
        check(make(kind), make(_FakeSession))
