"""Connection strings, as libpq 17 reads them: the DSN over a service over ``PG*`` variables over defaults.

What makes a `ConnInfo` is checked when it is made, so that a mistake is an error where the DSN was
written and not a failed attempt repeated for ever in a log. Resolving names is not done here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal

from .._text import printable
from ..errors import ConfigurationError
from .hosts import DEFAULT_PORT, joined, places, socket_path
from .keywords import KEYWORDS, integer
from .passfile import Content, look_up, read
from .privatekey import is_encrypted
from .sources import DEFAULT_SSLMODE, effective

__all__ = ["ConnInfo"]

KEEPALIVES_IDLE = 30
"""Seconds of silence before the kernel probes the peer.

These three are the kernel's backstop where the listener's own heartbeat is off or cannot run; the
heartbeat is the real check, since a proxy answers these probes. Linux's own defaults would take over
two hours.
"""

KEEPALIVES_INTERVAL = 10
"""Seconds between two unanswered probes."""

KEEPALIVES_COUNT = 3
"""Unanswered probes until the kernel gives the connection up: 30 + 3 * 10 seconds after the last sign."""

TlsFile = Literal["sslrootcert", "sslcert", "sslkey", "sslcrl"]

_TLS_DEFAULTS: Mapping[TlsFile, str] = {
    "sslrootcert": "root.crt",
    "sslcert": "postgresql.crt",
    "sslkey": "postgresql.key",
    "sslcrl": "root.crl",
}
_TLS_PATHS = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "sslcrldir")


class ConnInfo:
    """Every libpq keyword with its effective value. Immutable.

    ``info[keyword]`` is the value, ``""`` where nothing set one. Nothing shows the password but
    `password`, ``info["password"]`` and `values`.

    It may lead to several hosts. Each of its `targets` leads to one, and only of a target say `host` to
    `socket_path` where it leads; backends get targets alone.
    """

    __slots__ = ("_home", "_password_source", "_values")

    def __init__(self, values: Mapping[str, str], *, home: str = "", password_source: str = "") -> None:
        """Take checked *values* as they are; *home* is the user's home directory, ``""`` if there is none.

        *password_source* is what the property says, ``""`` for what is usual. Text from a user goes
        through `parse` instead.
        """
        self._values = dict(values)
        self._home = home
        self._password_source = password_source

    @classmethod
    def parse(cls, dsn: str, environ: Mapping[str, str]) -> ConnInfo:
        """Read *dsn*, key=value or URI (``""``: none), over a service and the ``PG*`` variables in *environ*.

        As in libpq, an empty value in the DSN means the default and hides the variable, and is wrong for
        a number or a choice; an empty variable counts as unset. Raises `ConfigurationError`, whose one
        line never holds the password, for whatever could not lead to a connection, missing certificate
        and service files included. The password file is not read yet: see `with_password`.
        """
        values, home, password_source = effective(dsn, environ)
        info = cls(values, home=home, password_source=password_source)
        info.check_files()
        return info

    def __getitem__(self, keyword: str) -> str:
        return self._values.get(keyword, "")

    def __repr__(self) -> str:
        address = f" hostaddr={self.hostaddr}" if self.hostaddr and self.host else ""
        return f"<ConnInfo {printable(self.user)}@{self.description}{address} sslmode={self.sslmode}>"

    def values(self) -> dict[str, str]:
        """Return every keyword that is set, password included.

        A value is ``""`` where the DSN says so to hide a ``PG*`` variable; left out, libpq would look the
        variable up. ``client_encoding`` is never among them: it is the backend's business, UTF8. A backend
        passes over ``service``, ``passfile``, ``target_session_attrs`` and ``load_balance_hosts``: the core
        has seen to them.
        """
        return dict(self._values)

    def targets(self) -> tuple[ConnInfo, ...]:
        """Return one for each host, in the order given; itself where there is but one.

        What is said of all hosts together (`target_session_attrs`, `load_balance`) is the same in each.
        """
        found = places(self._values)
        if len(found) == 1:
            return (self,)
        return tuple(self._with(joined((place,))) for place in found)

    def at(self, hostaddr: str) -> ConnInfo:
        """Return a copy of a target that connects to *hostaddr*, a numeric address."""
        return self._with({"hostaddr": hostaddr})

    @property
    def passfile(self) -> str:
        """The password file to look into; ``""`` if a password was given, or there is no home directory."""
        if self.password:
            return ""
        return self["passfile"] or (self._home and os.path.join(self._home, ".pgpass"))

    def with_password(self, content: Content | None = None) -> ConnInfo:
        """Return a copy of a target with the password that the password file has for it, if none was given.

        Its *content* is read now if not given, and as libpq does: what is wrong with it is no error, but a
        reason for `password_source`, and logged once as a warning where libpq warns. To be called for each
        attempt, for passwords are changed while listeners run.
        """
        if self.password:
            return self
        path = self.passfile
        if not path:
            return self._with({}, "none: none was given, and there is no home directory with a .pgpass")
        place = places(self._values)[0]
        fields = (place.name_in_passfile, str(place.port), self.dbname, self.user)
        content = read(path) if content is None else content
        password, source = look_up(path, fields, content)
        return self._with({"password": password} if password else {}, source)

    def _with(self, changes: Mapping[str, str], password_source: str | None = None) -> ConnInfo:
        source = self._password_source if password_source is None else password_source
        return ConnInfo({**self._values, **changes}, home=self._home, password_source=source)

    @property
    def host(self) -> str:
        """Host name, address, or directory of the Unix socket; ``""`` if only ``hostaddr`` was given."""
        return self["host"]

    @property
    def hostaddr(self) -> str:
        """Numeric address to connect to, ``""`` as long as nobody resolved ``host``."""
        return self["hostaddr"]

    @property
    def port(self) -> int:
        return self._integer("port", DEFAULT_PORT)

    @property
    def target_session_attrs(self) -> str:
        """What the server has to be: any, read-write, read-only, primary, standby or prefer-standby."""
        return self["target_session_attrs"] or "any"

    @property
    def load_balance(self) -> bool:
        """Whether hosts and their addresses are to be tried in random order."""
        return self["load_balance_hosts"] == "random"

    @property
    def dbname(self) -> str:
        return self["dbname"]

    @property
    def user(self) -> str:
        return self["user"]

    @property
    def password(self) -> str | None:
        """``None`` if there is none; an empty one is none, as in libpq."""
        return self["password"] or None

    @property
    def password_source(self) -> str:
        """Where the password is from, or ``none:`` and why there is none; one line, for messages.

        ``the connection string``, ``PGPASSWORD``, ``password file /home/app/.pgpass``.
        """
        usual = "the connection string" if self.password else "none: none was given"
        return self._password_source or usual

    @property
    def description(self) -> str:
        """Where this leads, for messages: ``db:5432/app``, or ``db1:5432,db2:5432/app``."""
        return printable(f"{','.join(place.name for place in places(self._values))}/{self.dbname}")

    @property
    def is_unix(self) -> bool:
        """Whether this leads to a Unix socket."""
        return self.host.startswith(("/", "@")) and not self.hostaddr

    @property
    def socket_path(self) -> str:
        """The Unix socket's address for ``socket.connect``; with NUL in front for a host with ``@`` there."""
        return socket_path(self.host, self.port)

    @property
    def has_connect_timeout(self) -> bool:
        """Whether DSN or environment say anything of ``connect_timeout``."""
        return bool(self["connect_timeout"])

    @property
    def connect_timeout(self) -> float | None:
        """Seconds; ``None`` for no limit, which 0 and less mean, and where nothing was said of it.

        One second is one second: libpq made it two before version 17.
        """
        seconds = self._integer("connect_timeout", 0)
        return float(seconds) if seconds > 0 else None

    @property
    def keepalives(self) -> bool:
        return self._integer("keepalives", 1) != 0

    @property
    def keepalives_idle(self) -> int:
        """Seconds."""
        return self._integer("keepalives_idle", KEEPALIVES_IDLE)

    @property
    def keepalives_interval(self) -> int:
        """Seconds."""
        return self._integer("keepalives_interval", KEEPALIVES_INTERVAL)

    @property
    def keepalives_count(self) -> int:
        return self._integer("keepalives_count", KEEPALIVES_COUNT)

    @property
    def tcp_user_timeout(self) -> int:
        """Milliseconds that sent data may stay unacknowledged; 0 is the system's default.

        Unless it is given, as long as the probes take: they do not run while data is in flight (RFC 5482),
        and on Linux a user timeout takes the place of their number (tcp(7)).
        """
        probing = self.keepalives_idle + self.keepalives_interval * self.keepalives_count
        return max(0, self._integer("tcp_user_timeout", 1000 * probing))

    @property
    def sslmode(self) -> str:
        """One of libpq's six, as given."""
        return self["sslmode"] or DEFAULT_SSLMODE

    @property
    def effective_sslmode(self) -> str:
        """What ``sslmode`` comes to, as libpq has it.

        ``disable`` on a Unix socket, and ``verify-ca`` for ``require`` where there is a root certificate
        (PostgreSQL docs, libpq, "SSL Support").
        """
        if self.is_unix:
            return "disable"
        return "verify-ca" if self.sslmode == "require" and self.tls_file("sslrootcert") else self.sslmode

    def tls_file(self, keyword: TlsFile) -> str:
        """Return the file that *keyword* names, else libpq's default in ``~/.postgresql`` if it exists.

        ``""`` if there is none; ``"system"`` is possible for ``sslrootcert``. There is no key without a
        certificate, and neither with ``sslcertmode=disable``.
        """
        if keyword in {"sslcert", "sslkey"} and self["sslcertmode"] == "disable":
            return ""
        if self[keyword]:
            return self[keyword]
        if (keyword == "sslkey" and not self.tls_file("sslcert")) or (
            keyword == "sslcrl" and self["sslcrldir"]
        ):
            return ""
        path = os.path.join(self._home, ".postgresql", _TLS_DEFAULTS[keyword])
        return path if self._home and os.path.exists(path) else ""

    def check_files(self) -> None:
        """Raise `ConfigurationError` if a TLS file that is named, or that ``sslmode`` needs, will not do."""
        if all(target.effective_sslmode == "disable" for target in self.targets()):
            return
        self.check_key()
        for keyword in _TLS_PATHS:
            path = self[keyword]
            if path and (keyword, path) != ("sslrootcert", "system") and not os.path.exists(path):
                raise ConfigurationError(
                    f"{keyword} (or {KEYWORDS[keyword].variable}) names '{printable(path)}', "
                    "which does not exist or cannot be reached: correct it or leave it out"
                )
        if self.sslmode.startswith("verify-") and not self.tls_file("sslrootcert"):
            raise ConfigurationError(
                f"sslmode={self.sslmode} needs a root certificate: set sslrootcert (or PGSSLROOTCERT) to its "
                "file or to system, or put it into ~/.postgresql/root.crt"
            )

    def check_key(self) -> None:
        """Raise `ConfigurationError` if the private key is encrypted and there is no ``sslpassword``."""
        key = self.tls_file("sslcert") and self.tls_file("sslkey")
        if key and not self["sslpassword"] and is_encrypted(key):
            raise ConfigurationError(
                f"the private key '{printable(key)}' is encrypted: set sslpassword, or sslkey to another key"
            )

    def _integer(self, keyword: str, default: int) -> int:
        number = integer(self[keyword])
        return default if number is None else number
