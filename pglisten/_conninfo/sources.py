"""Settings from all sources, checked and merged.

The DSN takes precedence over the service that it or ``PGSERVICE`` names, the service over the ``PG*``
variables, and these over the defaults: the order of ``conninfo_add_defaults`` in libpq 18.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from typing import NamedTuple

from .._text import printable
from ..errors import ConfigurationError
from .checks import PROTOCOL_VERSIONS, TLS_VERSIONS
from .dsn import parse_dsn
from .hosts import PLACE_KEYWORDS, Place, read_places
from .keywords import KEYWORDS, swallowed
from .servicefile import read_service
from .urls import as_libpq_has_it, rendered

__all__ = ["DEFAULT_SSLMODE", "Effective", "effective"]

DEFAULT_SSLMODE = "prefer"
"""libpq's default (DefaultSSLMode); with ``sslrootcert=system`` the default is ``verify-full``."""

APPLICATION_NAME = "pglisten"
"""What ``pg_stat_activity`` shows for a session if nothing else says what it is."""

DEFAULT_TLS_MIN = "TLSv1.2"
"""libpq's default of ssl_min_protocol_version since version 13."""


class Effective(NamedTuple):
    """The settings that apply."""

    values: dict[str, str]
    """Every keyword that is set or has a default, except those of `places`."""
    places: tuple[Place, ...]
    home_directory: str
    """The user's home directory, ``""`` if there is none."""
    password_source: str
    """Where the password is from, for messages; ``""`` if there is none."""


class _Source(NamedTuple):
    """One source of settings."""

    values: Mapping[str, str]
    naming: str
    """How a message names a setting: a format of ``{keyword}`` and ``{variable}``."""
    description: str
    """How a message names the source: a format likewise."""
    option: str | None = None
    """``"dsn"`` for the connection string, which is an option of the caller; else ``None``."""


def effective(dsn: object, environ: Mapping[str, str]) -> Effective:
    """Return the settings that *dsn* and *environ* make together.

    Raises `ConfigurationError` if *dsn* is not a string, or if a setting that applies is wrong.
    """
    home_directory = _find_home_directory(environ)
    text = as_libpq_has_it(_checked_text("the DSN", rendered(dsn), "dsn"))
    sources = _sources(text, environ, home_directory)
    values: dict[str, str] = {}
    password_source = ""
    for source in sources:
        for keyword, value in source.values.items():
            if keyword in values:
                continue  # Unchecked, because libpq ignores it too.
            _check(keyword, source, value)
            values[keyword] = value
            if keyword == "password" and value:
                password_source = _named(keyword, source.description)
    if not values.get("sslmode") and environ.get("PGREQUIRESSL", "").startswith("1"):
        values["sslmode"] = "require"  # deprecated, and still honoured by libpq 18
    # Checked and dropped: every backend sets UTF8.
    values.pop("client_encoding", None)
    _fill_in(values)
    places = read_places(values)
    for keyword in PLACE_KEYWORDS:
        values.pop(keyword, None)
    _check_together(values)
    return Effective(values, places, home_directory, password_source)


def _sources(dsn: str, environ: Mapping[str, str], home_directory: str) -> list[_Source]:
    """Return all sources, in order of precedence."""
    # Empty values in the DSN or a service are kept. libpq refuses some: sslmode='' must not hide
    # PGSSLMODE=verify-full.
    given = parse_dsn(dsn)
    string = _Source(given, "{keyword}", "the connection string", "dsn")
    names = {keyword: entry.variable for keyword, entry in KEYWORDS.items() if entry.variable}
    variables = {keyword: environ[name] for keyword, name in names.items() if environ.get(name)}
    environment = _Source(variables, "{variable}", "{variable}")
    # An empty PGSERVICE counts as set: libpq looks for a service of that name.
    service = given.get("service", environ.get("PGSERVICE"))
    if service is None:
        return [string, environment]
    _check("service", string if "service" in given else environment, service)
    settings, path = read_service(service, environ, home_directory)
    file = f"service file {printable(path)}"
    return [string, _Source(settings, f"{{keyword}} in {_literal(file)}", _literal(file)), environment]


def _literal(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _named(keyword: str, naming: str) -> str:
    return naming.format(keyword=keyword, variable=KEYWORDS[keyword].variable)


def _find_home_directory(environ: Mapping[str, str]) -> str:
    """Return the user's home directory as libpq finds it, ``""`` if there is none."""
    if home := environ.get("HOME"):
        return home
    account = _account()
    return account.pw_dir if account else ""


def _check(keyword: str, source: _Source, value: str) -> None:
    name = _named(keyword, source.naming)
    # Check for a password first, because the keyword's own complaint may show the value.
    complaint = swallowed(keyword, _checked_text(name, value, source.option)) or KEYWORDS[keyword].check(
        value
    )
    if complaint:
        raise ConfigurationError(f"{name} {complaint}", option=source.option)


def _checked_text(name: str, text: object, option: str | None) -> str:
    if not isinstance(text, str):
        raise ConfigurationError(
            f'{name} is of type {type(text).__name__}: write a string, or "" to use only the PG* variables',
            option=option,
        )
    if "\0" in text:
        raise ConfigurationError(
            f"{name} contains a NUL character, which PostgreSQL never accepts: remove it", option=option
        )
    try:
        text.encode()
    except UnicodeEncodeError:
        # Drop the cause, because it holds the whole text.
        raise ConfigurationError(
            f"{name} contains characters that UTF-8 cannot encode: remove them", option=option
        ) from None
    return text


def _fill_in(values: dict[str, str]) -> None:
    """Add the defaults that ``pqConnectOptions2`` of libpq adds."""
    values.setdefault("sslmode", "verify-full" if values.get("sslrootcert") == "system" else DEFAULT_SSLMODE)
    if not values.get("user"):
        account = _account()
        if account is None:
            raise ConfigurationError(
                f"user is not set, and user id {os.geteuid()} has no name on this system: set user or PGUSER"
            )
        values["user"] = account.pw_name
    values["dbname"] = values.get("dbname") or values["user"]
    names = ("application_name", "fallback_application_name")
    if not any(map(values.get, names)) and "application_name" not in values.get("options", ""):
        values["fallback_application_name"] = APPLICATION_NAME


def _check_together(values: Mapping[str, str]) -> None:
    """Raise `ConfigurationError` for settings that contradict each other."""
    sslmode = values["sslmode"]
    if values.get("sslrootcert") == "system" and sslmode != "verify-full":
        raise ConfigurationError(
            f"sslmode={sslmode} is too weak for sslrootcert=system, because any server can get a certificate "
            "from a public authority: write sslmode=verify-full"
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
            f"ssl_max_protocol_version={newest} is older than ssl_min_protocol_version={oldest}: "
            "lower ssl_min_protocol_version or leave both out"
        )
    _check_protocol_versions(values)
    if values.get("scram_client_key") and not values.get("scram_server_key"):
        # libpq would compute the server's key from no password, and take every server for a wrong one.
        raise ConfigurationError(
            "scram_client_key is set without scram_server_key, which proves the server: set both"
        )


def _check_protocol_versions(values: Mapping[str, str]) -> None:
    oldest, newest = values.get("min_protocol_version"), values.get("max_protocol_version")
    # "latest" is 3.2, and it will be a newer one.
    if oldest and newest == PROTOCOL_VERSIONS[0] and oldest != newest:
        raise ConfigurationError(
            f"max_protocol_version={newest} is older than min_protocol_version={oldest}: "
            "lower min_protocol_version or leave both out"
        )


def _account() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(os.geteuid())
    except KeyError:
        return None
