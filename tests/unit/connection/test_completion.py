from __future__ import annotations

import gevent
import pytest

import pglisten
from pglisten._completion import Completion, check_timeout
from pglisten.errors import ServerError


def test_the_first_to_resolve_it_wins() -> None:
    outcome = Completion()
    outcome.resolve(ServerError("first"))
    outcome.resolve()
    with pytest.raises(ServerError, match="first"):
        outcome.wait(0, "x")


def test_each_waiting_caller_gets_an_error_of_its_own() -> None:
    outcome = Completion()
    cause = ServerError("no", sqlstate="42601", hint="try")
    cause.__cause__ = KeyError("driver")
    waiting = [gevent.spawn(outcome.wait, None, "x") for _ in range(2)]
    gevent.idle()
    outcome.resolve(cause)
    gevent.joinall(waiting, timeout=5)
    errors = [greenlet.exception for greenlet in waiting]
    assert errors[0] is not errors[1]
    for error in errors:
        assert isinstance(error, ServerError)
        assert (str(error), error.sqlstate, error.hint) == (str(cause), "42601", "try")
        assert error.__cause__ is cause.__cause__
    assert cause.__traceback__ is None


def test_running_out_of_time_names_what_was_waited_for() -> None:
    with pytest.raises(pglisten.OperationTimeout, match=r"LISTEN 'x': not done within 0\.001 s"):
        Completion().wait(0.001, "LISTEN 'x'")


@pytest.mark.parametrize(
    ("given", "taken"),
    [(None, None), (0, 0.0), (1, 1.0), (2.5, 2.5), (float("inf"), None), (-0.001, 0.0), (float("-inf"), 0.0)],
)
def test_a_time_out_is_seconds_or_none(given: float | None, taken: float | None) -> None:
    assert check_timeout(given) == taken


def test_not_a_number_is_no_time_out() -> None:
    with pytest.raises(ValueError, match="timeout"):
        check_timeout(float("nan"))


@pytest.mark.parametrize("wrong", ["1", True, [1]])
def test_a_time_out_that_is_no_number_is_refused(wrong: object) -> None:
    with pytest.raises(TypeError, match="timeout"):
        check_timeout(wrong)  # type: ignore[arg-type]
