"""The doctor names the host that a listener takes."""

from __future__ import annotations

from itertools import product

import pytest

from pglisten._cli.doctor.hosts import choose
from pglisten._connection.connect import ConnectAttempt
from pglisten._conninfo import ConnInfo
from pglisten.backend import Session
from pglisten.errors import ConnectionFailed, ServerError
from pglisten.testing import FakeBackend, FakeServer

LIMIT = 20.0
PORTS = (1, 2, 3)
KINDS = ("primary", "standby", "absent", "wrong password")
REFUSED = "cannot execute LISTEN during recovery"


class Network(FakeBackend):
    """One server for each port, of the given kinds."""

    def __init__(self, kinds: tuple[str, ...]) -> None:
        super().__init__()
        self.kinds = dict(zip(PORTS, kinds, strict=True))
        self.connected = 0

    def connect(self, conninfo: ConnInfo, timeout: float | None) -> Session:
        kind = self.kinds[conninfo.port]
        if kind in {"absent", "wrong password"}:
            sqlstate = None if kind == "absent" else "28P01"
            raise ConnectionFailed(f"{conninfo.description}: {kind}", sqlstate=sqlstate)
        self.server = FakeServer()
        self.server.in_recovery = kind == "standby"
        self.connected = conninfo.port
        return super().connect(conninfo, timeout)


def taken_by_a_listener(network: Network, conninfo: ConnInfo) -> int | None:
    """Return the port of the first server that does not refuse LISTEN."""
    attempt = ConnectAttempt(network, conninfo, LIMIT)
    while True:
        try:
            session = attempt.next()
        except ConnectionFailed:
            return None
        session.close()
        if network.kinds[network.connected] != "standby":
            return network.connected
        attempt.pass_over(ServerError(REFUSED, severity="ERROR", sqlstate="25006"))


@pytest.mark.parametrize("wanted", ["any", "read-write", "read-only", "primary", "standby", "prefer-standby"])
def test_the_doctor_takes_the_host_that_a_listener_takes(wanted: str) -> None:
    dsn = f"host=127.0.0.1,127.0.0.1,127.0.0.1 port=1,2,3 user=app target_session_attrs={wanted}"
    conninfo = ConnInfo.parse(dsn, {})
    addresses = [target.at("127.0.0.1") for target in conninfo.targets()]
    for kinds in product(KINDS, repeat=len(PORTS)):
        sessions: list[Session] = []
        chosen, _ = choose(Network(kinds), addresses, LIMIT, sessions.append)
        for session in sessions:
            session.close()
        expected = taken_by_a_listener(Network(kinds), conninfo)
        if expected is not None:
            assert chosen is not None, kinds
            assert chosen.address.port == expected, kinds
        else:  # The doctor then shows the refusal of a standby, if there is one.
            assert chosen is None or chosen.state.in_recovery, kinds
