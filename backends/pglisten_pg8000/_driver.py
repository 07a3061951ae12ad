"""Start-up and authentication by pg8000. No other file uses pg8000.

pg8000 gets a `Stream` in place of a socket. It is not used afterwards, because it keeps only the last 100
notifications, fails on those that are not ASCII, and loses the reason why a session ends.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol, TypeVar

from pglisten.backend import ConnInfo

from ._error import read_error
from ._failure import StartupFailed
from ._protocol import OLDEST, Versions
from ._scram import Keys, ScramClient

T = TypeVar("T")

_Handler = Callable[[bytes, object], None]

if TYPE_CHECKING:

    class Stream(Protocol):
        """A connected socket, which waits cooperatively."""

        def read(self, size: int) -> bytes: ...
        def write(self, data: bytes) -> None: ...
        def flush(self) -> None: ...
        def certificate(self) -> bytes | None:
            """Return the server's certificate in DER; ``None`` without TLS."""
            ...

        def compute(self, function: Callable[[], T], /) -> T:
            """Return the result of *function* without blocking the hub."""
            ...

    class CoreConnection:
        """Everything that is used of ``pg8000.core.CoreConnection``, including private names.

        Its constructor writes the start-up message to the stream, reads messages up to ReadyForQuery and
        calls a ``handle_`` method for each.
        """

        password: bytes | None

        @property
        def message_types(self) -> Mapping[bytes, _Handler]:
            """The method for each type of message. The constructor sets it before it reads."""
            ...

        @message_types.setter
        def message_types(self, handlers: Mapping[bytes, _Handler]) -> None: ...

        def __init__(
            self,
            user: str,
            *,
            database: str | None,
            application_name: str | None,
            startup_params: dict[str, str],
            ssl_context: bool,
            sock: _Opening,
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
    # Not `pg8000.native.Connection`: an APM agent may have replaced it by a function.
    from pg8000.core import CoreConnection

__all__ = ["LogIn", "Stream"]

_OK, _CLEARTEXT, _MD5, _SASL, _SASL_CONTINUE, _SASL_FINAL = 0, 3, 5, 10, 11, 12
"""Kinds of authentication request (PostgreSQL docs, 55.8)."""

_UNSUPPORTED_METHODS = {2: "Kerberos V5", 6: "SCM credential", 7: "GSSAPI", 8: "GSSAPI", 9: "SSPI"}

_PASSWORD = b"p"

_MAX_REQUEST = 2000
"""Longest body of an authentication request, in bytes, the same as libpq's (PQconnectPoll). Code of other
libraries parses it, and parts of that take time proportional to the square of the length."""

_NEGOTIATE = b"v"
"""NegotiateProtocolVersion, which pg8000 does not know."""

_KEY_DATA = range(4 + 4, 4 + 256 + 1)
"""Length of BackendKeyData, in bytes: a pid of four bytes, and a key, which has four in version 3.0 and up to
256 in version 3.2. Nothing here uses the key, so a long one is accepted in version 3.0 too."""


class _Opening:
    """What pg8000 has for a stream: it puts another version into the start-up message.

    pg8000 always asks for version 3.0. Everything after that message goes to *stream* as it is.
    """

    def __init__(self, stream: Stream, version: tuple[int, int]) -> None:
        self._stream = stream
        self._version = version
        self._message: bytearray | None = bytearray()
        """The start-up message; ``None`` after it was sent."""
        self.read = stream.read

    def makefile(self, mode: str) -> _Opening:
        """Return this object, which is also pg8000's file. pg8000 need not close it."""
        del mode
        return self

    def write(self, data: bytes) -> None:
        if self._message is None:
            self._stream.write(data)
        else:
            self._message += data

    def flush(self) -> None:
        if self._message is not None:
            message, self._message = self._message, None
            length, version = message[:4], message[4:8]
            assert version == _version(OLDEST), "pg8000 wrote another message than before"
            self._stream.write(bytes(length + _version(self._version) + message[8:]))
        self._stream.flush()


def _version(version: tuple[int, int]) -> bytes:
    return b"".join(number.to_bytes(2, "big") for number in version)


class LogIn(CoreConnection):
    """One start-up with authentication. The constructor does all of it; discard the object afterwards.

    Raises `StartupFailed`, or an exception of the stream that is no `OSError`.
    """

    def __init__(self, conninfo: ConnInfo, stream: Stream) -> None:
        self.pid = 0
        """Process id of the server process."""
        self._conninfo = conninfo
        self._stream = stream
        self._versions = Versions(conninfo)
        self._scram: ScramClient | None = None
        self._authentication_requested = False
        """Whether the server has sent a request for authentication."""
        self._authenticated = False
        """Whether the server has sent AuthenticationOk."""
        startup = {"client_encoding": "UTF8"}
        if conninfo["options"]:
            startup["options"] = conninfo["options"]
        try:
            # The password is no argument, because arguments show in every traceback.
            super().__init__(
                conninfo.user,
                database=conninfo.dbname or None,
                application_name=conninfo["application_name"]
                or conninfo["fallback_application_name"]
                or None,
                startup_params=startup,
                ssl_context=False,
                sock=_Opening(stream, self._versions.used),
            )
        finally:
            self.password = None

    def close(self) -> None:
        """Do nothing. pg8000 calls this if start-up fails, but the transport's owner closes the stream."""

    def handle_ERROR_RESPONSE(self, data: bytes, context: object) -> None:  # noqa: N802 - pg8000's name
        del context
        error = read_error(data)
        raise StartupFailed(
            error.message, sqlstate=error.sqlstate, encryption=not self._authentication_requested
        )

    def handle_PARAMETER_STATUS(self, data: bytes, context: object) -> None:  # noqa: N802 - pg8000's name
        """Ignore it. pg8000 would decode with the encoding that the server names, even "punycode"."""

    def handle_NOTICE_RESPONSE(self, data: bytes, context: object) -> None:  # noqa: N802 - pg8000's name
        """Ignore it. pg8000 would keep a hundred of them."""

    @property
    def message_types(self) -> Mapping[bytes, _Handler]:
        """What pg8000 calls for each type of message."""
        return self._handlers

    @message_types.setter
    def message_types(self, handlers: Mapping[bytes, _Handler]) -> None:
        """Take pg8000's own, and add the type that pg8000 lacks."""
        self._handlers = {**handlers, _NEGOTIATE: self._negotiate}

    def _negotiate(self, data: bytes, context: object) -> None:
        del context
        if self._authentication_requested:
            raise StartupFailed("the server broke the protocol: it negotiated the version too late")
        self._versions.negotiate(data)

    def handle_BACKEND_KEY_DATA(self, data: bytes, context: object) -> None:  # noqa: N802 - pg8000's name
        del context
        if len(data) not in _KEY_DATA:
            raise StartupFailed("the server broke the protocol with a malformed BackendKeyData")
        self.pid = int.from_bytes(data[:4], "big", signed=True)

    def handle_READY_FOR_QUERY(self, data: bytes, context: object) -> None:  # noqa: N802 - pg8000's name
        del context
        # Otherwise an attacker could skip the authentication that channel_binding=require demands.
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
                raise StartupFailed(
                    "channel_binding=require, and the server asks for the password without it"
                )
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
            if not self._conninfo["scram_client_key"]:
                self._password()  # Without a password, fail before anything is sent.
            self._scram = scram = ScramClient(
                [name.decode("ascii", "replace") for name in data.split(b"\0") if name],
                channel_binding=self._conninfo["channel_binding"],
                certificate=self._stream.certificate(),
            )
            first = scram.client_first()
            self._send_answer(scram.mechanism.encode() + b"\0" + len(first).to_bytes(4, "big") + first)
        elif scram is None:
            raise StartupFailed(
                "the server broke the protocol: it continued a SASL exchange before its start"
            )
        elif kind == _SASL_CONTINUE:
            scram.read_server_first(data)
            self._send_answer(self._stream.compute(lambda: self._final(scram)))
        else:
            scram.read_server_final(data)

    def _final(self, scram: ScramClient) -> bytes:
        """Return the client's final message. Hashing may take seconds."""
        client, server = (
            base64.b64decode(self._conninfo[keyword]) for keyword in ("scram_client_key", "scram_server_key")
        )
        return scram.client_final("" if client else self._password(), Keys(client, server))

    def _send_answer(self, data: bytes) -> None:
        self._send_message(_PASSWORD, data)
        self._stream.flush()

    def _check_done(self) -> None:
        """Refuse a server that ends authentication before it has proved what it must prove."""
        if self._scram is not None and not self._scram.is_finished:
            raise StartupFailed("the server broke off the SCRAM exchange: it may not know the password")
        bound = self._scram is not None and self._scram.is_bound
        if self._conninfo["channel_binding"] == "require" and not bound:
            raise StartupFailed("channel_binding=require, and the server did not ask for authentication")
