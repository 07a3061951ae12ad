"""From a connection string to a session: each host in turn, each address of its name, until one will do.

libpq's rules (PostgreSQL docs, libpq, "Specifying Multiple Hosts" and ``target_session_attrs``), and one more
that only a listener needs: a server that turns out to be a standby when it refuses LISTEN is passed over.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator

from .._conninfo import ConnInfo, passfile
from .._greenlet import spawn
from .._ownership import Owner, abandon_after_fork
from .._threads import in_thread
from ..backend import Backend, Session
from ..errors import ConfigurationError, ConnectionFailed, ConnectionLost, Error, ServerError, told
from .hints import with_remedy
from .resolve import resolve
from .server_state import NO_STATE, STATE_QUERY, ServerState

logger = logging.getLogger("pglisten.listener")

FINAL = ("28", "3D")
"""Classes of SQLSTATE that end the attempt, as in libpq: a wrong password or database is wrong everywhere,
and trying it on every host may lock the account. Anything else another host may do better."""


def dial(
    backend: Backend, conninfo: ConnInfo, timeout: float | None, *, look_for_pooler: bool = False
) -> Session:
    """Return a session with the first server that will do.

    *timeout* is seconds for each address, each name's resolution and each reading of the password file
    (``None``: no limit). Raises `ConnectionFailed`, which says of every host why not. Whoever wants to
    *look_for_pooler* spends a round trip on it, and finds a WARNING in the log if there is one.
    """
    attempt = ConnectAttempt(backend, conninfo, timeout, look_for_pooler=look_for_pooler)
    return _Dialling(attempt.next).session()


class _Dialling:
    """Runs *connect* in a greenlet of its own, which its caller owns.

    Whatever is thrown into the caller (`gevent.Timeout`, ``Greenlet.kill``) comes out of the caller's own
    wait. In the middle of *connect* it would be taken for a failure of the attempt, if it is of such a class.
    """

    def __init__(self, connect: Callable[[], Session]) -> None:
        self._connect = connect
        self._session: Session | None = None
        self._error: Exception | None = None
        self._abandoned = False

    def session(self) -> Session:
        """Return what *connect* returns, or raise what it raises. Given up, it leaves nothing behind."""
        greenlet = spawn("pglisten-dial", self._run)
        try:
            greenlet.join()
        except BaseException:
            self._abandoned = True
            if self._session is not None:
                self._session.close()
            greenlet.kill()
            raise
        if self._session is not None:
            return self._session
        raise self._error or ConnectionFailed("the greenlet that connects was killed")

    def _run(self) -> None:
        try:
            session = self._connect()
        except Exception as error:  # noqa: BLE001 - raised again in the caller's greenlet
            self._error = error
            return
        if self._abandoned:
            session.close()
        else:
            self._session = session


class ConnectAttempt:
    """One attempt's way through the hosts. Each call of `next` leads to the next server that will do."""

    def __init__(
        self, backend: Backend, conninfo: ConnInfo, timeout: float | None, *, look_for_pooler: bool = False
    ) -> None:
        self._backend = backend
        self._conninfo = conninfo
        self._timeout = timeout
        self._look_for_pooler = look_for_pooler
        self._failures: list[ConnectionFailed] = []
        self._at = conninfo
        self._owner = Owner()
        self._sessions = self._walk()

    def next(self) -> Session:
        """Return the next session, the caller's to close; `ConnectionFailed` if there is no other server."""
        if session := next(self._sessions, None):
            return session
        raise self._failure()

    def pass_over(self, error: Error) -> None:
        """Take note why the last session will not do after all."""
        self._failed(ConnectionFailed(f"{self._at.description}: {error}", sqlstate=_sqlstate(error)))

    def _walk(self) -> Iterator[Session]:
        wanted = self._conninfo.target_session_attrs
        others: list[ConnInfo] = []
        for address in self._addresses():
            if self._owner.forked:
                # A copy in a forked child, whose attempt nobody waits for.
                self._failures = [ConnectionFailed("this process was forked: the attempt is its parent's")]
                return
            self._at = address
            session, state = self._try(address)
            if session is None:
                if self._failures[-1].sqlstate is not None and self._failures[-1].sqlstate[:2] in FINAL:
                    return
            elif state is None or state.suits(wanted):
                yield session
            else:
                session.close()
                others.append(address)
                if wanted != "prefer-standby":
                    self._failed(ConnectionFailed(f"{address.description}: {state.unsuitable(wanted)}"))
        # There is no standby that will do: then any of those that are none.
        for address in others if wanted == "prefer-standby" else ():
            self._at = address
            session, _ = self._try(address)
            if session is not None:
                yield session

    def _addresses(self) -> Iterator[ConnInfo]:
        """Resolve each host when its turn comes: one that is slow must not hold up those before it."""
        targets = list(self._conninfo.targets())
        if self._conninfo.load_balance:
            random.shuffle(targets)
        for target in targets:
            try:
                found = resolve(target, self._timeout)
            except ConnectionFailed as error:
                self._failed(error, target)
                continue
            if self._conninfo.load_balance:
                random.shuffle(found)
            yield from found

    def _try(self, address: ConnInfo) -> tuple[Session | None, ServerState | None]:
        """Return a session, and the server's state if that matters; without one, the failure is noted."""
        target = self._with_password(address)
        if target is None:
            return None, None
        started = time.monotonic()
        try:
            session = connect(self._backend, target, self._timeout)
        except ConnectionFailed as error:
            self._failed(error, target)
            return None, None
        # It may be in use below, in the middle of a query, when this process forks.
        abandon_after_fork(session)
        try:
            remaining = None if self._timeout is None else self._timeout - (time.monotonic() - started)
            return session, self._look_at(session, remaining)
        except (ServerError, ConnectionLost) as error:
            session.close()
            self._failed(ConnectionFailed(f"{address.description}: {error}", sqlstate=_sqlstate(error)))
            return None, None
        except BaseException:
            session.close()
            raise

    def _with_password(self, address: ConnInfo) -> ConnInfo | None:
        """Return *address* with its password; ``None`` if the password file was not read in time."""
        path = address.passfile
        if not path:
            return address.with_password()
        # In a thread: the home directory may be on a server that does not answer.
        done = in_thread(lambda: passfile.read(path), self._timeout)
        if done is None:
            late = f"the password file was not read within {self._timeout:g} s"
            self._failed(ConnectionFailed(f"{address.description}: {late}"), address)
            return None
        try:
            content = done.get()
        except OSError as error:  # There is no thread.
            content = error
        return address.with_password(content)

    def _look_at(self, session: Session, remaining: float | None) -> ServerState | None:
        """Ask the server for its state, unless nobody wants to know: it costs a round trip."""
        if self._conninfo.target_session_attrs == "any" and not self._look_for_pooler:
            return None
        limit = None if remaining is None else max(remaining, 0.001)
        state = ServerState.read(session.fetch(STATE_QUERY, limit))
        if state is None:
            if self._conninfo.target_session_attrs != "any":
                raise ConnectionLost(NO_STATE)
            return None
        if self._look_for_pooler:
            self._look_for_pooler = False
            if state.pid != session.pid:
                logger.warning(
                    "%s: a connection pooler is in between (to it the session is %d, the server process is "
                    "%d). In PgBouncer's transaction mode LISTEN succeeds and brings nothing: connect to "
                    "PostgreSQL itself, or see what `pglisten doctor` finds",
                    self._at.description,
                    session.pid,
                    state.pid,
                )
        return state

    def _failed(self, error: ConnectionFailed, target: ConnInfo | None = None) -> None:
        self._failures.append(with_remedy(error, target or self._at))

    def _failure(self) -> ConnectionFailed:
        """Return one error for all that went wrong; there is no route without a server or a failure."""
        # Two addresses of a name tend to say the same.
        distinct = list({str(failure): failure for failure in self._failures}.values())
        if len(distinct) == 1:
            return distinct[0]
        codes = [failure.sqlstate for failure in distinct if failure.sqlstate is not None]
        failed = ConnectionFailed(
            "; ".join(map(str, distinct)),
            sqlstate=codes[-1] if codes else None,
        )
        failed.__cause__ = distinct[-1]
        return failed


def connect(backend: Backend, target: ConnInfo, timeout: float | None) -> Session:
    """Return a session with *target*, which has its password: what every attempt goes through.

    Raises `ConnectionFailed`, also for a private key that has been replaced by an encrypted one since the
    connection string was read: it may be replaced again.
    """
    if target.effective_sslmode != "disable":
        try:
            target.check_key()
        except ConfigurationError as error:
            raise ConnectionFailed(f"{target.description}: {error}") from None
    return backend.connect(target, timeout)


def as_failed_attempt(error: Exception) -> ConnectionFailed:
    """Return *error* as what it means for the attempt: it may have been lost while it was listening."""
    if isinstance(error, ConnectionFailed):
        return error
    failed = ConnectionFailed(str(error), sqlstate=_sqlstate(error))
    failed.__cause__ = error
    return failed


def as_bug(error: Exception, backend: Backend) -> ConnectionFailed:
    """Log *error*, which no backend may raise, and return it as a failed attempt."""
    logger.error("backend %s has a bug\n%s", backend.name, told(error))
    failed = ConnectionFailed(f"backend {backend.name} has a bug: {error!r}")
    failed.__cause__ = error
    return failed


def _sqlstate(error: Exception) -> str | None:
    return getattr(error, "sqlstate", None)
