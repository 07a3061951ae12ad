"""Connection strings, as libpq 18 reads them.

The DSN takes precedence over a service, the service over ``PG*`` variables, and these over defaults.
`ConnInfo.parse` checks all of them. So a mistake is an error where the DSN was written, not a failed attempt
that the log repeats forever. Host names are resolved elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from .._text import printable
from .checks import integer
from .hosts import PLACE_KEYWORDS, Place, read_places, write_places
from .passfile import Content, look_up, read
from .sources import DEFAULT_SSLMODE, effective
from .tlsfiles import TlsFile, check_files, check_key, find_file

__all__ = ["ConnInfo"]

KEEPALIVES_IDLE = 30
"""Seconds of silence before the kernel probes; Linux's own default is two hours. The heartbeat is the
real check, because a proxy answers the probes. They help if the heartbeat is off or cannot run."""

KEEPALIVES_INTERVAL = 10
"""Seconds between two unanswered probes."""

KEEPALIVES_COUNT = 3
"""Unanswered probes before the kernel closes the connection: 30 + 3 * 10 seconds after the last packet."""


class ConnInfo:
    """Every libpq keyword with its effective value. Immutable.

    ``info[keyword]`` is the value, ``""`` if it is not set. Only `password`, ``info[keyword]`` and
    `values` show passwords and keys.

    A connection string may name several hosts. Each of the `targets` has one host, and backends get targets
    only. Of several hosts, ``host``, ``hostaddr``, ``port``, ``is_unix`` and ``socket_path`` describe the
    first.
    """

    __slots__ = ("_home_directory", "_password_source", "_places", "_values")

    def __init__(
        self,
        values: Mapping[str, str],
        *,
        places: tuple[Place, ...] | None = None,
        home_directory: str = "",
        password_source: str = "",
    ) -> None:
        """Take checked *values*; use `parse` for text from a user.

        *places* replace ``host``, ``hostaddr`` and ``port`` in *values*; with ``None`` these keywords count.
        *home_directory* is the user's, ``""`` if there is none. *password_source* is the property's text,
        ``""`` for its default.
        """
        self._places = read_places(values) if places is None else places
        self._values = {keyword: value for keyword, value in values.items() if keyword not in PLACE_KEYWORDS}
        self._home_directory = home_directory
        self._password_source = password_source

    @classmethod
    def parse(cls, dsn: object, environ: Mapping[str, str]) -> ConnInfo:
        """Return the settings of *dsn*, of its service, and of the ``PG*`` variables in *environ*.

        *dsn* is a list of key=value, a URI or a URL object; ``""`` leaves all to the others. As in libpq, an
        empty value in the DSN means the default and hides the variable, and is an error for a number or a
        choice. An empty variable counts as unset.

        Raises `ConfigurationError` if the settings cannot lead to a connection, for example because a
        certificate or service file is missing. Its message is one line without the password. The password
        file is not read yet: see `with_password`.
        """
        values, places, home_directory, password_source = effective(dsn, environ)
        info = cls(values, places=places, home_directory=home_directory, password_source=password_source)
        info.check_files()
        return info

    def __getitem__(self, keyword: str) -> str:
        values = write_places(self._places) if keyword in PLACE_KEYWORDS else self._values
        return values.get(keyword, "")

    def __repr__(self) -> str:
        address = f" hostaddr={self.hostaddr}" if self.hostaddr and self.host else ""
        return f"<ConnInfo {printable(self.user)}@{self.description}{address} sslmode={self.sslmode}>"

    def values(self) -> dict[str, str]:
        """Return every keyword that is set, password included.

        Pass on an empty value too: it hides a ``PG*`` variable that libpq would look up otherwise.
        ``client_encoding`` is never included, because every backend sets UTF8. A backend ignores ``service``,
        ``passfile``, ``target_session_attrs`` and ``load_balance_hosts``, because the core applies them.
        """
        return {**self._values, **write_places(self._places)}

    def targets(self) -> tuple[ConnInfo, ...]:
        """Return one `ConnInfo` for each host, in the given order.

        `target_session_attrs` and `load_balance` concern all hosts and are the same in each.
        """
        if len(self._places) == 1:
            return (self,)
        return tuple(self._with(places=(place,)) for place in self._places)

    def at(self, hostaddr: str) -> ConnInfo:
        """Return a copy of a target that connects to *hostaddr*, a numeric address."""
        return self._with(places=(self._place._replace(hostaddr=hostaddr),))

    def at_place_of(self, other: ConnInfo) -> ConnInfo:
        """Return a copy that connects where *other* does."""
        return self._with(places=other._places)

    @property
    def passfile(self) -> str:
        """The password file to read; ``""`` if a password was given, or there is no home directory."""
        if self.password:
            return ""
        return self["passfile"] or (self._home_directory and os.path.join(self._home_directory, ".pgpass"))

    def with_password(self, content: Content | None = None) -> ConnInfo:
        """Return a copy of a target with the password of the password file, if no password was given.

        *content* is the file's; ``None`` reads the file now. As in libpq, a bad file is not an error: it is
        the reason in `password_source`, and logged once as a warning if libpq warns. Call this for each
        attempt, because passwords change while listeners run.
        """
        if self.password:
            return self
        path = self.passfile
        if not path:
            source = "none: none was given, and there is no home directory with a .pgpass"
            return self._with(password_source=source)
        fields = (self._place.name_in_passfile, str(self.port), self.dbname, self.user)
        content = read(path) if content is None else content
        password, source = look_up(path, fields, content)
        return self._with(password=password, password_source=source)

    def replaced(self, **values: str) -> ConnInfo:
        """Return a copy of a target with other *values*, which are not checked."""
        return ConnInfo({**self._values, **values}, places=self._places, home_directory=self._home_directory)

    def _with(
        self, *, places: tuple[Place, ...] | None = None, password: str = "", password_source: str = ""
    ) -> ConnInfo:
        return ConnInfo(
            {**self._values, "password": password} if password else self._values,
            places=places or self._places,
            home_directory=self._home_directory,
            password_source=password_source or self._password_source,
        )

    @property
    def _place(self) -> Place:
        return self._places[0]

    @property
    def host(self) -> str:
        """Host name, address, or directory of the Unix socket; ``""`` if only ``hostaddr`` was given."""
        return self._place.host

    @property
    def hostaddr(self) -> str:
        """Numeric address to connect to; ``""`` as long as ``host`` has not been resolved."""
        return self._place.hostaddr

    @property
    def port(self) -> int:
        return self._place.port

    @property
    def target_session_attrs(self) -> str:
        """The kind of server to accept: any, read-write, read-only, primary, standby or prefer-standby."""
        return self["target_session_attrs"] or "any"

    @property
    def load_balance(self) -> bool:
        """Whether hosts and their addresses are tried in random order."""
        return self["load_balance_hosts"] == "random"

    @property
    def dbname(self) -> str:
        return self["dbname"]

    @property
    def user(self) -> str:
        return self["user"]

    @property
    def password(self) -> str | None:
        """``None`` if there is none. As in libpq, an empty password counts as none."""
        return self["password"] or None

    @property
    def password_source(self) -> str:
        """Where the password is from, or ``none:`` and the reason; one line, for messages.

        Examples: ``the connection string``, ``PGPASSWORD``, ``password file /home/app/.pgpass``.
        """
        if self["scram_client_key"] and not self.password:
            return "none: the SCRAM keys take its place"
        default = "the connection string" if self.password else "none: none was given"
        return self._password_source or default

    @property
    def description(self) -> str:
        """Hosts, ports and database, for messages: ``db:5432/app``, or ``db1:5432,db2:5432/app``."""
        return printable(f"{','.join(place.name for place in self._places)}/{self.dbname}")

    @property
    def is_unix(self) -> bool:
        """Whether the connection goes over a Unix socket."""
        return self._place.is_unix

    @property
    def socket_path(self) -> str:
        """The Unix socket's address for ``socket.connect``; NUL replaces an ``@`` in front of the host."""
        return self._place.socket_path

    @property
    def has_connect_timeout(self) -> bool:
        """Whether the DSN or the environment sets ``connect_timeout``."""
        return bool(self["connect_timeout"])

    @property
    def connect_timeout(self) -> float | None:
        """Seconds; ``None`` for no limit, if it is not set or not above 0.

        One second means one second; before version 17 libpq took two instead.
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

        If it is not set, it is the time that the probes take. The probes do not run while data is in flight
        (RFC 5482), and on Linux a user timeout replaces their number (tcp(7)).
        """
        probing = self.keepalives_idle + self.keepalives_interval * self.keepalives_count
        return max(0, self._integer("tcp_user_timeout", 1000 * probing))

    @property
    def sslmode(self) -> str:
        """One of libpq's six, as given."""
        return self["sslmode"] or DEFAULT_SSLMODE

    @property
    def effective_sslmode(self) -> str:
        """The ``sslmode`` that libpq applies.

        ``disable`` on a Unix socket, and ``verify-ca`` for ``require`` if there is a root certificate
        (PostgreSQL docs, libpq, "SSL Support").
        """
        if self.is_unix:
            return "disable"
        return "verify-ca" if self.sslmode == "require" and self.tls_file("sslrootcert") else self.sslmode

    def tls_file(self, keyword: TlsFile) -> str:
        """Return the file that *keyword* names, else libpq's default in ``~/.postgresql`` if it exists.

        ``""`` if there is none; ``"system"`` is possible for ``sslrootcert``. Without a certificate there is
        no key, and with ``sslcertmode=disable`` there is neither.
        """
        return find_file(keyword, self._values, self._home_directory)

    def check_files(self) -> None:
        """Raise `ConfigurationError` if a TLS file that is set, or that ``sslmode`` needs, cannot be used."""
        if any(target.effective_sslmode != "disable" for target in self.targets()):
            check_files(self._values, self.sslmode, self._home_directory)

    def check_key(self) -> None:
        """Raise `ConfigurationError` if the private key is encrypted and there is no ``sslpassword``."""
        check_key(self._values, self._home_directory)

    def _integer(self, keyword: str, default: int) -> int:
        number = integer(self[keyword])
        return default if number is None else number
