"""The backend's class: the settings that it supports, and its errors for the others."""

from __future__ import annotations

from importlib.metadata import version
from typing import ClassVar

from pglisten.backend import Backend, ConnInfo, Deadline, DeadlinePassed
from pglisten.errors import ConfigurationError, ConnectionFailed, without_frames

from . import _tls
from ._failure import StartupFailed
from ._session import Pg8000Session
from ._startup import Established, establish

__all__ = ["Pg8000Backend"]

# fmt: off
_SUPPORTED = frozenset(
    {
        "user", "password", "dbname", "host", "hostaddr", "port", "options", "application_name",
        "fallback_application_name", "connect_timeout", "channel_binding", "sslmode",
        "sslnegotiation", "sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl", "sslcrldir",
        "sslsni", "ssl_min_protocol_version", "ssl_max_protocol_version", "keepalives",
        "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout",
        "min_protocol_version", "max_protocol_version", "scram_client_key", "scram_server_key",
        "sslkeylogfile",
    }
)
# fmt: on
"""libpq's keywords that have libpq's meaning here. Other keywords are refused, not ignored."""

_HANDLED_BY_CORE = frozenset({"service", "passfile", "target_session_attrs", "load_balance_hosts"})
"""Keywords that the core handles: see `ConnInfo.values`."""

_WITHOUT_EFFECT = {
    "sslcompression": {"0"},
    "sslcertmode": {"disable", "allow"},
    "gssencmode": {"disable", "prefer"},
    "krbsrvname": {"postgres"},
    "gssdelegation": {"0"},
}
"""Accepted values of other keywords: they turn the feature off, or are libpq's default."""


class Pg8000Backend(Backend):
    """Opens sessions in pure Python: pg8000 does the start-up, this package receives and parses the rest."""

    name: ClassVar[str] = "pg8000"
    rank: ClassVar[int] = 30  # Last: an application that has another driver uses that one for other queries.

    def description(self) -> str:
        """Return the driver and its version for people."""
        return f"pg8000 {version('pg8000')}"

    def check(self, conninfo: ConnInfo) -> None:
        """Raise `ConfigurationError` for a setting that this backend does not support."""
        for keyword, value in conninfo.values().items():
            known = keyword in _SUPPORTED | _HANDLED_BY_CORE or value in _WITHOUT_EFFECT.get(keyword, ())
            if value and not known and keyword.startswith("oauth_"):
                # Without the value: one of them is a secret.
                raise ConfigurationError(
                    f"{keyword} is not possible with backend pg8000: "
                    "leave it out, or use backend psycopg with libpq 18 or newer"
                )
            if value and not known:
                raise ConfigurationError(
                    f"{keyword}={value} is not possible with backend pg8000: "
                    "leave it out, or use backend psycopg2"
                )
        for keyword in ("ssl_min_protocol_version", "ssl_max_protocol_version"):
            if conninfo[keyword] and conninfo[keyword].lower() not in _tls.VERSIONS:
                raise ConfigurationError(
                    f"{keyword}={conninfo[keyword]} is not possible with backend pg8000: "
                    "write TLSv1.2 or TLSv1.3, or use backend psycopg2"
                )
        if conninfo.effective_sslmode == "verify-full" and not conninfo.host:
            raise ConfigurationError(
                "sslmode=verify-full needs a host to compare with the server's certificate: set host"
            )

    def connect(self, conninfo: ConnInfo, timeout: float | None) -> Pg8000Session:
        """Return a session within *timeout* seconds; see `pglisten.backend.Backend.connect`."""
        established = _establish(conninfo, timeout)
        if isinstance(established, ConnectionFailed):
            raise established
        return Pg8000Session(established)


def _establish(conninfo: ConnInfo, timeout: float | None) -> Established | ConnectionFailed:
    """Return the error instead of raising it, because the frames in its context would hold the password."""
    where = conninfo.description
    try:
        return establish(conninfo, Deadline(timeout))
    except DeadlinePassed:
        return ConnectionFailed(f"{where}: no answer within {timeout:g} s")
    except StartupFailed as exc:
        failed = ConnectionFailed(f"{where}: {exc}", sqlstate=exc.sqlstate)
        # pg8000's frames hold the password.
        failed.__cause__ = exc.__cause__ and without_frames(exc.__cause__)
        return failed
