"""``pglisten doctor``: checks, one after the other, everything that notifications need to arrive.

It uses only the interface of a backend, sends only on a channel of its own, and closes all its sessions.
"""

from __future__ import annotations

import contextlib
import os
import platform
import secrets
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import NamedTuple

from ... import __version__
from ..._backends import load_backend
from ..._connection.hints import remedy
from ..._connection.target import DsnFunction
from ..._conninfo import ConnInfo
from ..._conninfo.urls import Dsn
from ..._listener.settings import HEARTBEAT_INTERVAL
from ...backend import Backend, Session
from ...errors import ConfigurationError, ConnectionFailed, ConnectionLost, ServerError
from . import verdicts
from .delivery import check_delivery, listen, not_proven, unlisten
from .hosts import Chosen, choose, is_local, look_up
from .limits import fetch
from .poolers import name_of_pooler
from .verdicts import Status, Verdict, failed, ok, warning

__all__ = ["CHECKS", "Diagnosis"]


class Diagnosis:
    """One run of the checks in their order. A check may store what later checks need.

    *dsn* is a connection string, a function that returns one, or what is wrong with it. *timeout* is in
    seconds, for each step over the network, and for each call of the function.
    """

    def __init__(self, dsn: Dsn | ConfigurationError, backend: str | Backend | None, timeout: float) -> None:
        self._dsn = dsn
        self._wanted_backend = backend
        self._timeout = timeout
        name = f"pglisten_doctor_{secrets.token_hex(8)}"
        # Two: a pooler may listen to the first channel of a query, and acknowledge both.
        self._channels = (f"{name}_1", f"{name}_2")
        self._conninfo: ConnInfo | None = None
        self._backend: Backend | None = None
        self._addresses: list[ConnInfo] = []
        self._chosen_or_none: Chosen | None = None
        self._sessions = contextlib.ExitStack()

    @property
    def backend(self) -> str | None:
        """The backend's name; ``None`` before one is found."""
        return None if self._backend is None else self._backend.name

    def run(self) -> Iterator[tuple[str, Verdict]]:
        """Run the checks; yield the name and the verdict of each when it has finished.

        A check is skipped if it needs one that failed. After the connection is lost all others are skipped.
        """
        bad: set[str] = set()
        with self._sessions:
            for check in CHECKS:
                missing = [name for name in check.needs if name in bad]
                verdict = _skipped(missing[0]) if missing else self._try(check, bad)
                if verdict.status in (Status.FAILED, Status.SKIPPED):
                    bad.add(check.name)
                yield check.name, verdict

    def _try(self, check: Check, bad: set[str]) -> Verdict:
        try:
            return check.run(self)
        except ServerError as error:
            return warning(f"the server refuses the query: {error}", None)
        except ConnectionLost as error:
            bad.add(CONNECTION)
            advice = remedy(error.sqlstate, str(error), "") or "see the server's log"
            return failed(f"the connection was lost: {error}", advice)
        except (ValueError, IndexError):  # too few rows or columns, or no numbers in them
            return warning("the answer is not PostgreSQL's", "look for a proxy or a pooler in between")

    def _keep(self, session: Session) -> None:
        self._sessions.callback(session.close)

    def _settings(self) -> ConnInfo:
        """Return the settings for one attempt to connect.

        Raises `ConfigurationError`, or `ConnectionFailed` if there is a function that fails.
        """
        if isinstance(self._dsn, ConfigurationError):
            raise self._dsn
        if callable(self._dsn):
            return DsnFunction(self._dsn).ask(self._timeout)
        return ConnInfo.parse(self._dsn, os.environ)

    # Results of earlier checks.

    @property
    def _info(self) -> ConnInfo:
        assert self._conninfo is not None
        return self._conninfo

    @property
    def _driver(self) -> Backend:
        assert self._backend is not None
        return self._backend

    @property
    def _chosen(self) -> Chosen:
        assert self._chosen_or_none is not None
        return self._chosen_or_none

    def _ask(self, sql: str) -> list[tuple[str | None, ...]]:
        return fetch(self._chosen.session, sql, self._timeout)

    # The checks

    def configuration(self) -> Verdict:
        """Read the connection string and the environment."""
        try:
            self._conninfo = info = self._settings()
        except ConfigurationError as error:
            return failed(str(error), "correct --dsn, PGLISTEN_DSN, or the variable in the message")
        except ConnectionFailed as error:
            return failed(str(error), "correct the function, or find out why what it asks does not answer")
        targets = info.targets()
        places = ", ".join(target.description for target in targets)
        # A password file may have a line for each host: report that for the first.
        source = targets[0].with_password().password_source
        reason = source.removeprefix("none: ")
        password = f"password from {source}" if reason == source else f"no password ({reason})"
        return ok(f"{places} as {info.user}; sslmode={info.sslmode}; {password}")

    def backend_and_versions(self) -> Verdict:
        """Find the backend, and ask it whether it supports the settings."""
        wanted = self._wanted_backend
        try:
            made = wanted if isinstance(wanted, Backend) else load_backend(wanted)
            self._backend = made
            for host in self._info.targets():
                made.check(host)
        except ConfigurationError as error:
            return failed(str(error), None)
        return ok(
            f"{made.description()}; pglisten {__version__}, gevent {version('gevent')}, "
            f"Python {platform.python_version()}"
        )

    def resolution(self) -> Verdict:
        """Resolve all host names."""
        self._addresses, verdict = look_up(self._info, self._timeout)
        return verdict

    def connection(self) -> Verdict:
        """Connect to every address."""
        self._chosen_or_none, verdict = choose(self._driver, self._addresses, self._timeout, self._keep)
        return verdict

    def tls(self) -> Verdict:
        """Check the encryption."""
        chosen = self._chosen
        return verdicts.tls(
            self._ask(verdicts.TLS_QUERY),
            chosen.address.effective_sslmode,
            local=is_local(chosen.address),
            pooled=chosen.pooled,
        )

    def server(self) -> Verdict:
        """Check the server's version."""
        return verdicts.version(self._ask(verdicts.VERSION_QUERY))

    def encoding(self) -> Verdict:
        """Check the database's encoding."""
        return verdicts.encoding(self._ask(verdicts.ENCODING_QUERY))

    def pooler(self) -> Verdict:
        """Look for a pooler; `delivery` checks whether notifications pass it."""
        chosen = self._chosen
        if not chosen.pooled:
            return ok(f"none: server process {chosen.state.pid} answers itself")
        name = name_of_pooler(self._driver, chosen.address, self._timeout, self._keep)
        return warning(
            f"{name or 'one'} is in between: server process {chosen.state.pid} answers, but the session has "
            "another ID",
            "connect to PostgreSQL itself: notifications pass a pooler only in session mode",
        )

    def listen(self) -> Verdict:
        """LISTEN on two channels of its own, in one query."""
        # UNLISTEN before the session closes: the pooler's server session lives on and would keep listening.
        self._sessions.callback(unlisten, self._chosen.session, self._channels, self._timeout)
        return listen(self._chosen.session, self._channels, self._timeout)

    def delivery(self) -> Verdict:
        """Send notifications from a second session."""
        chosen = self._chosen
        if callable(self._dsn):
            # Another attempt: the password that was good for the first session may have expired.
            try:
                chosen = chosen._replace(address=self._settings().at_place_of(chosen.address))
            except ConnectionFailed as error:
                return not_proven(error, "")
        return check_delivery(self._driver, chosen, self._channels, self._timeout, self._keep)

    def queue(self) -> Verdict:
        """Check the notification queue, and look for the session that fills it."""
        usage = self._ask(verdicts.QUEUE_QUERY)
        is_filling = verdicts.queue_is_filling(usage)
        return verdicts.queue(usage, self._ask(verdicts.OLDEST_TRANSACTION_QUERY) if is_filling else [])

    def timeouts(self) -> Verdict:
        """Check the settings that would end a listener's session."""
        return verdicts.timeouts(self._ask(verdicts.TIMEOUTS_QUERY), HEARTBEAT_INTERVAL)

    def capacity(self) -> Verdict:
        """Check how many connections are free."""
        return verdicts.capacity(self._ask(verdicts.CAPACITY_QUERY))


