"""gunicorn, as a child of this process that ends with it, whatever ends it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import deque
from types import TracebackType

import gevent
import gevent.socket

from ...errors import Error
from .control import Request
from .settings import Settings

__all__ = ["WebServer", "WebServerError"]

BOOTSTRAP = """\
import json, sys
sys.path[:] = json.loads(sys.argv.pop(1))
from gunicorn.app.wsgiapp import run
run()
"""
"""What its interpreter runs: gunicorn's command, with the modules that this process would import and not what
happens to be in the current folder."""

STOP_TIMEOUT = 0.5
"""Seconds for it to end by itself, before it is killed: Ctrl-C ends the demo within a second, and ending the
database takes time as well."""


class WebServerError(Error):
    """It has ended and should not have; why, it has written on standard error."""


class WebServer:
    """A running gunicorn, and this process's end of the control channel."""

    def __init__(self, settings: Settings, listener: gevent.socket.socket) -> None:
        """Start it; *listener*'s place in the settings, and the control channel's, are filled in here."""
        ours, theirs = gevent.socket.socketpair()
        self._control = ours
        self._requests: deque[Request] = deque()
        self._ended = False
        self._starting = settings.workers
        """Workers that have not said that they are ready."""
        self._workers = settings.workers
        with theirs:
            descriptors = (listener.fileno(), theirs.fileno())
            settings = settings.at(*descriptors)
            # Its own variable for arguments would go over the configuration.
            environment = {**os.environ, **settings.variable()}
            environment.pop("GUNICORN_CMD_ARGS", None)
            self._process = subprocess.Popen(  # noqa: S603 - this very interpreter
                [
                    *(sys.executable, "-c", BOOTSTRAP, json.dumps(sys.path)),
                    *("--config", "python:pglisten._demo.web.configuration"),
                    "pglisten._demo.web.application:make()",
                ],
                env=environment,
                pass_fds=descriptors,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                # A session of its own: Ctrl-C at the terminal reaches this process alone, and the end of that
                # one is an orderly one.
                start_new_session=True,
            )

    def __enter__(self) -> WebServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def ready(self) -> bool:
        """Whether every worker has said that it is."""
        return self._starting == 0

    def request(self) -> Request:
        """Wait for the next request of a worker; `WebServerError` once gunicorn has ended."""
        while not self._requests:
            self._receive()
            if self._ended:
                raise WebServerError(f"the web server has ended (exit status {self._process.wait()})")
        request = self._requests.popleft()
        if request is Request.READY:
            self._starting = max(0, self._starting - 1)
        return request

    def discard(self, request: Request) -> None:
        """Drop all of that kind that have come by now."""
        self._control.settimeout(0)
        try:
            while not self._ended:
                self._receive()
        except BlockingIOError:
            pass
        finally:
            self._control.settimeout(None)
        self._requests = deque(each for each in self._requests if each is not request)

    def reload(self) -> None:
        """Have the workers replaced; nothing while that is still going on."""
        if self.ready:
            self._starting = self._workers
            self._process.send_signal(signal.SIGHUP)

    def close(self) -> None:
        """End it; return when none of its processes is left. Idempotent."""
        if self._process.returncode is None:
            # Quick: after TERM its workers would look once a second whether they are to end.
            self._process.send_signal(signal.SIGQUIT)
            gevent.with_timeout(STOP_TIMEOUT, self._wait_ended, timeout_value=None)
            if not self._ended:
                os.killpg(self._process.pid, signal.SIGKILL)
            # The end of the stream was the end of every process; or it is the kernel's business now.
            self._process.wait()
        self._control.close()

    def _wait_ended(self) -> None:
        while not self._ended:
            self._receive()

    def _receive(self) -> None:
        """Wait for something, or for the end of the last process that holds the other end."""
        try:
            data = self._control.recv(4096)
        except ConnectionResetError:
            data = b""
        self._ended = not data
        self._requests += [Request(bytes([byte])) for byte in data]
