"""From an address to a session that is ready for queries: dial, TLS, log in; again without TLS if need be."""

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
"""How much is read at once during start-up, in bytes; all of it together is about 600."""

_MAX_STARTUP = 1 << 20
"""How much the server may say during start-up, in bytes: a ParameterStatus or NoticeResponse can be as long
as whoever configured the server likes, and nobody likes a megabyte. What has no end would also have no
deadline: nothing waits while there is always more to read."""

_NO_POSTGRES = "the server does not speak PostgreSQL's protocol: is this its port?"
_TOO_MUCH = f"the server said more than {_MAX_STARTUP} bytes, and was not ready yet"

T = TypeVar("T")


class Established(NamedTuple):
    """What start-up leaves behind."""

    transport: Transport
    pid: int
    rest: bytes
    """What was received after ReadyForQuery."""


def establish(conninfo: ConnInfo, deadline: Deadline) -> Established:
    """Return a session ready for queries. Raises `StartupFailed` or `DeadlinePassed`; nothing stays open."""
    first: StartupFailed | None = None
    for encryption in _tls.attempts(conninfo):
        try:
            return _attempt(conninfo, encryption, deadline)
        except StartupFailed as exc:
            if first is not None and str(exc) != str(first):
                # Which of the two is the user's mistake cannot be known.
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
                exc.encryption = False  # TLS was declined: without it again would be the same again
            raise
        return Established(transport, pid, stream.rest())
    except BaseException:
        transport.close()
        raise


def _encrypt(transport: Transport, conninfo: ConnInfo, encryption: Encryption, deadline: Deadline) -> None:
    """Agree on TLS with the server, or on none if *encryption* allows that."""
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
    if direct and transport.protocol() != _tls.ALPN:
        raise StartupFailed("sslnegotiation=direct, and the server does not confirm that it is PostgreSQL")
    if conninfo.effective_sslmode == "verify-full":
        _check_name(transport.certificate() or b"", conninfo.host)


def _tls_settings(conninfo: ConnInfo) -> tuple[ssl.SSLContext, str | None]:
    """Return the context and the server's name. Raises `StartupFailed`."""
    try:
        return _tls.make_context(conninfo), _tls.server_name(conninfo)
    except ValueError as exc:
        # Also where TLS is only preferred: whoever names a file means it.
        raise StartupFailed(str(exc)) from exc


@contextlib.contextmanager
def _handshake_errors(*, direct: bool) -> Generator[None, None, None]:
    """Raise what is wrong with the handshake as `StartupFailed`. The block must not wait."""
    try:
        yield
    except ssl.SSLCertVerificationError as exc:
        raise StartupFailed(f"the server's certificate: {exc.verify_message}", encryption=True) from exc
    except OSError as exc:
        why = exc.reason if isinstance(exc, ssl.SSLError) else exc.strerror
        hint = "; sslnegotiation=direct takes a PostgreSQL 17 with TLS" if direct else ""
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
    # One byte and no more: what follows must go to the TLS layer, which refuses it if it is not TLS.
    # Kept, it would be taken for something the server said under TLS (CVE-2021-23222).
    answer = stream.read(1)
    if answer in (b"S", b"N"):
        return answer == b"S"
    # Not even if it is an error is its text shown: anybody may have sent it (CVE-2024-10977).
    raise StartupFailed("the server did not understand the request for TLS", encryption=True)


def _log_in(conninfo: ConnInfo, stream: _Stream) -> int:
    try:
        return LogIn(conninfo, stream).pid
    except StartupFailed:
        raise
    except Exception as exc:
        # pg8000 takes apart what the server sends without much checking: KeyError, struct.error,
        # UnicodeDecodeError and more come out of a wrong byte.
        if stream.interrupted is None:
            raise StartupFailed(f"the start-up cannot go on: {type(exc).__name__}: {exc}") from exc
    # Outside of the block above, so that it keeps its own context.
    raise stream.interrupted


class _Stream:
    """What pg8000 gets in place of a socket and its file: the transport, with waits and a deadline.

    No error of the system's leaves it as an `OSError`: see `StartupFailed`.
    """

    def __init__(self, transport: Transport, deadline: Deadline, *, chunk: int = _CHUNK) -> None:
        self._transport = transport
        self._deadline = deadline
        self._chunk = chunk
        self._received = bytearray()
        self._bytes_left = _MAX_STARTUP
        self._unsent = bytearray()
        self._send_error: OSError | None = None
        """Why nothing more can be sent."""
        self.interrupted: BaseException | None = None
        """What ended a wait: the deadline, or what was thrown in from outside. pg8000 may hide it."""

    def makefile(self, mode: str) -> _Stream:
        """Return itself: it is pg8000's file as well, and nothing of it has to be closed."""
        del mode
        return self

    def certificate(self) -> bytes | None:
        """Return the server's certificate in DER, ``None`` without TLS."""
        return self._transport.certificate()

    def compute(self, function: Callable[[], T]) -> T:
        """Return what *function* returns, computed without holding up the hub."""
        with self._waiting():
            done = _in_thread(function, self._deadline)
        return done.get()

    def read(self, size: int) -> bytes:
        """Return exactly *size* bytes."""
        if size < 0:
            raise StartupFailed(_NO_POSTGRES)
        self._bytes_left -= size
        if self._bytes_left < 0:
            # Of one message the length is wrong, which is what another protocol's look like.
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
                # One chunk makes a common start-up. A longer one is not to hold up the hub.
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
        """Send all that was written.

        That it cannot be sent is told by `read`, once there is nothing left of what the server said before
        it hung up: under TLS 1.3, that is why it does not trust the client's certificate.
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
        """Return what was received and not read."""
        return bytes(self._received)


def _in_thread(function: Callable[[], T], deadline: Deadline) -> Computed[T]:
    """Return what *function* did, in a thread.

    For what holds up the hub by the milliseconds: reading certificates, and hashing a password as
    often as the server demands, which may be for seconds.
    """
    deadline.check()
    done = in_thread(function, deadline.remaining())
    if done is None:
        raise DeadlinePassed
    return done
