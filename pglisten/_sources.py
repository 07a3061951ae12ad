"""Where a setting comes from: the DSN, over a ``PG*`` variable, over a default; checked on the way."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping

from ._dsn import parse_dsn
from ._keywords import KEYWORDS, TLS_VERSIONS
from .errors import ConfigurationError

__all__ = ["DEFAULT_PORT", "DEFAULT_SSLMODE", "effective_values", "home_directory", "socket_path"]

DEFAULT_PORT = 5432
"""PostgreSQL's registered port (DEF_PGPORT)."""

DEFAULT_SSLMODE = "prefer"
"""libpq's own (DefaultSSLMode); with ``sslrootcert=system`` it is ``verify-full`` instead."""

DEFAULT_TLS_MIN = "TLSv1.2"
"""libpq's ssl_min_protocol_version since version 13, if none is given."""

SOCKET_DIRECTORIES = ("/var/run/postgresql", "/tmp")  # noqa: S108 - a socket is looked up there, not made
"""Where the Unix socket is sought: as Debian's and psycopg2-binary's libpq, then PostgreSQL's own default."""

MAX_SOCKET_PATH = 107
"""Longest path of a Unix socket, in bytes, on Linux (unix(7)); libpq refuses longer ones too."""


def effective_values(dsn: object, environ: Mapping[str, str]) -> dict[str, str]:
    """Return every keyword that is set, or has a default that is always needed, with its value.

    Raises `ConfigurationError` for a *dsn* that is no string, and for whatever is wrong in the text.
    """
    text = _checked_text("the DSN", dsn)
    values = {**_from_environment(environ), **_from_dsn(text)}
    if not values.get("sslmode") and environ.get("PGREQUIRESSL", "").startswith("1"):
        values["sslmode"] = "require"  # deprecated, and still honoured by libpq 17
    # Only checked: it is UTF8 always, and the backends see to that.
    values.pop("client_encoding", None)
    _fill_in(values)
    _check_together(values)
    return values


def home_directory(environ: Mapping[str, str]) -> str:
    """Return the user's home directory as libpq finds it, ``""`` if there is none."""
    if home := environ.get("HOME"):
        return home
    account = _account()
    return account.pw_dir if account else ""


def socket_path(host: str, port: int | str) -> str:
    """Return the address of the Unix socket in directory *host*.

    One of the abstract namespace, which libpq writes with ``@`` in front, begins with NUL.
    """
    path = f"{host}/.s.PGSQL.{port}"
    return "\0" + path[1:] if path.startswith("@") else path


def _from_dsn(dsn: str) -> dict[str, str]:
    values = parse_dsn(dsn)
    for keyword, value in values.items():
        # An empty value means the default where libpq takes it so, and is refused where libpq
        # refuses it: sslmode='' must not hide PGSSLMODE=verify-full.
        _check(keyword, keyword, value)
    return values


def _from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for keyword, (variable, _) in KEYWORDS.items():
        if variable and (value := environ.get(variable)):
            _check(keyword, variable, _checked_text(variable, value))
            values[keyword] = value
    return values


def _check(keyword: str, name: str, value: str) -> None:
    if complaint := KEYWORDS[keyword].check(value):
        raise ConfigurationError(f"{name} {complaint}")


def _checked_text(name: str, text: object) -> str:
    if not isinstance(text, str):
        raise ConfigurationError(
            f'{name} is of type {type(text).__name__}: write a string, "" for the PG* variables alone'
        )
    if "\0" in text:
        raise ConfigurationError(
            f"{name} has a NUL character in it: PostgreSQL takes none anywhere, remove it"
        )
    try:
        text.encode()
    except UnicodeEncodeError:
        # Without the cause: it holds the whole text.
        raise ConfigurationError(f"{name} has characters that UTF-8 cannot encode: remove them") from None
    return text


def _fill_in(values: dict[str, str]) -> None:
    """Add the defaults, as ``pqConnectOptions2`` of libpq does."""
    values.setdefault("sslmode", "verify-full" if values.get("sslrootcert") == "system" else DEFAULT_SSLMODE)
    values["port"] = str(int(values.get("port") or DEFAULT_PORT))
    if not values.get("user"):
        account = _account()
        if account is None:
            raise ConfigurationError(
                f"user is not set, and user id {os.geteuid()} has no name in this system: set user or PGUSER"
            )
        values["user"] = account.pw_name
    values["dbname"] = values.get("dbname") or values["user"]
    if not values.get("host") and not values.get("hostaddr"):
        values["host"] = next(filter(os.path.isdir, SOCKET_DIRECTORIES), SOCKET_DIRECTORIES[-1])


def _check_together(values: Mapping[str, str]) -> None:
    """Refuse what is right by itself and wrong in company."""
    sslmode = values["sslmode"]
    if values.get("sslrootcert") == "system" and sslmode != "verify-full":
        raise ConfigurationError(
            f"sslmode={sslmode} is too weak for sslrootcert=system, where anybody can get a certificate: "
            "write sslmode=verify-full"
        )
    if values.get("sslnegotiation") == "direct" and sslmode in {"disable", "allow", "prefer"}:
        raise ConfigurationError(
            f"sslmode={sslmode} is too weak for sslnegotiation=direct: "
            "write require, verify-ca or verify-full"
        )
    oldest = values.get("ssl_min_protocol_version", DEFAULT_TLS_MIN)
    newest = values.get("ssl_max_protocol_version")
    if oldest and newest and TLS_VERSIONS.index(newest.lower()) < TLS_VERSIONS.index(oldest.lower()):
        raise ConfigurationError(
            f"ssl_max_protocol_version={newest} is older than ssl_min_protocol_version, {oldest}: "
            "lower that or leave both out"
        )
    if values.get("passfile") and not values.get("password"):
        # With a password, it has no effect in libpq either.
        raise ConfigurationError(
            "passfile (or PGPASSFILE) is set: password files are not supported yet, "
            "set password or PGPASSWORD"
        )
    _check_socket_path(values)


def _check_socket_path(values: Mapping[str, str]) -> None:
    host = values.get("host", "")
    if not host.startswith(("/", "@")) or values.get("hostaddr"):
        return
    length = len(socket_path(host, values["port"]).encode())
    if length > MAX_SOCKET_PATH:
        raise ConfigurationError(
            f"host is a directory whose Unix socket has a path of {length} bytes, "
            f"over the {MAX_SOCKET_PATH} that the system takes: write a shorter one"
        )


def _account() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(os.geteuid())
    except KeyError:
        return None
