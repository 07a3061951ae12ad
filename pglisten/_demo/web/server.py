"""gunicorn as a child process, which ends with this process however that ends."""

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
"""The child's program: gunicorn's command with this process's import path, without the current folder."""

STOP_TIMEOUT = 0.5
"""Seconds for gunicorn to end before it is killed. Ctrl-C must end the demo within a second, and stopping the
database takes time too."""


class WebServerError(Error):
    """gunicorn has ended unexpectedly, and has written the reason on standard error."""


class WebServer:
    """A running gunicorn, and this process's end of the control socket."""

    def __init__(self, settings: Settings, listener: gevent.socket.socket) -> None:
        """Start gunicorn with *settings*; the descriptors of *listener* and the control socket are added."""
        ours, theirs = gevent.socket.socketpair()
        self._control = ours
        self._requests: deque[Request] = deque()
        self._ended = False
        self._starting = settings.workers
        """Workers that have not reported that they are ready."""
        self._workers = settings.workers
        with theirs:
            descriptors = (listener.fileno(), theirs.fileno())
            settings = settings.at(*descriptors)
            # The arguments in this variable would override the configuration.
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
                # A session of its own: Ctrl-C at the terminal reaches this process only, which then closes
                # gunicorn in order.
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
        """Whether every worker has reported that it is ready."""
        return self._starting == 0

    def request(self) -> Request:
        """Return the next request of a worker; wait for it. Raises `WebServerError` if gunicorn has ended."""
        while not self._requests:
            self._receive()
            if self._ended:
                raise WebServerError(f"the web server has ended (exit status {self._process.wait()})")
        request = self._requests.popleft()
        if request is Request.READY:
            self._starting = max(0, self._starting - 1)
        return request

    def discard(self, *unwanted: Request) -> None:
        """Discard all requests of those kinds that have arrived."""
        self._control.settimeout(0)
        try:
            while not self._ended:
                self._receive()
        except BlockingIOError:
            pass
        finally:
            self._control.settimeout(None)
        self._requests = deque(each for each in self._requests if each not in unwanted)

    def reload(self) -> None:
        """Replace the workers; do nothing while they are being replaced."""
        if self.ready:
            self._starting = self._workers
            self._process.send_signal(signal.SIGHUP)

    def close(self) -> None:
        """End gunicorn; return when all of its processes have ended. Idempotent."""
        if self._process.returncode is None:
            # QUIT is quick: after TERM, workers check only once a second whether to end.
            self._process.send_signal(signal.SIGQUIT)
            gevent.with_timeout(STOP_TIMEOUT, self._wait_ended, timeout_value=None)
            if not self._ended:
                os.killpg(self._process.pid, signal.SIGKILL)
            # The stream ends when every process has ended; after SIGKILL the kernel ends them.
            self._process.wait()
        self._control.close()

    def _wait_ended(self) -> None:
        while not self._ended:
            self._receive()

    def _receive(self) -> None:
        """Wait for requests, or for the end of the last process that has the other end."""
        try:
            data = self._control.recv(4096)
        except ConnectionResetError:
            data = b""
        self._ended = not data
        self._requests += [Request(bytes([byte])) for byte in data]
