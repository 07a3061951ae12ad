"""pg8000, which does the start-up and the authentication: the one file that touches it.

It gets a stream of ours in place of a socket and has no part in what follows: it keeps the last 100
notifications only, breaks on those that are not ASCII, and loses why a session ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

from pglisten.backend import ConnInfo

from ._error import read_error
from ._failure import StartupFailed
from ._scram import ScramClient

T = TypeVar("T")

if TYPE_CHECKING:

    class Stream(Protocol):
        """What pg8000 takes for a connected socket, and for its file."""

        def makefile(self, mode: str) -> Stream: ...
        def read(self, size: int) -> bytes: ...
        def write(self, data: bytes) -> None: ...
        def flush(self) -> None: ...
        def certificate(self) -> bytes | None:
            """Return the server's certificate in DER, ``None`` without TLS."""
            ...

        def compute(self, function: Callable[[], T], /) -> T:
            """Return what *function* returns, computed without holding up the hub."""
            ...

    class CoreConnection:
        """All that is used of ``pg8000.core.CoreConnection``, private names included.

        Its constructor writes the start-up message into the stream, reads messages up to
        ReadyForQuery and hands each to its ``handle_`` method.
        """

        password: bytes | None

        def __init__(
            self,
            user: str,
            *,
            database: str | None,
            application_name: str | None,
            startup_params: dict[str, str],
            ssl_context: bool,
            sock: Stream,
        ) -> None: ...
        def close(self) -> None: ...
        def handle_AUTHENTICATION_REQUEST(self, data: bytes, context: object) -> None: ...  # noqa: N802
        def handle_BACKEND_KEY_DATA(self, data: bytes, context: object) -> None: ...  # noqa: N802
        def handle_ERROR_RESPONSE(self, data: bytes, context: object) -> None: ...  # noqa: N802
        def handle_NOTICE_RESPONSE(self, data: bytes, context: object) -> None: ...  # noqa: N802
        def handle_PARAMETER_STATUS(self, data: bytes, context: object) -> None: ...  # noqa: N802
        def handle_READY_FOR_QUERY(self, data: bytes, context: object) -> None: ...  # noqa: N802
        def _send_message(self, code: bytes, data: bytes) -> None: ...

else:
    # Not `pg8000.native.Connection`: an APM agent may have put a function in its place.
    from pg8000.core import CoreConnection

__all__ = ["LogIn", "Stream"]

_OK, _CLEARTEXT, _MD5, _SASL, _SASL_CONTINUE, _SASL_FINAL = 0, 3, 5, 10, 11, 12
"""Kinds of authentication request (PostgreSQL docs, 55.8)."""

_UNSUPPORTED_METHODS = {2: "Kerberos V5", 6: "SCM credential", 7: "GSSAPI", 8: "GSSAPI", 9: "SSPI"}

_PASSWORD = b"p"

_MAX_REQUEST = 2000
"""Longest body of an authentication request, in bytes; libpq takes no longer one either (PQconnectPoll).
It is parsed by others' code, some of which takes time by the square of the length."""

_KEY_SIZE = 8
"""BackendKeyData holds a pid and a key of four bytes each, from PostgreSQL 18 on a longer key."""


