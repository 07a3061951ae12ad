"""Translate libpq's ``sslmode`` and related keywords for ``ssl`` (PostgreSQL docs, libpq, "SSL Support").

`attempts` and `server_name` decide, `make_context` reads files. To parse the system's certificates takes some
time, so call it in a thread. `_certificate_names` compares names in certificates.
"""

from __future__ import annotations

import os
import ssl
import stat
from collections.abc import Callable
from enum import Enum

from gevent.ssl import SSLContext

from pglisten.backend import ConnInfo

__all__ = ["ALPN", "SSL_REQUEST", "Encryption", "attempts", "make_context", "server_name"]

SSL_REQUEST = b"\0\0\0\x08\x04\xd2\x16\x2f"
"""80877103, the request for TLS in place of a protocol version (PostgreSQL docs, 55.8, SSLRequest)."""

ALPN = "postgresql"
"""PostgreSQL's registered name. Servers from version 17 on confirm it, and demand it for direct TLS."""

VERSIONS = {"tlsv1.2": ssl.TLSVersion.TLSv1_2, "tlsv1.3": ssl.TLSVersion.TLSv1_3}
"""Versions that a user can set, in lower case, because libpq ignores case. Older ones are unsafe (RFC 8996)
and deprecated in ``ssl``."""

_FORBIDDEN_MODE = stat.S_IRWXG | stat.S_IRWXO
_FORBIDDEN_MODE_OF_ROOT = stat.S_IWGRP | stat.S_IXGRP | stat.S_IRWXO
"""Permissions that a private key's file may not have (``initialize_SSL`` in fe-secure-openssl.c)."""

_MAX_NAME = 255
"""Longest name for SNI, in bytes (``TLSEXT_MAXLEN_host_name`` in OpenSSL)."""


class Encryption(Enum):
    """How one attempt to connect treats TLS."""

    NONE = "none"
    IF_OFFERED = "if offered"
    DEMANDED = "demanded"


def attempts(conninfo: ConnInfo) -> tuple[Encryption, ...]:
    """Return the attempts to make, in order.

    Make the second one only if the first failed before the server asked for authentication. So no password is
    sent twice.
    """
    mode = conninfo.effective_sslmode
    if mode == "disable":
        return (Encryption.NONE,)
    if mode == "allow":
        return (Encryption.NONE, Encryption.DEMANDED)
    if mode == "prefer":
        return (Encryption.IF_OFFERED, Encryption.NONE)
    return (Encryption.DEMANDED,)


def server_name(conninfo: ConnInfo) -> str | None:
    """Return the name to send by SNI; ``None`` if the host is an address, as in libpq, or cannot be a name.

    Raises `ValueError` for a name that is too long.
    """
    host = conninfo.host
    if conninfo["sslsni"] == "0" or not host.strip("0123456789.") or ":" in host:
        return None
    if len(host.encode()) > _MAX_NAME:
        raise ValueError(f"the host has more than {_MAX_NAME} bytes: shorten it, or set sslsni=0")
    try:
        # libpq sends an international name in UTF-8. RFC 6066 forbids that, and "ssl" cannot do it.
        name = host.encode("idna").decode("ascii")
    except UnicodeError:
        return None
    return None if name.startswith(".") else name


def make_context(conninfo: ConnInfo) -> ssl.SSLContext:
    """Return the context for a connection. Raises `ValueError`, which names the wrong file."""
    context = SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols([ALPN])
    if wanted := conninfo["ssl_min_protocol_version"]:
        context.minimum_version = VERSIONS[wanted.lower()]
    if wanted := conninfo["ssl_max_protocol_version"]:
        context.maximum_version = VERSIONS[wanted.lower()]
    context.check_hostname = False  # `_certificate_names` checks it by libpq's rules.
    root = conninfo.tls_file("sslrootcert")
    if root:
        # libpq uses a root certificate in every mode, if there is one.
        _load_roots(context, root, conninfo)
    elif conninfo.sslmode.startswith("verify-"):
        raise ValueError(f"sslmode={conninfo.sslmode} needs a root certificate: set sslrootcert")
    else:
        context.verify_mode = ssl.CERT_NONE
    if certificate := conninfo.tls_file("sslcert"):
        _load_client_certificate(context, certificate, conninfo)
    if log := conninfo["sslkeylogfile"]:
        _load(log, lambda: _log_keys(context, log))
    return context


def _log_keys(context: ssl.SSLContext, path: str) -> None:
    """Append the session's keys to the file *path*, which only its owner may read if it is new."""
    os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))
    context.keylog_filename = path


def _load_roots(context: ssl.SSLContext, root: str, conninfo: ConnInfo) -> None:
    if root == "system":
        context.load_default_certs()
    else:
        _load(root, lambda: context.load_verify_locations(root))
    # The default list in ~/.postgresql belongs to the authority there. If it was used with the system's
    # authorities, each of them would need a list.
    revoked = conninfo["sslcrl"] if root == "system" else conninfo.tls_file("sslcrl")
    directory = conninfo["sslcrldir"]
    if revoked:
        _load(revoked, lambda: context.load_verify_locations(revoked))
    if directory:
        _load(directory, lambda: context.load_verify_locations(capath=directory))
    if revoked or directory:
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN


def _load_client_certificate(context: ssl.SSLContext, certificate: str, conninfo: ConnInfo) -> None:
    key = conninfo.tls_file("sslkey")
    if not key:
        raise ValueError(f"there is a certificate, {certificate!r}, and no private key: set sslkey")
    _load(key, lambda: _check_permissions(key))
    encrypted = False

    def password() -> str:
        """Return the key's password, even if empty. Without this function OpenSSL asks on the terminal."""
        nonlocal encrypted
        encrypted = True
        return conninfo["sslpassword"]

    try:
        _load(f"{certificate} and {key}", lambda: context.load_cert_chain(certificate, key, password))
    except ValueError as exc:
        # If OpenSSL gives another reason, the password is correct: the files do not belong together.
        if encrypted and getattr(exc.__cause__, "reason", None) in (None, "BAD_DECRYPT"):
            wrong = "sslpassword is not its password" if conninfo["sslpassword"] else "sslpassword is not set"
            # OpenSSL calls `password` also for an encrypted certificate, which is rare and allowed.
            raise ValueError(
                f"cannot use {certificate} and {key}: the private key is encrypted, and {wrong}"
            ) from exc.__cause__
        raise


def _check_permissions(key: str) -> None:
    found = os.stat(key)
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"the private key {key!r} is not a regular file")
    if found.st_mode & (_FORBIDDEN_MODE_OF_ROOT if found.st_uid == 0 else _FORBIDDEN_MODE):
        raise ValueError(
            f"the private key {key!r} is open to others: give it mode 0600, or 0640 if it is owned by root"
        )


def _load(files: str, load: Callable[[], None]) -> None:
    """Call *load*, and name *files* in the error, because OpenSSL's errors name no file."""
    try:
        load()
    except OSError as exc:
        if isinstance(exc, ssl.SSLError):
            # The reason is None if OpenSSL has several errors, for example about the format.
            why = exc.reason or "this is not PEM, or is damaged"
        else:
            why = exc.strerror or str(exc)
        raise ValueError(f"cannot use {files}: {why}") from exc
