"""Start-up of a session: connect, agree on TLS, log in; then again with or without TLS if sslmode allows."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Generator
from typing import NamedTuple, TypeVar

from pglisten.backend import Computed, ConnInfo, Deadline, DeadlinePassed, in_thread, let_others_run

from . import _tls
from ._certificate_names import mismatch
from ._driver import LogIn
from ._failure import StartupFailed, system_errors
from ._tls import Encryption
from ._transport import Transport

__all__ = ["Established", "establish"]

_CHUNK = 8192
"""Most bytes read at once during start-up. A whole start-up has about 600."""

_MAX_STARTUP = 1 << 20
"""Most bytes that the server may send during start-up. The server's configuration decides how long a
ParameterStatus or NoticeResponse is, and no reasonable one has a megabyte. Without this limit, a server that
never stops sending would also outlive the deadline, because no wait is needed while there is data to read."""

_NO_POSTGRES = "the server does not speak PostgreSQL's protocol: is this its port?"
_TOO_MUCH = f"the server said more than {_MAX_STARTUP} bytes, and was not ready yet"

T = TypeVar("T")


class Established(NamedTuple):
    """The result of start-up."""

    transport: Transport
    pid: int
    rest: bytes
    """Bytes that were received after ReadyForQuery."""


def establish(conninfo: ConnInfo, deadline: Deadline) -> Established:
    """Return a session ready for queries.

    Raises `StartupFailed` or `DeadlinePassed`, and leaves no socket open then.
    """
    first: StartupFailed | None = None
    for encryption in _tls.attempts(conninfo):
        try:
            return _attempt(conninfo, encryption, deadline)
        except StartupFailed as exc:
            if first is not None and str(exc) != str(first):
                # Give both errors: either may be the user's mistake.
                raise StartupFailed(f"{first}; {exc}", sqlstate=exc.sqlstate) from exc.__cause__
            first = exc
        if not first.encryption:
            break
    assert first is not None, "there is always an attempt"
    raise first


def _attempt(conninfo: ConnInfo, encryption: Encryption, deadline: Deadline) -> Established:
    transport = Transport.connect(conninfo, deadline)
    try:
        if encryption is not Encryption.NONE:
            _encrypt(transport, conninfo, encryption, deadline)
        stream = _Stream(transport, deadline)
        try:
            pid = _log_in(conninfo, stream)
        except StartupFailed as exc:
            if encryption is Encryption.IF_OFFERED and not transport.is_tls:
                # The server declined TLS, so an attempt without TLS would be the same.
                exc.encryption = False
            raise
        return Established(transport, pid, stream.rest())
    except BaseException:
        transport.close()
        raise


def _encrypt(transport: Transport, conninfo: ConnInfo, encryption: Encryption, deadline: Deadline) -> None:
    """Agree with the server on TLS, or on no TLS if *encryption* allows that."""
    direct = conninfo["sslnegotiation"] == "direct"
    if not direct and not _offers_tls(transport, deadline):
        if encryption is Encryption.DEMANDED:
            raise StartupFailed(f"the server does not do TLS, which sslmode={conninfo.sslmode} demands")
        return
    done = _in_thread(lambda: _tls_settings(conninfo), deadline)
    with system_errors():
        context, name = done.get()
    with _handshake_errors(direct=direct):
        transport.start_tls(context, name)
    while True:
        with _handshake_errors(direct=direct):
            wanted = transport.shake_hands()
        if not wanted:
            break
        reading = wanted == ssl.SSL_ERROR_WANT_READ
        transport.wait(deadline, readable=reading, writable=not reading)
    # Close the file: all keys are made, and the context lives as long as the session.
    context.keylog_filename = None  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    if direct and transport.protocol() != _tls.ALPN:
        raise StartupFailed("sslnegotiation=direct, and the server does not confirm that it is PostgreSQL")
    if conninfo.effective_sslmode == "verify-full":
        _check_name(transport.certificate() or b"", conninfo.host)


def _tls_settings(conninfo: ConnInfo) -> tuple[ssl.SSLContext, str | None]:
    """Return the context and the server's name. Raises `StartupFailed`."""
    try:
        return _tls.make_context(conninfo), _tls.server_name(conninfo)
    except ValueError as exc:
        # Fail even if TLS is only preferred: a user who names a file wants it to be used.
        raise StartupFailed(str(exc)) from exc


@contextlib.contextmanager
def _handshake_errors(*, direct: bool) -> Generator[None, None, None]:
    """Raise an error of the handshake as `StartupFailed`. The block must not wait."""
    try:
        yield
    except ssl.SSLCertVerificationError as exc:
        raise StartupFailed(f"the server's certificate: {exc.verify_message}", encryption=True) from exc
    except OSError as exc:
        why = exc.reason if isinstance(exc, ssl.SSLError) else exc.strerror
        hint = "; sslnegotiation=direct needs PostgreSQL 17 or newer with TLS" if direct else ""
        raise StartupFailed(f"the TLS handshake failed: {why or exc}{hint}", encryption=True) from exc


