"""The files of TLS: where they are, and whether they can be used. The rules are libpq 17's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal, TypeAlias

from .._text import printable
from ..errors import ConfigurationError
from .keywords import KEYWORDS
from .privatekey import is_encrypted

__all__ = ["TlsFile", "check_files", "check_key", "find_file"]

TlsFile: TypeAlias = Literal["sslrootcert", "sslcert", "sslkey", "sslcrl"]

_DEFAULTS: Mapping[TlsFile, str] = {
    "sslrootcert": "root.crt",
    "sslcert": "postgresql.crt",
    "sslkey": "postgresql.key",
    "sslcrl": "root.crl",
}
_PATHS = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "sslcrldir")


def find_file(keyword: TlsFile, values: Mapping[str, str], home_directory: str) -> str:
    """Return the file that *keyword* names in *values*, else the default in ``~/.postgresql`` if it exists.

    ``""`` if there is none; ``"system"`` is possible for ``sslrootcert``. Without a certificate there is no
    key, and with ``sslcertmode=disable`` there is neither.
    """
    if keyword in {"sslcert", "sslkey"} and values.get("sslcertmode") == "disable":
        return ""
    if named := values.get(keyword):
        return named
    if keyword == "sslkey" and not find_file("sslcert", values, home_directory):
        return ""
    if keyword == "sslcrl" and values.get("sslcrldir"):
        return ""
    path = os.path.join(home_directory, ".postgresql", _DEFAULTS[keyword])
    return path if home_directory and os.path.exists(path) else ""


def check_files(values: Mapping[str, str], sslmode: str, home_directory: str) -> None:
    """Raise `ConfigurationError` if a file that *values* name, or that *sslmode* needs, cannot be used."""
    check_key(values, home_directory)
    for keyword in _PATHS:
        path = values.get(keyword)
        if path and (keyword, path) != ("sslrootcert", "system") and not os.path.exists(path):
            raise ConfigurationError(
                f"{keyword} (or {KEYWORDS[keyword].variable}) names '{printable(path)}', "
                "which does not exist or cannot be reached: correct it or leave it out"
            )
    if sslmode.startswith("verify-") and not find_file("sslrootcert", values, home_directory):
        raise ConfigurationError(
            f"sslmode={sslmode} needs a root certificate: set sslrootcert (or PGSSLROOTCERT) to its "
            "file or to system, or put it into ~/.postgresql/root.crt"
        )


def check_key(values: Mapping[str, str], home_directory: str) -> None:
    """Raise `ConfigurationError` if the private key is encrypted and there is no ``sslpassword``."""
    has_certificate = find_file("sslcert", values, home_directory)
    key = has_certificate and find_file("sslkey", values, home_directory)
    if key and not values.get("sslpassword") and is_encrypted(key):
        raise ConfigurationError(
            f"the private key '{printable(key)}' is encrypted: set sslpassword, or sslkey to another key"
        )
