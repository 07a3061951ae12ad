"""gunicorn's configuration: a ``gunicorn.conf.py`` with pglisten's hooks and the demo's additions."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

from ... import gunicorn as hooks
from ..._backends import VARIABLE as BACKEND_VARIABLE
from ...gunicorn import worker_exit
from .settings import Settings

__all__ = ["post_fork", "post_worker_init", "pre_fork", "worker_exit"]

_settings = Settings.read(os.environ)

bind = [f"fd://{_settings.listener}"]
worker_class = "gevent"
workers = _settings.workers
graceful_timeout = 10
"""Seconds; event streams end at once, and other requests are short."""
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - its files have no names
control_socket_disable = True
"""The socket would be a file in the user's home directory."""
loglevel = "warning"
proc_name = "pglisten demo"


def pre_fork(server: Any, worker: Any) -> None:
    """Give the next worker the backend that the fewest workers have: after a death, the dead worker's."""
    there = Counter(each.demo_backend for each in server.WORKERS.values())
    worker.demo_backend = min(_settings.backends, key=lambda name: there[name])


def post_fork(server: Any, worker: Any) -> None:
    """Choose the backend by its environment variable, before the application is imported."""
    hooks.post_fork(server, worker)
    os.environ[BACKEND_VARIABLE] = worker.demo_backend


def post_worker_init(worker: Any) -> None:
    """End streams when the worker ends, and the worker when the demo ends."""
    hooks.post_worker_init(worker)
    worker.wsgi.begin(worker.ppid)
