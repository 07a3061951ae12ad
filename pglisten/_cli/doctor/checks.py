"""``pglisten doctor``: what can go wrong between this process and notifications, one check after the other.

It uses a backend through its interface alone, sends nothing that others listen to, and leaves nothing behind.
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
from ..._conninfo import ConnInfo
from ..._listener.settings import HEARTBEAT_INTERVAL
from ...backend import Backend, Session
from ...errors import ConfigurationError, ConnectionLost, ServerError
from . import verdicts
from .delivery import leave, listen, prove
from .hosts import Chosen, choose, is_local, look_up
from .limits import fetch
from .verdicts import Status, Verdict, failed, ok, warning

__all__ = ["CHECKS", "Diagnosis"]


class Diagnosis:
    """One visit: the checks in their order, each of which may find what later ones need.

    *timeout* is the seconds that each step over the network may take.
    """

    def __init__(self, dsn: str, backend: str | Backend | None, timeout: float) -> None:
        self._dsn = dsn
        self._wanted_backend = backend
        self._timeout = timeout
        self._channel = f"pglisten_doctor_{secrets.token_hex(8)}"
        self._conninfo: ConnInfo | None = None
        self._backend: Backend | None = None
        self._addresses: list[ConnInfo] = []
        self._chosen: Chosen | None = None
        self._sessions = contextlib.ExitStack()

    @property
    def backend(self) -> str | None:
        """The backend's name, ``None`` as long as none is found."""
        return None if self._backend is None else self._backend.name

    def run(self) -> Iterator[tuple[str, Verdict]]:
        """Carry out the checks; give the name and the verdict of each when it is there.

        What needs a check that failed is skipped, and so is everything once the connection is lost.
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
            return warning(f"the server does not tell: {error}", None)
        except ConnectionLost as error:
            bad.add(CONNECTION)
            advice = remedy(error.sqlstate, str(error), "") or "see the server's log"
            return failed(f"the connection was lost: {error}", advice)
        except (ValueError, IndexError):  # too few rows or columns, or no numbers in them
            return warning("the answer is not what PostgreSQL would say", "look for what is in between")

    def _keep(self, session: Session) -> None:
        self._sessions.callback(session.close)

    # What a check needs, and an earlier one found.

    @property
    def _info(self) -> ConnInfo:
        assert self._conninfo is not None
        return self._conninfo

    @property
    def _driver(self) -> Backend:
        assert self._backend is not None
        return self._backend

    @property
    def _patient(self) -> Chosen:
        assert self._chosen is not None
        return self._chosen

    def _ask(self, sql: str) -> list[tuple[str | None, ...]]:
        return fetch(self._patient.session, sql, self._timeout)

    # The checks

    def configuration(self) -> Verdict:
        """Read the connection string and the environment."""
        try:
            self._conninfo = info = ConnInfo.parse(self._dsn, os.environ)
        except ConfigurationError as error:
            return failed(str(error), "correct --dsn or PGLISTEN_DSN, or the variable that is named")
        targets = info.targets()
        places = ", ".join(target.description for target in targets)
        # Of a password file, the line for the first host.
        source = targets[0].with_password().password_source
        reason = source.removeprefix("none: ")
        password = f"password from {source}" if reason == source else f"no password ({reason})"
        return ok(f"{places} as {info.user}; sslmode={info.sslmode}; {password}")

    def backend_and_versions(self) -> Verdict:
        """Find the driver, and ask it whether it can do what was configured."""
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
        self._chosen, verdict = choose(self._driver, self._addresses, self._timeout, self._keep)
        return verdict

    def tls(self) -> Verdict:
        """Look at the encryption."""
        address, _, _ = patient = self._patient
        return verdicts.tls(
            self._ask(verdicts.TLS_QUERY),
            address.effective_sslmode,
            local=is_local(address),
            pooled=patient.pooled,
        )

    def server(self) -> Verdict:
        """Look at the server's version."""
        return verdicts.version(self._ask(verdicts.VERSION_QUERY))

    def encoding(self) -> Verdict:
        """Look at the database's encoding."""
        return verdicts.encoding(self._ask(verdicts.ENCODING_QUERY))

    def pooler(self) -> Verdict:
        """Look for a pooler: whether it delivers is the business of `delivery`."""
        patient = self._patient
        if not patient.pooled:
            return ok(f"none: server process {patient.state.pid} answers itself")
        return warning(
            f"one is in between: server process {patient.state.pid} answers, and another was announced",
            "connect to PostgreSQL itself: only in session mode do notifications come through",
        )

    def listen(self) -> Verdict:
        """LISTEN on a channel of its own."""
        # Before the session's end: a pooler's lives on, and would listen for nobody.
        self._sessions.callback(leave, self._patient.session, self._channel, self._timeout)
        return listen(self._patient.session, self._channel, self._timeout)

    def delivery(self) -> Verdict:
        """Send notifications from a second session."""
        return prove(self._driver, self._patient, self._channel, self._timeout, self._keep)

    def queue(self) -> Verdict:
        """Look at the notification queue, and for who keeps it full."""
        usage = self._ask(verdicts.QUEUE_QUERY)
        is_filling = verdicts.queue_is_filling(usage)
        return verdicts.queue(usage, self._ask(verdicts.OLDEST_TRANSACTION_QUERY) if is_filling else [])

    def timeouts(self) -> Verdict:
        """Look at what would end a listener."""
        return verdicts.timeouts(self._ask(verdicts.TIMEOUTS_QUERY), HEARTBEAT_INTERVAL)

    def capacity(self) -> Verdict:
        """Look at how many connections are left."""
        return verdicts.capacity(self._ask(verdicts.CAPACITY_QUERY))


def _skipped(needed: str) -> Verdict:
    return Verdict(Status.SKIPPED, f"left out: it needs {needed}")


class Check(NamedTuple):
    """A name that stays, for programs that read ``--json``; and the checks that must not have failed."""

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
