"""Checks that notifications of a second session arrive, and how soon."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Sequence

from gevent.socket import wait_read

from ..._connection.hints import remedy
from ..._connection.queue_repair import listen_with_repair
from ..._connection.still_listening import StillListening, problem_of_reply
from ..._greenlet import let_others_run
from ..._sql import LISTENING_QUERY, notify_statement, sync_statement
from ...backend import Backend, Session
from ...errors import ConnectionFailed, ConnectionLost, Error, ServerError
from . import verdicts
from .hosts import Chosen
from .limits import connect, execute, fetch
from .verdicts import Verdict, milliseconds

__all__ = ["check_delivery", "listen", "not_proven", "unlisten"]

ROUNDS = 7
"""Notifications, one after the other: the first meets cold caches, and a median needs a few."""

UNLISTEN_TIMEOUT = 0.1
"""Most seconds for the last UNLISTEN: Ctrl-C ends the command in a second, even if the server hangs."""


def listen(session: Session, channels: Sequence[str], timeout: float) -> Verdict:
    """LISTEN on *channels* in one query; repair the server's queue if need be, as a listener does."""
    repaired: list[ServerError] = []
    replies: list[list[tuple[str | None, ...]]] = []
    started = time.monotonic()
    try:
        listen_with_repair(
            lambda sql: replies.append(fetch(session, sql, timeout)),
            sync_statement(channels, []),
            on_repair=repaired.append,
        )
        elapsed = time.monotonic() - started
        problem = problem_of_reply(replies[-1])
        if problem is None:
            rows = fetch(session, LISTENING_QUERY, timeout)
            problem = StillListening(session.pid).problem(rows, len(channels))
    except ServerError as error:
        advice = remedy(error.sqlstate, str(error), "")
        return verdicts.failed(f"the server refuses LISTEN: {error}", advice)
    if problem is not None:
        return verdicts.failed(*problem)
    for refusal in repaired:
        advice = remedy(refusal.sqlstate, str(refusal), "")
        return verdicts.warning(f"LISTEN succeeded, after the queue was trimmed: {refusal}", advice)
    return verdicts.ok(f"LISTEN succeeded in {milliseconds(elapsed)}")


def unlisten(session: Session, channels: Sequence[str], timeout: float) -> None:
    """Send UNLISTEN for *channels*; ignore a failure.

    A busy pool in transaction mode may send it to another server session than LISTEN.
    """
    with contextlib.suppress(Error):
        execute(session, sync_statement([], channels), min(timeout, UNLISTEN_TIMEOUT))


def check_delivery(
    backend: Backend,
    chosen: Chosen,
    channels: Sequence[str],
    timeout: float,
    keep: Callable[[Session], object],
) -> Verdict:
    """Send notifications on *channels* in turn from a second session to the chosen session, which listens.

    *keep* is called with the second session, and its caller closes it. Behind a pooler only this test is
    proof: in PgBouncer's transaction mode LISTEN succeeds, and notifications of a session to itself arrive.
    """
    target = chosen.address.with_password()
    try:
        sender = connect(backend, target, target.connect_timeout or timeout)
    except ConnectionFailed as error:
        return not_proven(error, target.password_source)
    keep(sender)
    latencies: list[float] = []
    try:
        for number in range(ROUNDS):
            started = time.monotonic()
            channel = channels[number % len(channels)]
            try:
                execute(sender, notify_statement(channel, str(number)), timeout)
            except ConnectionLost as error:
                return _not_sent(error, pooled=chosen.pooled)
            if not _arrives(chosen.session, (channel, str(number)), time.monotonic() + timeout):
                return _missing(latencies, timeout, pooled=chosen.pooled)
            latencies.append(time.monotonic() - started)
    except ServerError as error:
        return verdicts.failed(f"the server refuses NOTIFY: {error}", remedy(error.sqlstate, str(error), ""))
    finally:
        sender.close()
    return verdicts.ok(
        f"{ROUNDS} notifications from a second session arrived, {milliseconds(statistics.median(latencies))} "
        f"after NOTIFY was sent ({milliseconds(min(latencies))} to {milliseconds(max(latencies))})"
    )


def not_proven(error: ConnectionFailed, password_source: str) -> Verdict:
    """Return the verdict if *error* keeps the second session from being made."""
    advice = remedy(error.sqlstate, str(error), password_source)
    return verdicts.warning(f"not proven, a second connection to send from failed: {error}", advice)


def _not_sent(error: ConnectionLost, *, pooled: bool) -> Verdict:
    if pooled:
        return verdicts.warning(
            f"not proven, the pooler has no second connection to send from: {error}",
            "give the pool more connections: in session mode each listener occupies one",
        )
    advice = remedy(error.sqlstate, str(error), "") or "see the server's log"
    return verdicts.failed(f"the second session was lost during NOTIFY: {error}", advice)


def _missing(latencies: list[float], timeout: float, *, pooled: bool) -> Verdict:
    what = f"of {len(latencies) + 1} notifications, the last" if latencies else "a notification"
    found = f"LISTEN succeeded, but {what} from a second session did not arrive within {timeout:g} s"
    if pooled:
        return verdicts.failed(
            f"{found}: the pooler acknowledged LISTEN and drops notifications, as in transaction mode",
            "connect to PostgreSQL itself (usually port 5432), or through a pool in session mode",
        )
    return verdicts.failed(found, "look for a proxy or a pooler in between, and read the server's log")


def _arrives(session: Session, wanted: tuple[str, str], deadline: float) -> bool:
    """Wait for the *wanted* channel and payload until *deadline*; return whether they arrived."""
    while True:
        batch = session.receive()
        if any((channel, payload) == wanted for _, channel, payload in batch):
            return True
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        if batch:
            # The driver's buffers may hold more, and the descriptor does not show that. Let other greenlets
            # run: an endless stream must not keep Ctrl-C from ending this loop.
            let_others_run()
        else:
            with contextlib.suppress(TimeoutError):
                wait_read(session.fileno(), left, TimeoutError())
