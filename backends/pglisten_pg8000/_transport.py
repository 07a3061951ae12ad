"""One connected socket, TLS or not, that never blocks: what happens with it is decided elsewhere.

The socket is gevent's, so this is the same in a monkey-patched process and in any other, and is kept
in non-blocking mode: every wait is made here, by descriptor and with a deadline. gevent's own timeouts
start anew with each call and would let a server that dribbles bytes hold a caller for ever.
"""

from __future__ import annotations

import atexit
import errno
import os
import socket as numbers  # monkey-patching may have put gevent's classes into it: constants only
import ssl

from gevent import socket

from pglisten.backend import ConnInfo, Deadline, DeadlinePassed, OwnedDescriptor, wait_ready

from ._failure import Forked, StartupFailed, system_errors

__all__ = ["Transport"]

_sockets: dict[socket.socket, int] = {}
"""Sockets in use, and the process of each. A socket that is collected closes its number, which may lead
elsewhere in a forked child: so none is collected before its transport has detached it."""


@atexit.register
def _detach_foreign() -> None:
    """Detach what is another process's, before the interpreter's end collects it."""
    for sock, pid in _sockets.items():
        if pid != os.getpid():
            sock.detach()


class Transport:
    """A connected socket. Whoever makes one closes it."""

    def __init__(self, sock: socket.socket) -> None:
        self._pid = os.getpid()
        self._descriptor = OwnedDescriptor(sock.fileno())
        self._sock = sock
        _sockets[sock] = self._pid
        self._tls: ssl.SSLSocket | None = None

    @classmethod
    def connect(cls, conninfo: ConnInfo, deadline: Deadline) -> Transport:
        """Connect to the server's address. Raises `StartupFailed` or `DeadlinePassed`."""
        address: tuple[str, int] | str
        if conninfo.is_unix:
            family, address = numbers.AF_UNIX, conninfo.socket_path
        else:
            family = numbers.AF_INET6 if ":" in conninfo.hostaddr else numbers.AF_INET
            address = (conninfo.hostaddr, conninfo.port)
        with system_errors():
            transport = cls(socket.socket(family, numbers.SOCK_STREAM))
        try:
            with system_errors():
                transport._sock.setblocking(False)
                if not conninfo.is_unix:
                    _set_tcp_options(transport._sock, conninfo)
            transport._connect_socket(address, deadline)
        except BaseException:
            transport.close()
            raise
        return transport

    def _connect_socket(self, address: tuple[str, int] | str, deadline: Deadline) -> None:
        # Non-blocking, gevent's connect() takes the address as it is; else it would resolve the number.
        # A Unix socket with a full backlog gives EAGAIN, for which one cannot wait: it goes out as it is.
        with system_errors():
            code = self._sock.connect_ex(address)
        if code == errno.EINPROGRESS:
            self.wait(deadline, readable=False, writable=True)
            with system_errors():
                code = self._sock.getsockopt(numbers.SOL_SOCKET, numbers.SO_ERROR)
        if code:
            raise StartupFailed(os.strerror(code)) from OSError(code, os.strerror(code))
        # Dialling a port of the ephemeral range where nobody listens ends, once in some ten thousand
        # times, in a socket connected to itself.
        with system_errors():
            if isinstance(address, tuple) and self._sock.getsockname() == self._sock.getpeername():
                raise OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))

    def fileno(self) -> int:
        """Return the descriptor; -1 once it is closed."""
        return self._descriptor.fileno()

    @property
    def forked(self) -> bool:
        """Whether this is a forked child's copy."""
        return os.getpid() != self._pid

    @property
    def is_tls(self) -> bool:
        """Whether what goes over it is encrypted."""
        return self._tls is not None

    def start_tls(self, context: ssl.SSLContext, host: str | None) -> None:
        """Prepare for `shake_hands`; *host* is the name to send and to check, where the context checks names.

        Raises `OSError`.
        """
        # gevent's takes the descriptor over from the socket; the number stays.
        tls = context.wrap_socket(self._sock, server_hostname=host, do_handshake_on_connect=False)
        _sockets[tls] = _sockets.pop(self._sock)
        self._sock = self._tls = tls

    def shake_hands(self) -> int:
        """Go on with the handshake, without waiting. Raises `ssl.SSLError` or another `OSError`.

        Returns 0 once it is done, else what to wait for: ``ssl.SSL_ERROR_WANT_READ`` or ``_WRITE``.
        """
        assert self._tls is not None
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return ssl.SSL_ERROR_WANT_READ
        except ssl.SSLWantWriteError:
            return ssl.SSL_ERROR_WANT_WRITE
        return 0

    def certificate(self) -> bytes | None:
        """Return the server's certificate in DER, ``None`` without TLS."""
        return None if self._tls is None else self._tls.getpeercert(binary_form=True)

    def protocol(self) -> str | None:
        """Return what ALPN agreed on, ``None`` if nothing."""
        return None if self._tls is None else self._tls.selected_alpn_protocol()

    def receive(self, size: int) -> bytes | None:
        """Return up to *size* bytes that have arrived, ``None`` if there are none, ``b""`` at the end.

        ``None`` also means that the TLS layer holds nothing back. Raises `OSError`.
        """
        try:
            # As a descriptor: gevent's method does what this does, and looks whether it is to wait.
            return os.read(self.fileno(), size) if self._tls is None else self._tls.recv(size)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None

    def send(self, data: memoryview) -> int:
        """Return how many bytes of *data* were taken, perhaps 0. Raises `OSError`."""
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0

    def wait(self, deadline: Deadline, *, readable: bool = True, writable: bool = False) -> None:
        """Wait until the descriptor is one of what is asked for. Raises `DeadlinePassed`.

        In a forked child's copy of the greenlet, `Forked`. Whatever else it raises is the caller's own.
        """
        deadline.check()
        ready = wait_ready(self.fileno(), deadline.remaining(), readable=readable, writable=writable)
        if self.forked:
            self.divert()
            raise Forked
        if not ready:
            raise DeadlinePassed

    def close(self) -> None:
        """Close the descriptor, now and without a word, TLS's close_notify included. Idempotent.

        gevent's own ``close()`` postpones closing to the loop's next turn, and ``SSLSocket.unwrap`` would
        talk and wait for the answer.
        """
        self._detach()
        self._descriptor.close()

    def divert(self) -> None:
        """Let the descriptor lead nowhere: see `OwnedDescriptor.divert`."""
        self._detach()
        self._descriptor.divert()

    def _detach(self) -> None:
        """Take the number from the socket, which would close it whatever it leads to."""
        _sockets.pop(self._sock, None)
        self._sock.detach()


def _set_tcp_options(sock: socket.socket, conninfo: ConnInfo) -> None:
    """Set what libpq sets, as far as the platform has it."""
    sock.setsockopt(numbers.IPPROTO_TCP, numbers.TCP_NODELAY, 1)
    options = {"TCP_USER_TIMEOUT": conninfo.tcp_user_timeout}
    if conninfo.keepalives:
        sock.setsockopt(numbers.SOL_SOCKET, numbers.SO_KEEPALIVE, 1)
        options["TCP_KEEPIDLE"] = conninfo.keepalives_idle
        options["TCP_KEEPINTVL"] = conninfo.keepalives_interval
        options["TCP_KEEPCNT"] = conninfo.keepalives_count
    for name, value in options.items():
        option = getattr(numbers, name, None)
        if option is not None and value > 0:
            sock.setsockopt(numbers.IPPROTO_TCP, option, value)
