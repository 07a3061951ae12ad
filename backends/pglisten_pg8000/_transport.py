"""One connected socket, with or without TLS, that never blocks.

The socket is gevent's and works in the same way whether the process is monkey-patched or not. It stays in
non-blocking mode: `Transport.wait` makes every wait, by descriptor and with a deadline. gevent's own timeouts
start anew with each call, so a server that sends byte after byte could hold the caller forever.
"""

from __future__ import annotations

import atexit
import errno
import os
import socket as numbers  # Constants only: monkey-patching may have put gevent's classes into it.
import ssl

from gevent import socket

from pglisten.backend import ConnInfo, Deadline, DeadlinePassed, OwnedDescriptor, wait_ready

from ._failure import Forked, StartupFailed, system_errors

__all__ = ["Transport"]

_sockets: dict[socket.socket, int] = {}
"""Sockets in use, and the process id of each one's owner. A collected socket closes its number, which may
belong to another file in a forked child. So no socket is collected before its transport has detached it."""


@atexit.register
def _detach_foreign() -> None:
    """Detach the sockets of other processes before the interpreter collects them at its end."""
    for sock, pid in _sockets.items():
        if pid != os.getpid():
            sock.detach()


class Transport:
    """A connected socket. Its creator closes it."""

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
        # In non-blocking mode gevent's connect() does not resolve the address. A Unix socket with a full
        # backlog gives EAGAIN. There is no event to wait for, so the attempt fails with it.
        with system_errors():
            code = self._sock.connect_ex(address)
        if code == errno.EINPROGRESS:
            self.wait(deadline, readable=False, writable=True)
            with system_errors():
                code = self._sock.getsockopt(numbers.SOL_SOCKET, numbers.SO_ERROR)
        if code:
            raise StartupFailed(os.strerror(code)) from OSError(code, os.strerror(code))
        # If no server listens on a port of the ephemeral range, about one attempt in ten thousand connects
        # the socket to itself.
        with system_errors():
            if isinstance(address, tuple) and self._sock.getsockname() == self._sock.getpeername():
                raise OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))

    def fileno(self) -> int:
        """Return the descriptor; -1 after `close`."""
        return self._descriptor.fileno()

    @property
    def forked(self) -> bool:
        """Whether this object is the copy of a forked child."""
        return os.getpid() != self._pid

    @property
    def is_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self._tls is not None

    def start_tls(self, context: ssl.SSLContext, host: str | None) -> None:
        """Prepare for `shake_hands`. *host* is the name to send, and to check if the context checks names.

        Raises `OSError`.
        """
        # gevent's TLS socket takes the descriptor over from the socket; the number stays the same.
        tls = context.wrap_socket(self._sock, server_hostname=host, do_handshake_on_connect=False)
        _sockets[tls] = _sockets.pop(self._sock)
        self._sock = self._tls = tls

    def shake_hands(self) -> int:
        """Continue the handshake without waiting. Raises `ssl.SSLError` or another `OSError`.

        Returns 0 when the handshake is done. Otherwise the caller must wait: for reading if the result is
        ``ssl.SSL_ERROR_WANT_READ``, for writing if it is ``ssl.SSL_ERROR_WANT_WRITE``.
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
        """Return the server's certificate in DER; ``None`` without TLS."""
        return None if self._tls is None else self._tls.getpeercert(binary_form=True)

    def protocol(self) -> str | None:
        """Return the protocol that ALPN agreed on; ``None`` if there is none."""
        return None if self._tls is None else self._tls.selected_alpn_protocol()

    def receive(self, size: int) -> bytes | None:
        """Return up to *size* bytes that have arrived; ``None`` if there are none, ``b""`` at the end.

        ``None`` also means that the TLS layer buffers nothing. Raises `OSError`.
        """
        try:
            # Read the descriptor: gevent's method does the same, and also checks whether to wait.
            return os.read(self.fileno(), size) if self._tls is None else self._tls.recv(size)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None

    def send(self, data: memoryview) -> int:
        """Send a part of *data*; return how many bytes were sent, perhaps 0. Raises `OSError`."""
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0

    def wait(self, deadline: Deadline, *, readable: bool = True, writable: bool = False) -> None:
        """Wait until the descriptor is readable or writable, as asked. Raises `DeadlinePassed`.

        Raises `Forked` in a forked child's copy of the greenlet. Any other exception was thrown in from
        outside and belongs to the caller.
        """
        deadline.check()
        ready = wait_ready(self.fileno(), deadline.remaining(), readable=readable, writable=writable)
        if self.forked:
            self.divert()
            raise Forked
        if not ready:
            raise DeadlinePassed

    def close(self) -> None:
        """Close the descriptor at once, without sending anything, not even TLS's close_notify. Idempotent.

        gevent's own ``close()`` postpones closing to the next turn of the loop. ``SSLSocket.unwrap`` would
        send, and wait for the answer.
        """
        self._detach()
        self._descriptor.close()

    def divert(self) -> None:
        """Keep the descriptor open without a peer: see `OwnedDescriptor.divert`."""
        self._detach()
        self._descriptor.divert()

    def _detach(self) -> None:
        """Take the number from the socket, because the socket would close it even if it is another file's."""
        _sockets.pop(self._sock, None)
        self._sock.detach()


def _set_tcp_options(sock: socket.socket, conninfo: ConnInfo) -> None:
    """Set the options that libpq sets, if the platform has them."""
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
