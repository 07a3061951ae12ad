"""The keywords that libpq gets, so that it decides nothing by itself."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable

from pglisten.backend import ConnInfo
from pglisten.errors import ConfigurationError

__all__ = ["check", "hint", "settings"]

SYSTEM_ROOTS = 160000
"""The first libpq that takes ``sslrootcert=system`` for more than a file name (PostgreSQL 16 release
notes)."""


EXPLICIT_DEFAULTS = {
    # libpq's default tries Kerberos encryption first if there is a ticket. It may look up names and wait for
    # a key server, and block the hub.
    "gssencmode": "disable",
    # A file that cannot exist: without a name, libpq reads ~/.pgpass and writes warnings about it to stderr.
    "passfile": "/dev/null/none",
    "target_session_attrs": "any",
    "load_balance_hosts": "disable",
    "channel_binding": "prefer",
    "sslcertmode": "allow",
    "sslcompression": "0",
    "sslnegotiation": "postgres",
    "sslsni": "1",
    "ssl_min_protocol_version": "TLSv1.2",
    "krbsrvname": "postgres",
    "gssdelegation": "0",
    "connect_timeout": "0",
    "min_protocol_version": "3.0",
    # All methods: "" would allow none (check_expected_areq in fe-auth.c).
    "require_auth": "password,md5,gss,sspi,scram-sha-256,none",
    **dict.fromkeys(
        (
            "host", "hostaddr", "password", "options", "application_name", "fallback_application_name",
            "sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl", "sslcrldir", "requirepeer",
            "ssl_max_protocol_version", "sslkeylogfile", "gsslib", "replication",
        ),
        "",
    ),
}  # fmt: skip
"""Explicit values for every unset keyword, so that libpq consults neither PG* variables nor a service.

They are libpq's own defaults, except the first two. ``""`` means unset, for keywords for which libpq
accepts it. ``max_protocol_version`` depends on another setting: see `settings`. The keys of SCRAM and the
settings of OAuth are missing: libpq takes ``""`` for a wrong one, and no variable sets them.
"""

DEFAULT_PROTOCOL = "3.0"
"""libpq 18's ``max_protocol_version``, because older servers and poolers do not answer a newer one."""

NO_PASSWORD = secrets.token_hex()
"""The ``sslpassword`` for libpq if the user gives none.

If there is a password, OpenSSL never asks on the terminal, neither for an encrypted key nor for an encrypted
certificate (initialize_SSL in fe-secure-openssl.c). It is random, so that it opens no key. A libpq before
version 13 does not know the setting. With such a libpq, only `ConnInfo.check_key` prevents a prompt.
"""

HANDLED_BY_CORE = ("passfile", "target_session_attrs", "load_balance_hosts")
"""Keywords that the core handles, so that libpq gets their neutral values."""


def settings(conninfo: ConnInfo, is_known: Callable[[str], bool]) -> dict[str, str]:
    """Return a value for every keyword of libpq, so that libpq has nothing to add to *conninfo*.

    *is_known* says whether this libpq knows a keyword.
    """
    unset = {keyword: value for keyword, value in EXPLICIT_DEFAULTS.items() if is_known(keyword)}
    found = {
        **unset,
        **conninfo.values(),
        **{keyword: EXPLICIT_DEFAULTS[keyword] for keyword in HANDLED_BY_CORE if keyword in unset},
        "client_encoding": "UTF8",
        "keepalives": str(int(conninfo.keepalives)),
        "keepalives_idle": str(conninfo.keepalives_idle),
        "keepalives_interval": str(conninfo.keepalives_interval),
        "keepalives_count": str(conninfo.keepalives_count),
        "tcp_user_timeout": str(conninfo.tcp_user_timeout),
    }
    if is_known("max_protocol_version"):
        # As in pqConnectOptions2: a server that must be newer may be the newest.
        oldest = found["min_protocol_version"]
        found.setdefault("max_protocol_version", DEFAULT_PROTOCOL if oldest == DEFAULT_PROTOCOL else "latest")
    # An explicit "" counts as a name: libpq would then look at no fallback.
    found["application_name"] = found["application_name"] or found["fallback_application_name"]
    if "sslpassword" in unset and not found["sslpassword"]:
        found["sslpassword"] = NO_PASSWORD
    # If PGSERVICE is set, libpq looks up that service and fails if it is not defined. So tell libpq the name
    # that counts. Its entry changes nothing, because every other setting is explicit.
    service = found.pop("service", "")
    if "PGSERVICE" in os.environ and service:
        found["service"] = service
    return found


def check(conninfo: ConnInfo, version: int, is_known: Callable[[str], bool], driver: str) -> None:
    """Raise `ConfigurationError` for what *driver*'s libpq *version* (170006 for 17.6) cannot do."""
    unknown = [keyword for keyword in settings(conninfo, is_known) if not is_known(keyword)]
    if conninfo["sslrootcert"] == "system" and version < SYSTEM_ROOTS:
        # This libpq would look for a file of that name and not find it: sslmode=require verifies nothing.
        unknown.append("sslrootcert=system")
    if ":" in conninfo["sslkey"]:
        # libpq takes it for a key in an OpenSSL engine, and an engine may ask for a PIN on the terminal.
        raise ConfigurationError("sslkey: no file with ':' in its path is possible here: rename it")
    if unknown:
        raise ConfigurationError(
            f"{', '.join(unknown)}: not known to the libpq {version // 10000} that {driver} uses here; "
            f"leave it out, or install a {driver} with a newer libpq"
        )


def hint(message: str, conninfo: ConnInfo) -> str:
    """Return what to add to libpq's *message* if it does not tell the user enough; ``""`` for nothing."""
    if message.endswith("no password supplied"):
        return f": there is {conninfo.password_source}"
    # A server that does not know direct TLS hangs up, and libpq says "SSL SYSCALL error: EOF".
    if conninfo["sslnegotiation"] == "direct" and "SSL" in message and "certificate" not in message:
        return "; sslnegotiation=direct needs PostgreSQL 17 or newer with TLS"
    return ""
