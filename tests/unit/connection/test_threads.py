"""Work in threads is limited by its caller's timeout, not by the application's use of its own threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import gevent
import pytest

from pglisten import _threads
from pglisten._threads import MOST
from pglisten.backend import in_thread
from pglisten.testing.contract._forking import in_a_forked_child
from support.timeouts import TIMEOUT


def _hanging(hang: Callable[[], object]) -> list[Any]:
    """Make the allowed number of threads hang; return the greenlets that wait for them."""
    begun: list[None] = []

    def call() -> object:
        begun.append(None)
        return hang()

    callers = [gevent.spawn(in_thread, call, TIMEOUT) for _ in range(MOST)]
    with gevent.Timeout(TIMEOUT):
        while len(begun) < MOST:
            gevent.sleep(0.001)
    return callers


def test_it_returns_what_the_function_returned_while_the_hub_runs() -> None:
    ran = threading.Event()
    gevent.spawn(ran.set)  # Only the hub can start it.
    done = in_thread(lambda: ran.wait(TIMEOUT), TIMEOUT)
    assert done is not None
    assert done.get() is True


def test_without_a_limit_the_loop_does_not_end_for_want_of_anything_else_to_wait_for() -> None:
    done = in_thread(lambda: time.sleep(0.05), None)
    assert done is not None
    assert done.get() is None


@pytest.mark.parametrize("error", [ValueError("wrong"), SystemExit(3)])
def test_what_the_function_raises_comes_out_of_get_alone(error: BaseException) -> None:
    def fail() -> None:
        raise error

    done = in_thread(fail, TIMEOUT)
    assert done is not None
    with pytest.raises(type(error)) as caught:
        done.get()
    assert caught.value is error


def test_late_it_returns_none() -> None:
    go_on = threading.Event()
    started = time.monotonic()
    assert in_thread(go_on.wait, 0.05) is None
    assert time.monotonic() - started < 2
    go_on.set()


def test_those_that_hang_are_limited_and_count_until_they_end() -> None:
    go_on, ended = threading.Event(), threading.Semaphore(0)

    def hang() -> None:
        go_on.wait()
        ended.release()

    gevent.killall(_hanging(hang))
    assert in_thread(int, 0.05) is None
    # A greenlet killed while it waits for its turn starts no thread.
    waiting = gevent.spawn(in_thread, int, TIMEOUT)
    gevent.idle()
    waiting.kill()
    go_on.set()
    done = in_thread(int, TIMEOUT)
    assert done is not None
    assert done.get() == 0
    for _ in range(MOST):
        assert ended.acquire(timeout=TIMEOUT)


def test_in_a_forked_child_those_of_the_parent_do_not_count() -> None:
    go_on = threading.Event()
    given_up = _hanging(go_on.wait)

    def child() -> None:
        gevent.reinit()
        done = in_thread(int, TIMEOUT)
        assert done is not None
        assert done.get() == 0

    in_a_forked_child(child)
    go_on.set()
    gevent.joinall(given_up, timeout=TIMEOUT, raise_error=True)


def test_a_system_without_threads_is_an_oserror(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(_threads, "_start_new_thread", refuse)
        for _ in range(MOST + 1):
            done = in_thread(int, TIMEOUT)
            assert done is not None
            with pytest.raises(OSError, match="can't start new thread"):
                done.get()
    assert in_thread(int, TIMEOUT) is not None