def _check_name(certificate: bytes, host: str) -> None:
    try:
        why = mismatch(certificate, host)
    except ValueError as exc:
        raise StartupFailed(f"the server's certificate cannot be read: {exc}", encryption=True) from exc
    if why:
        raise StartupFailed(why, encryption=True)


def _offers_tls(transport: Transport, deadline: Deadline) -> bool:
    stream = _Stream(transport, deadline, chunk=1)
    stream.write(_tls.SSL_REQUEST)
    stream.flush()
    # Read exactly one byte. The TLS layer must get what follows and refuse it if it is not TLS. If the stream
    # kept it, it would pass for data that the server sent under TLS (CVE-2021-23222).
    answer = stream.read(1)
    if answer in (b"S", b"N"):
        return answer == b"S"
    # Never show the text of an error: any host on the way may have sent it (CVE-2024-10977).
    raise StartupFailed("the server did not understand the request for TLS", encryption=True)


def _log_in(conninfo: ConnInfo, stream: _Stream) -> int:
    try:
        return LogIn(conninfo, stream).pid
    except StartupFailed:
        raise
    except Exception as exc:
        # pg8000 parses the server's messages with few checks: a wrong byte raises KeyError, struct.error,
        # UnicodeDecodeError and others.
        if stream.interrupted is None:
            raise StartupFailed(f"the start-up failed: {type(exc).__name__}: {exc}") from exc
    # Raise it outside of the block above, so that it keeps its own context.
    raise stream.interrupted


class _Stream:
    """Gives the driver the transport, with waits and a deadline, in place of a socket.

    It raises errors of the system as `StartupFailed`, never as `OSError`.
    """

    def __init__(self, transport: Transport, deadline: Deadline, *, chunk: int = _CHUNK) -> None:
        self._transport = transport
        self._deadline = deadline
        self._chunk = chunk
        self._received = bytearray()
        self._bytes_left = _MAX_STARTUP
        self._unsent = bytearray()
        self._send_error: OSError | None = None
        """Why no more data can be sent."""
        self.interrupted: BaseException | None = None
        """The exception that ended a wait: the deadline, or one thrown in from outside. pg8000 may hide
        it."""

    def certificate(self) -> bytes | None:
        """Return the server's certificate in DER; ``None`` without TLS."""
        return self._transport.certificate()

    def compute(self, function: Callable[[], T]) -> T:
        """Return the result of *function*, which runs in a thread and does not block the hub."""
        with self._waiting():
            done = _in_thread(function, self._deadline)
        return done.get()

    def read(self, size: int) -> bytes:
        """Return exactly *size* bytes."""
        if size < 0:
            raise StartupFailed(_NO_POSTGRES)
        self._bytes_left -= size
        if self._bytes_left < 0:
            # If one message alone is too long, its length is wrong: it looks like another protocol.
            raise StartupFailed(_NO_POSTGRES if size > _MAX_STARTUP else _TOO_MUCH)
        while len(self._received) < size:
            self._received += self._receive()
        data = bytes(self._received[:size])
        del self._received[:size]
        return data

    def _receive(self) -> bytes:
        while True:
            with system_errors():
                data = self._transport.receive(self._chunk)
            if not data and self._send_error is not None:
                raise StartupFailed(self._send_error.strerror or str(self._send_error)) from self._send_error
            if data:
                # A usual start-up fits into one chunk. A longer one must not block the hub.
                if self._bytes_left < _MAX_STARTUP - self._chunk:
                    with self._waiting():
                        let_others_run()
                return data
            if data is not None:
                raise StartupFailed("server closed the connection unexpectedly")
            with self._waiting():
                self._transport.wait(self._deadline)

    @contextlib.contextmanager
    def _waiting(self) -> Generator[None, None, None]:
        try:
            yield
        except BaseException as exc:
            self.interrupted = exc
            raise

    def write(self, data: bytes) -> None:
        """Keep *data* until `flush`."""
        self._unsent += data

    def flush(self) -> None:
        """Send everything that was written.

        If that fails, `read` raises the error, after it has returned what the server sent before it closed
        the connection. Under TLS 1.3 this tells why the server does not trust the client's certificate.
        """
        unsent = memoryview(bytes(self._unsent))
        self._unsent.clear()
        while unsent and self._send_error is None:
            try:
                unsent = unsent[self._transport.send(unsent) :]
            except OSError as exc:
                self._send_error = exc
                return
            if unsent:
                with self._waiting():
                    self._transport.wait(self._deadline, readable=False, writable=True)

    def rest(self) -> bytes:
        """Return the bytes that were received and not read."""
        return bytes(self._received)


def _in_thread(function: Callable[[], T], deadline: Deadline) -> Computed[T]:
    """Run *function* in a thread and return its result or error.

    This is for work that would block the hub: reading certificates takes milliseconds, and hashing a password
    as often as the server demands may take seconds.
    """
    deadline.check()
    done = in_thread(function, deadline.remaining())
    if done is None:
        raise DeadlinePassed
    return done