class LogIn(CoreConnection):
    """One start-up and authentication, done in the constructor; to be dropped afterwards.

    Raises `StartupFailed`, or whatever the stream raised that is not an `OSError`.
    """

    def __init__(self, conninfo: ConnInfo, stream: Stream) -> None:
        self.pid = 0
        """Process id of the server process."""
        self._conninfo = conninfo
        self._stream = stream
        self._scram: ScramClient | None = None
        self._authentication_requested = False
        """Whether the server has said anything of authentication."""
        self._authenticated = False
        """Whether it has said that there was enough of it."""
        startup = {"client_encoding": "UTF8"}
        if conninfo["options"]:
            startup["options"] = conninfo["options"]
        try:
            # The password is not among the arguments: they would show in every traceback.
            super().__init__(
                conninfo.user,
                database=conninfo.dbname or None,
                application_name=conninfo["application_name"]
                or conninfo["fallback_application_name"]
                or None,
                startup_params=startup,
                ssl_context=False,
                sock=stream,
            )
        finally:
            self.password = None

    def close(self) -> None:
        """Do nothing: pg8000 calls it when start-up fails, and the stream is not its to close."""

    def handle_ERROR_RESPONSE(self, data: bytes, context: object) -> None:  # noqa: N802 - pg8000's name
        del context
        error = read_error(data)
        raise StartupFailed(
            error.message, sqlstate=error.sqlstate, encryption=not self._authentication_requested
        )

    def handle_PARAMETER_STATUS(self, data: bytes, context: object) -> None:  # noqa: N802 - pg8000's name
        """Take no notice: pg8000 would decode by whatever the server calls its encoding, "punycode" too."""

    def handle_NOTICE_RESPONSE(self, data: bytes, context: object) -> None:  # noqa: N802 - pg8000's name
        """Take no notice: pg8000 would keep a hundred of them."""

    def handle_BACKEND_KEY_DATA(self, data: bytes, context: object) -> None:  # noqa: N802 - pg8000's name
        del context
        if len(data) < _KEY_SIZE:
            raise StartupFailed("the server broke the protocol with a malformed BackendKeyData")
        self.pid = int.from_bytes(data[:4], "big", signed=True)

    def handle_READY_FOR_QUERY(self, data: bytes, context: object) -> None:  # noqa: N802 - pg8000's name
        del context
        # Else whoever is at the other end could leave out what channel_binding=require demands of it.
        if not self._authenticated:
            raise StartupFailed("the server broke the protocol: it was ready without any authentication")
        if data not in (b"I", b"T", b"E"):
            raise StartupFailed("the server broke the protocol with a malformed ReadyForQuery")

    def handle_AUTHENTICATION_REQUEST(self, data: bytes, context: object) -> None:  # noqa: N802 - pg8000's
        self._authentication_requested = True
        kind = int.from_bytes(data[:4], "big")
        if not 4 <= len(data) <= (4 if kind == _OK else _MAX_REQUEST):
            raise StartupFailed("the server broke the protocol with a malformed request for authentication")
        if self._authenticated:
            raise StartupFailed("the server broke the protocol: it asked for authentication once more")
        if kind == _OK:
            self._check_done()
            self._authenticated = True
        elif kind in (_CLEARTEXT, _MD5):
            if self._conninfo["channel_binding"] == "require":
                raise StartupFailed("channel_binding=require, and the server wants the password without it")
            self.password = self._password().encode()
            super().handle_AUTHENTICATION_REQUEST(data, context)
        elif kind in (_SASL, _SASL_CONTINUE, _SASL_FINAL):
            self._sasl(kind, data[4:])
        else:
            method = _UNSUPPORTED_METHODS.get(kind, f"an unknown method ({kind})")
            raise StartupFailed(f"the server wants authentication by {method}, which pg8000 cannot do")

    def _password(self) -> str:
        password = self._conninfo.password
        if not password:
            raise StartupFailed(f"the server wants a password, and there is {self._conninfo.password_source}")
        return password

    def _sasl(self, kind: int, data: bytes) -> None:
        scram = self._scram
        if kind == _SASL:
            if scram is not None:
                raise StartupFailed("the server broke the protocol: it began a second SASL exchange")
            self._password()  # without one, fail before anything is sent
            self._scram = scram = ScramClient(
                [name.decode("ascii", "replace") for name in data.split(b"\0") if name],
                channel_binding=self._conninfo["channel_binding"],
                certificate=self._stream.certificate(),
            )
            first = scram.client_first()
            self._send_answer(scram.mechanism.encode() + b"\0" + len(first).to_bytes(4, "big") + first)
        elif scram is None:
            raise StartupFailed("the server broke the protocol: it continued a SASL exchange that none began")
        elif kind == _SASL_CONTINUE:
            scram.read_server_first(data)
            self._send_answer(self._stream.compute(lambda: scram.client_final(self._password())))
        else:
            scram.read_server_final(data)

    def _send_answer(self, data: bytes) -> None:
        self._send_message(_PASSWORD, data)
        self._stream.flush()

    def _check_done(self) -> None:
        """Refuse a server that lets us in without having proved what it had to prove."""
        if self._scram is not None and not self._scram.is_finished:
            raise StartupFailed("the server broke off the SCRAM exchange: it may not know the password")
        bound = self._scram is not None and self._scram.is_bound
        if self._conninfo["channel_binding"] == "require" and not bound:
            raise StartupFailed("channel_binding=require, and the server did not ask for authentication")