def _skipped(needed: str) -> Verdict:
    return Verdict(Status.SKIPPED, f"left out: it needs {needed}")


class Check(NamedTuple):
    """One check.

    Its name never changes, because programs read it from ``--json``. It runs if none of *needs* failed.
    """

    name: str
    run: Callable[[Diagnosis], Verdict]
    needs: tuple[str, ...]


CONNECTION = "connection"

CHECKS = (
    Check("configuration", Diagnosis.configuration, ()),
    Check("backend", Diagnosis.backend_and_versions, ("configuration",)),
    Check("resolution", Diagnosis.resolution, ("backend",)),
    Check(CONNECTION, Diagnosis.connection, ("resolution",)),
    Check("tls", Diagnosis.tls, (CONNECTION,)),
    Check("server", Diagnosis.server, (CONNECTION,)),
    Check("encoding", Diagnosis.encoding, (CONNECTION,)),
    Check("pooler", Diagnosis.pooler, (CONNECTION,)),
    Check("listen", Diagnosis.listen, (CONNECTION,)),
    Check("delivery", Diagnosis.delivery, (CONNECTION, "listen")),
    Check("queue", Diagnosis.queue, (CONNECTION,)),
    Check("timeouts", Diagnosis.timeouts, (CONNECTION,)),
    Check("capacity", Diagnosis.capacity, (CONNECTION,)),
)
