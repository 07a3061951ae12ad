"""What a backend promises over TLS."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import pytest

from ...backend import Backend, ConnInfo, Session
from ...errors import ConnectionFailed
from .._proxy import DOWN, Proxy
from ._fixtures import Connect, answering
from ._network import NetworkContract
from ._notifications import NotificationContract
from ._observing import (
    PATIENCE,
    addresses,
    answer,
    connect_to,
    drain,
    every_descriptor_returned,
    listen,
    notify,
    wait_readable,
)
from ._sessions import EndContract

__all__ = ["TlsContract", "TlsSite"]

_ENCRYPTED = "(SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid())"

_ANOTHER_HOST = "another-host.invalid"  # never resolved: the address is given beside it

_TLS_KEYWORDS = ("sslrootcert", "sslcert", "sslkey")


@dataclass(frozen=True)
class TlsSite:
    """The server's certificate as the suite needs it, and files for the client; all files are PEM."""

    host: str
    """A host name or address that the server's certificate names, and that leads to the server."""
    root: str
    """The authority that signed the server's certificate."""
    wrong_root: str
    """Another authority, which did not sign it."""
    user: str
    """A role that logs in with its certificate only."""
    certificate: str
    """That role's certificate."""
    key: str
    """The certificate's key, readable by its owner only."""


