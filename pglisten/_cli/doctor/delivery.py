"""The doctor's proof: what a second session sends does arrive, and how soon."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable

from gevent.socket import wait_read

from ..._connection.hints import remedy
from ..._connection.queue_repair import listen_with_repair
from ..._greenlet import let_others_run
from ..._sql import notify_statement, sync_statement
from ...backend import Backend, Session
from ...errors import ConnectionFailed, ConnectionLost, Error, ServerError
from . import verdicts
from .hosts import Chosen
from .limits import connect, execute
from .verdicts import Verdict, milliseconds

__all__ = ["leave", "listen", "prove"]

ROUNDS = 7
"""Notifications, one after the other: the first finds cold caches, and a median needs a few."""

LEAVE_TIMEOUT = 0.1
"""Seconds at most for UNLISTEN in the end: Ctrl-C ends the command in a second, even if the server hangs."""


def listen(session: Session, channel: str, timeout: float) -> Verdict:
    """LISTEN on *channel*; heal the server's queue if need be, as a listener does."""
    repaired: list[ServerError] = []
    started = time.monotonic()
    try:
        listen_with_repair(
            lambda sql: execute(session, sql, timeout),
            sync_statement([channel], []),
            on_repair=repaired.append,
        )
    except ServerError as error:
        advice = remedy(error.sqlstate, str(error), "")
        return verdicts.failed(f"the server refuses LISTEN: {error}", advice)
    for refusal in repaired:
        advice = remedy(refusal.sqlstate, str(refusal), "")
        return verdicts.warning(f"LISTEN succeeded, after the queue was trimmed: {refusal}", advice)
    return verdicts.ok(f"LISTEN succeeded in {milliseconds(time.monotonic() - started)}")


def leave(session: Session, channel: str, timeout: float) -> None:
    """UNLISTEN from *channel*, if that is still possible.

    In a busy pool in transaction mode it may get to another server session than LISTEN did.
    """
    with contextlib.suppress(Error):
        execute(session, sync_statement([], [channel]), min(timeout, LEAVE_TIMEOUT))


def prove(
    backend: Backend, chosen: Chosen, channel: str, timeout: float, keep: Callable[[Session], object]
) -> Verdict:
    """Send notifications on *channel*, which the chosen session listens to, from a second session.

    *keep* is called with that one, which its caller closes. Behind a pooler nothing less is proof: in
    PgBouncer's transaction mode LISTEN succeeds, and even what a session sends to itself arrives.
    """
    target = chosen.address.with_password()
    try:
        sender = connect(backend, target, target.connect_timeout or timeout)
    except ConnectionFailed as error:
        advice = remedy(error.sqlstate, str(error), target.password_source)
        return verdicts.warning(f"not proven, there is no second connection to send from: {error}", advice)
    keep(sender)
    took: list[float] = []
    try:
        for number in range(ROUNDS):
            started = time.monotonic()
            try:
                execute(sender, notify_statement(channel, str(number)), timeout)
            except ConnectionLost as error:
                return _not_sent(error, pooled=chosen.pooled)
            if not _arrives(chosen.session, (channel, str(number)), time.monotonic() + timeout):
                return _missing(took, timeout, pooled=chosen.pooled)
            took.append(time.monotonic() - started)
    except ServerError as error:
        return verdicts.failed(f"the server refuses NOTIFY: {error}", remedy(error.sqlstate, str(error), ""))
    finally:
        sender.close()
    return verdicts.ok(
        f"{ROUNDS} notifications from a second session arrived, {milliseconds(statistics.median(took))} "
        f"after NOTIFY was sent ({milliseconds(min(took))} to {milliseconds(max(took))})"
    )


def _not_sent(error: ConnectionLost, *, pooled: bool) -> Verdict:
    if pooled:
        return verdicts.warning(
            f"not proven, the pooler has no second connection to send over: {error}",
            "give the pool more connections: in session mode each listener keeps one for itself",
        )
    advice = remedy(error.sqlstate, str(error), "") or "see the server's log"
    return verdicts.failed(f"the second session was lost over NOTIFY: {error}", advice)


def _missing(arrived: list[float], timeout: float, *, pooled: bool) -> Verdict:
    what = f"of {len(arrived) + 1} notifications, the last" if arrived else "a notification"
    found = f"LISTEN succeeded, and {what} from a second session did not arrive within {timeout:g} s"
    if pooled:
        return verdicts.failed(
            f"{found}: a pooler in transaction mode drops them",
            "connect to PostgreSQL itself (as a rule port 5432), or through a pool in session mode",
        )
    return verdicts.failed(
        found, "look for what is in between, such as a proxy or a pooler, and at the server's log"
    )


def _arrives(session: Session, wanted: tuple[str, str], deadline: float) -> bool:
    """Wait for a notification with that channel and payload; return whether it came."""
    while True:
        batch = session.receive()
        if any((channel, payload) == wanted for _, channel, payload in batch):
            return True
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        if batch:
            # More may be in the driver's buffers, of which the descriptor says nothing. Others need a turn
            # meanwhile: what comes without end must not keep Ctrl-C from ending this.
            let_others_run()
        else:
            with contextlib.suppress(TimeoutError):
                wait_read(session.fileno(), left, TimeoutError())
