"""Checks each host: which server answers, and which of them a listener takes."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..._connection.hints import remedy
from ..._connection.host_choice import Choice, ends_attempt, first_to_listen, judge
from ..._connection.resolve import resolve
from ..._connection.server_state import NO_STATE, STATE_QUERY, ServerState
from ..._conninfo import ConnInfo
from ...backend import Backend, Session
from ...errors import ConnectionFailed, ConnectionLost, ServerError
from . import verdicts
from .limits import connect, fetch
from .verdicts import Verdict, milliseconds

__all__ = ["Chosen", "choose", "is_local", "look_up"]


class Chosen(NamedTuple):
    """The session of the server that a listener takes."""

    address: ConnInfo
    session: Session
    state: ServerState

    @property
    def pooled(self) -> bool:
        """Whether a pooler is in between: the server process that answers has another ID than the session."""
        return self.state.pid != self.session.pid


def look_up(conninfo: ConnInfo, timeout: float) -> tuple[list[ConnInfo], Verdict]:
    """Return all addresses of all hosts, and the verdict on the resolution."""
    addresses: list[ConnInfo] = []
    found: list[str] = []
    advice: str | None = None
    for target in conninfo.targets():
        try:
            resolved = resolve(target, timeout)
        except ConnectionFailed as error:
            found.append(str(error))
            advice = remedy(None, str(error), "")
            continue
        addresses.extend(resolved)
        numbers = ", ".join(address.hostaddr for address in resolved)
        if target.is_unix or target.hostaddr or numbers == target.host:
            found.append(f"{target.host or target.hostaddr} needs no resolution")
        else:
            found.append(f"{target.host} is {numbers}")
    text = "; ".join(dict.fromkeys(found))
    if not addresses:
        return addresses, verdicts.failed(text, advice)
    return addresses, verdicts.ok(text) if advice is None else verdicts.warning(text, advice)


def choose(
    backend: Backend,
    addresses: Sequence[ConnInfo],
    timeout: float,
    keep: Callable[[Session], object],
) -> tuple[Chosen | None, Verdict]:
    """Connect to each address; return the one that a listener takes, and the verdict on all.

    *timeout* is in seconds, for each step. *keep* is called with every session and must close it in the end,
    whatever happens. Sessions that are not chosen are closed here already.
    """
    survey = _Survey(backend, timeout, keep)
    for address in addresses:
        survey.connect_to(address)
        if survey.is_final:
            break
    chosen = survey.best()
    for candidate in survey.candidates:
        if candidate is not chosen:
            candidate.session.close()
    text, advice = "; ".join(survey.found), "; ".join(dict.fromkeys(survey.advice)) or None
    if chosen is None:
        return None, verdicts.failed(text, advice or survey.advice_if_none_suits)
    if len(survey.found) > 1:
        text += f"; a listener takes {_place(chosen.address)}"
    return chosen, verdicts.warning(text, advice) if survey.failures else verdicts.ok(text)


def is_local(address: ConnInfo) -> bool:
    """Return whether a connection to *address* stays on this machine."""
    return address.is_unix or ipaddress.ip_address(address.hostaddr.partition("%")[0]).is_loopback


class _Survey:
    """Connects to the addresses in turn, and collects the findings."""

    def __init__(self, backend: Backend, timeout: float, keep: Callable[[Session], object]) -> None:
        self._backend = backend
        self._timeout = timeout
        self._keep = keep
        self.candidates: list[Chosen] = []
        self.found: list[str] = []
        self.advice: list[str] = []
        self.advice_if_none_suits: str | None = None
        self.failures = 0
        self.is_final = False

    def connect_to(self, address: ConnInfo) -> None:
        """Connect to *address*, and ask the server for its state."""
        started = time.monotonic()
        target = address.with_password()
        try:
            session = connect(self._backend, target, target.connect_timeout or self._timeout)
            self._keep(session)
            elapsed = time.monotonic() - started
            state = ServerState.read(fetch(session, STATE_QUERY, self._timeout))
            if state is None:
                raise ConnectionLost(NO_STATE)
        except (ConnectionFailed, ConnectionLost, ServerError) as error:
            # The message of a failed attempt begins with the address.
            where = "" if isinstance(error, ConnectionFailed) else f"{address.description}: "
            self._failed(f"{where}{error}", error.sqlstate, target.password_source)
            return
        wanted = address.target_session_attrs
        where = _place(address)
        if judge(state, wanted) is Choice.SKIP:
            # Not a failure: the other hosts are named for this case.
            session.close()
            self.found.append(f"{where}: {state.unsuitable(wanted)}")
            self.advice_if_none_suits = (
                "name a server that matches target_session_attrs, or change target_session_attrs"
            )
            return
        self.candidates.append(Chosen(address, session, state))
        self.found.append(f"{where} is {_kind(state)}, connected in {milliseconds(elapsed)}")

    def best(self) -> Chosen | None:
        """Return the session that a listener would keep; ``None`` if there is none."""
        if not self.candidates:
            return None
        wanted = self.candidates[0].address.target_session_attrs  # The same for all hosts.
        servers = [(candidate, candidate.state) for candidate in self.candidates]
        return first_to_listen(servers, wanted, ended=self.is_final)

    def _failed(self, text: str, sqlstate: str | None, password_source: str) -> None:
        self.failures += 1
        self.found.append(text)
        if advice := remedy(sqlstate, text, password_source):
            self.advice.append(advice)
        self.is_final = ends_attempt(sqlstate)


def _kind(state: ServerState) -> str:
    if state.in_recovery:
        return "a standby"
    return "a primary, read-only" if state.read_only else "a primary"


def _place(address: ConnInfo) -> str:
    resolved = address.host and address.hostaddr and address.hostaddr != address.host
    return f"{address.description} at {address.hostaddr}" if resolved else address.description
