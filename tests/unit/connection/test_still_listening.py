"""What a session's answers prove, and what they do not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pglisten import ConnectionLost
from pglisten._connection.still_listening import CONNECT_DIRECTLY, StillListening, problem_of_reply
from pglisten._connection.target import Target
from pglisten._sql import LISTENING_QUERY, UNLISTEN_ALL, sync_statement
from pglisten.backend import Session
from pglisten.testing import FakeBackend, FakeServer

PID = 4711


@pytest.fixture
def answers() -> StillListening:
    return StillListening(PID)


@pytest.fixture
def session() -> Iterator[Session]:
    """Return a session with a server in memory."""
    backend = FakeBackend(FakeServer())
    conninfo, _ = Target("host=127.0.0.1", backend, None).current()
    made = backend.connect(conninfo, 5)
    yield made
    made.close()


class TestReply:
    """Each query with LISTEN returns one row at its end."""

    @pytest.mark.parametrize("rows", [[], [()], [(None,)], [("UTF8", "x")], [("UTF8",), ("UTF8",)]])
    def test_anything_but_one_value_is_a_problem(self, rows: list[tuple[str | None, ...]]) -> None:
        problem = problem_of_reply(rows)
        assert problem is not None
        assert "PgDog" in problem.found
        assert problem.remedy == CONNECT_DIRECTLY

    @pytest.mark.parametrize("encoding", ["UTF8", "LATIN1", "SQL_ASCII"])
    def test_one_value_is_none(self, encoding: str) -> None:
        assert problem_of_reply([(encoding,)]) is None

    @pytest.mark.parametrize(
        "sql", [sync_statement(["a", "b"], ["c"]), sync_statement(["a"], []), UNLISTEN_ALL]
    )
    def test_the_server_sends_it(self, sql: str, session: Session) -> None:
        assert problem_of_reply(session.fetch(sql, 5)) is None

    def test_the_error_has_the_reason_and_the_remedy(self) -> None:
        problem = problem_of_reply([])
        assert problem is not None
        error = problem.lost()
        assert isinstance(error, ConnectionLost)
        assert str(error) == f"{problem.found} (remedy: {problem.remedy})"


class TestNumberOfChannels:
    """A heartbeat compares the server's number with the acknowledged one."""

    @pytest.mark.parametrize(("count", "held"), [("0", 0), ("3", 3), ("4", 3)])
    def test_as_many_or_more_is_no_problem(self, answers: StillListening, count: str, held: int) -> None:
        assert answers.problem([(str(PID), count)], held) is None

    def test_fewer_by_the_process_of_the_login_is_the_sessions_own_sql(self, answers: StillListening) -> None:
        found, remedy = answers.problem([(str(PID), "2")], 3) or ("", "")
        assert found.startswith("the server listens to 2 of 3 acknowledged channels: UNLISTEN or DISCARD ALL")
        assert remedy != CONNECT_DIRECTLY

    def test_fewer_by_another_process_is_a_pooler(self, answers: StillListening) -> None:
        found, remedy = answers.problem([("1", "0")], 3) or ("", "")
        assert found.endswith("a connection pooler in between ends LISTEN")
        assert remedy == CONNECT_DIRECTLY

    def test_a_process_other_than_before_is_a_pooler_whatever_the_number(
        self, answers: StillListening
    ) -> None:
        assert answers.problem([("1", "3")], 3) is None
        assert answers.problem([("1", "3")], 3) is None
        found, remedy = answers.problem([("2", "3")], 3) or ("", "")
        assert found.startswith("server process 2 answers instead of 1")
        assert remedy == CONNECT_DIRECTLY

    @pytest.mark.parametrize(
        "rows",
        [[], [("1",)], [("1", None)], [("1", "many")], [("1", "²")], [("1", "-1")], [("1", "2"), ("1", "2")]],
    )
    def test_nonsense_is_a_problem(self, answers: StillListening, rows: list[tuple[str | None, ...]]) -> None:
        found, _ = answers.problem(rows, 0) or ("", "")
        assert found == "the server does not say to how many channels it listens"

    def test_the_server_counts_what_was_committed(self, session: Session) -> None:
        assert session.fetch(LISTENING_QUERY, 5) == [(str(session.pid), "0")]
        session.execute(sync_statement(["a", "b"], []), 5)
        assert session.fetch(LISTENING_QUERY, 5) == [(str(session.pid), "2")]
        session.execute(sync_statement([], ["a"]), 5)
        assert session.fetch(LISTENING_QUERY, 5) == [(str(session.pid), "1")]
