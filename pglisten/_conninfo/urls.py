"""Connection strings as people have them: an ORM's URL, an object that renders itself as one.

SQLAlchemy names the driver in the scheme (``postgresql+psycopg2://``) and writes several hosts as repeated
parameters (SQLAlchemy docs, "Specifying multiple fallback hosts"). libpq takes neither.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias
from urllib.parse import parse_qsl, quote, urlencode

from ..errors import ConfigurationError

__all__ = ["Dsn", "Url", "as_libpq_has_it", "rendered"]


class Url(Protocol):
    """An URL object such as ``sqlalchemy.URL``."""

    def render_as_string(self, hide_password: bool = ...) -> str:
        """Return the URL; with its password if *hide_password* is false."""
        ...


Dsn: TypeAlias = str | Url | Callable[[], str | Url]
"""What is taken as a connection string, and a function that returns one for each attempt to connect."""

_WITH_DRIVER = re.compile(r"(?:postgresql|postgres)\+[A-Za-z0-9_]+://")


def rendered(dsn: object) -> object:
    """Return *dsn*; the text of an URL object. What is neither is returned as it is, to be refused."""
    render: Any = getattr(dsn, "render_as_string", None)
    return render(hide_password=False) if callable(render) else dsn


def as_libpq_has_it(dsn: str) -> str:
    """Return an ORM's URL as libpq's; any other connection string as it is.

    Raises `ConfigurationError` for hosts that are written in two ways at once.
    """
    scheme = _WITH_DRIVER.match(dsn)
    if scheme is None:
        return dsn
    address, mark, query = dsn[scheme.end() :].partition("?")
    if mark:
        parameters = [(name, value) for name, value in parse_qsl(query, keep_blank_values=True)]
        hosts = [value for name, value in parameters if name == "host"]
        if len(hosts) > 1 or any(_has_port(host) for host in hosts):
            places = [host.partition(":") if _has_port(host) else (host, "", "") for host in hosts]
            if any(name == "port" for name, _ in parameters):
                raise ConfigurationError("the URL has ports in host= and in port=: leave one out")
            parameters = [(name, value) for name, value in parameters if name != "host"]
            parameters += [("host", ",".join(name for name, _, _ in places))]
            parameters += [("port", ",".join(port for _, _, port in places))]
            query = urlencode(parameters, quote_via=quote)
    return f"postgresql://{address}{mark}{query}"


def _has_port(host: str) -> bool:
    return not host.startswith(("/", "@")) and host.count(":") == 1