class TlsContract(NetworkContract, EndContract, NotificationContract):
    """Everything about notifications and ends of sessions, over TLS; and who is trusted.

    ``dsn`` leads to a PostgreSQL that takes connections with TLS and without, over TCP. The user who
    runs the tests should have no certificate files in ``~/.postgresql``: they would take effect.
    """

    @pytest.fixture
    def tls(self) -> TlsSite:
        """Return the server's certificate and the files for the client."""
        raise NotImplementedError("define a fixture `tls` that returns a TlsSite")

    @pytest.fixture
    def reached(self, dsn: str, tls: TlsSite) -> ConnInfo:
        """Return ``dsn`` with the host of the certificate, without TLS options."""
        values = {
            keyword: value
            for keyword, value in ConnInfo.parse(dsn, {}).values().items()
            if keyword not in (*_TLS_KEYWORDS, "hostaddr")
        }
        # All tests use the first address that accepts connections.
        return ConnInfo({**values, "host": tls.host})

    @pytest.fixture
    def conninfo(self, reached: ConnInfo) -> ConnInfo:
        """Return the connection string with TLS required."""
        return _with(reached, sslmode="require")

    @pytest.fixture
    def hostaddr(self, backend: Backend, conninfo: ConnInfo) -> str:
        """Return the address at which the server takes connections."""
        for candidate in addresses(conninfo):
            try:
                backend.connect(candidate, PATIENCE).close()
            except ConnectionFailed:
                continue
            return candidate.hostaddr
        pytest.fail(f"no session with TLS at any address of {conninfo.description}")

    @pytest.mark.parametrize(
        ("sslmode", "encrypted"),
        [
            ("disable", "false"),
            ("allow", "false"),
            ("prefer", "true"),
            ("require", "true"),
            ("verify-ca", "true"),
            ("verify-full", "true"),
        ],
    )
    def test_sslmode_decides_whether_the_session_is_encrypted(
        self, connect: Connect, reached: ConnInfo, tls: TlsSite, sslmode: str, encrypted: str
    ) -> None:
        root = {"sslrootcert": tls.root} if sslmode.startswith("verify") else {}
        assert answer(connect(_with(reached, sslmode=sslmode, **root)), _ENCRYPTED) == encrypted

    @pytest.mark.parametrize("sslmode", ["require", "verify-ca", "verify-full"])
    def test_a_certificate_of_another_authority_is_refused(
        self, backend: Backend, reached: ConnInfo, tls: TlsSite, sslmode: str
    ) -> None:
        # With "require" too: libpq verifies against a root certificate that it is given.
        with pytest.raises(ConnectionFailed) as caught:
            connect_to(backend, _with(reached, sslmode=sslmode, sslrootcert=tls.wrong_root))
        assert caught.value.sqlstate is None
        assert "\n" not in str(caught.value)

    def test_verify_full_refuses_a_certificate_for_another_host(
        self, backend: Backend, reached: ConnInfo, tls: TlsSite, hostaddr: str
    ) -> None:
        other = _with(reached, host=_ANOTHER_HOST, hostaddr=hostaddr, sslrootcert=tls.root)
        with pytest.raises(ConnectionFailed):
            backend.connect(_with(other, sslmode="verify-full"), PATIENCE)

    def test_verify_ca_accepts_a_certificate_for_another_host(
        self, connect: Connect, reached: ConnInfo, tls: TlsSite, hostaddr: str
    ) -> None:
        other = _with(reached, host=_ANOTHER_HOST, hostaddr=hostaddr, sslrootcert=tls.root)
        assert answer(connect(_with(other, sslmode="verify-ca")), _ENCRYPTED) == "true"

    def test_a_refused_certificate_leaves_no_descriptor(
        self, backend: Backend, reached: ConnInfo, tls: TlsSite, hostaddr: str
    ) -> None:
        wrong = _with(reached, hostaddr=hostaddr, sslmode="verify-full", sslrootcert=tls.wrong_root)
        with every_descriptor_returned():
            for _ in range(5):
                with pytest.raises(ConnectionFailed):
                    backend.connect(wrong, PATIENCE)

    def test_a_client_certificate_logs_in(self, connect: Connect, reached: ConnInfo, tls: TlsSite) -> None:
        session = connect(
            _with(
                reached,
                sslmode="verify-full",
                sslrootcert=tls.root,
                user=tls.user,
                password="",
                sslcert=tls.certificate,
                sslkey=tls.key,
            )
        )
        assert answer(session, "current_user::text") == tls.user

    def test_without_its_client_certificate_a_role_is_refused(
        self, backend: Backend, reached: ConnInfo, tls: TlsSite
    ) -> None:
        with pytest.raises(ConnectionFailed) as caught:
            connect_to(backend, _with(reached, sslmode="require", user=tls.user, password=""))
        assert caught.value.sqlstate == "28000"

    def test_200_notifications_in_a_record_each_need_one_wait(
        self, session: Session, other: Session, proxy: Proxy, channel: str
    ) -> None:
        listen(session, channel)
        payloads = [str(number) for number in range(200)]
        proxy.hold(DOWN)
        for payload in payloads:
            # Once something more is held, that notification has left the server, in a record of its own.
            before = proxy.bytes_down
            notify(other, channel, payload)
            proxy.wait_until(partial(_grown, proxy, before))
        proxy.release()
        wait_readable(session)
        # The kernel has all of it, and TLS hands out a record at a time.
        assert [notification.payload for notification in drain(session)] == [
            str(number) for number in range(200)
        ]

    def test_a_server_without_tls_is_a_failure_where_tls_is_required(
        self, backend: Backend, conninfo: ConnInfo
    ) -> None:
        with answering(conninfo, b"N") as elsewhere, pytest.raises(ConnectionFailed, match=r"SSL|TLS"):
            backend.connect(elsewhere, PATIENCE)

    def test_what_comes_in_clear_behind_the_servers_consent_is_refused(
        self, backend: Backend, conninfo: ConnInfo
    ) -> None:
        # A man in the middle may have inserted it (CVE-2021-23222).
        with answering(conninfo, b"SR\0\0\0\x08\0\0\0\0") as elsewhere, pytest.raises(ConnectionFailed):
            backend.connect(elsewhere, PATIENCE)


def _grown(proxy: Proxy, before: int) -> bool:
    return proxy.bytes_down > before


def _with(conninfo: ConnInfo, **values: str) -> ConnInfo:
    return ConnInfo({**conninfo.values(), **values})
