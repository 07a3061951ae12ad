"""From a connection string to a session: tries each host, and each address of its name, in turn.

The rules are libpq's (PostgreSQL docs, libpq, "Specifying Multiple Hosts" and ``target_session_attrs``). A
listener has one more: if a server refuses LISTEN because it is a standby, the next one is tried.
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
from .host_choice import Choice, ends_attempt, judge
from .resolve import resolve
from .server_state import NO_STATE, STATE_QUERY, ServerState

logger = logging.getLogger("pglisten.listener")


def dial(
    backend: Backend, conninfo: ConnInfo, timeout: float | None, *, look_for_pooler: bool = False
) -> Session:
    """Return a session with the first suitable server.

    *timeout* is seconds for each address, each name's resolution and each reading of the password file
    (``None``: no limit). Raises `ConnectionFailed`, which gives the reason for each host. *look_for_pooler*
    costs a round trip, and logs a WARNING if there is a connection pooler.
    """
    attempt = ConnectAttempt(backend, conninfo, timeout, look_for_pooler=look_for_pooler)
    return _Dialling(attempt.next).session()


class _Dialling:
    """Run *connect* in a greenlet of its own, which the caller owns.

    An exception thrown into the caller (`gevent.Timeout`, ``Greenlet.kill``) leaves the caller's own wait. In
    the middle of *connect* it could be taken for a failure of the attempt.
    """

    def __init__(self, connect: Callable[[], Session]) -> None:
        self._connect = connect
        self._session: Session | None = None
        self._error: Exception | None = None
        self._abandoned = False

    def session(self) -> Session:
        """Return what *connect* returns, or raise what it raises. A killed caller leaves no session."""
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
    """Go through the hosts once. Each call of `next` returns a session with the next suitable server."""

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
        """Return the next session, which the caller closes; raise `ConnectionFailed` if no server is left."""
        if session := next(self._sessions, None):
            return session
        raise self._failure()

    def outcome(self) -> tuple[Session | None, Exception | None]:
        """Return what `next` returns, or else the error. One bad attempt must not end a listener."""
        try:
            return self.next(), None
        except Error as error:
            return None, error
        except Exception as error:  # noqa: BLE001 - see above
            return None, as_bug(error, self._backend)

    def pass_over(self, error: Error) -> None:
        """Note why the last session is not suitable after all."""
        self._failed(ConnectionFailed(f"{self._at.description}: {error}", sqlstate=_sqlstate(error)))

    def _walk(self) -> Iterator[Session]:
        wanted = self._conninfo.target_session_attrs
        reserves: list[ConnInfo] = []
        for address in self._addresses():
            if self._owner.forked:
                # This is the copy in a forked child: no caller waits for this attempt.
                self._failures = [ConnectionFailed("this process was forked: the attempt is its parent's")]
                return
            self._at = address
            session, state = self._try(address)
            if session is None:
                if ends_attempt(self._failures[-1].sqlstate):
                    return
            elif state is None or (choice := judge(state, wanted)) is Choice.TAKE:
                yield session
            else:
                session.close()
                if choice is Choice.RESERVE:
                    reserves.append(address)
                else:
                    self._failed(ConnectionFailed(f"{address.description}: {state.unsuitable(wanted)}"))
        # No other server is suitable: take a reserve.
        for address in reserves:
            self._at = address
            session, _ = self._try(address)
            if session is not None:
                yield session

    def _addresses(self) -> Iterator[ConnInfo]:
        """Resolve each host only in its turn: a slow name must not delay the hosts before it."""
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
        """Return a session, and the server's state if it was asked for; ``None`` after noting a failure."""
        target = self._with_password(address)
        if target is None:
            return None, None
        started = time.monotonic()
        try:
            session = connect(self._backend, target, self._timeout)
        except ConnectionFailed as error:
            self._failed(error, target)
            return None, None
        # This process may fork while the query below is in flight.
        abandon_after_fork(session)
        try:
            remaining = None if self._timeout is None else self._timeout - (time.monotonic() - started)
            return session, self._look_at(session, remaining)
        except (ServerError, ConnectionLost) as error:
            session.close()
            late = self._timeout is not None and time.monotonic() - started >= self._timeout
            # The backend's text has what was left of the time. The user set the whole.
            why = f"the server did not answer a query within {self._timeout:g} s" if late else error
            self._failed(ConnectionFailed(f"{address.description}: {why}", sqlstate=_sqlstate(error)))
            return None, None
        except BaseException:
            session.close()
            raise

    def _with_password(self, address: ConnInfo) -> ConnInfo | None:
        """Return *address* with its password; ``None`` if the password file was not read in time."""
        path = address.passfile
        if not path:
            return address.with_password()
        # Read it in a thread: the home directory may be on a server that does not answer.
        done = in_thread(lambda: passfile.read(path), self._timeout)
        if done is None:
            late = f"the password file was not read within {self._timeout:g} s"
            self._failed(ConnectionFailed(f"{address.description}: {late}"), address)
            return None
        try:
            content = done.get()
        except OSError as error:  # The system has no thread left.
            content = error
        return address.with_password(content)

    def _look_at(self, session: Session, remaining: float | None) -> ServerState | None:
        """Ask the server for its state if that is needed; it costs a round trip."""
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
                    "%d). In transaction mode LISTEN succeeds, but nothing arrives: connect to PostgreSQL "
                    "itself, or see what `pglisten doctor` finds",
                    self._at.description,
                    session.pid,
                    state.pid,
                )
        return state

    def _failed(self, error: ConnectionFailed, target: ConnInfo | None = None) -> None:
        self._failures.append(with_remedy(error, target or self._at))

    def _failure(self) -> ConnectionFailed:
        """Return one error for all failures; there is at least one."""
        # Two addresses of one name often fail with the same text.
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
    """Return a session with *target*, which has its password. Every attempt uses this function.

    Raises `ConnectionFailed`. It also does if the private key was replaced by an encrypted one after the
    connection string was read, because the key may be replaced again.
    """
    if target.effective_sslmode != "disable":
        try:
            target.check_key()
        except ConfigurationError as error:
            raise ConnectionFailed(f"{target.description}: {error}") from None
    return backend.connect(target, timeout)


def as_failed_attempt(error: Exception) -> ConnectionFailed:
    """Return *error* as a failed attempt; the connection may have been lost during the LISTEN."""
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
