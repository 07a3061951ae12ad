"""gunicorn's hooks for the application beside this file."""

from __future__ import annotations

import os
from typing import Any

from pglisten.gunicorn import green, post_fork, post_worker_init, worker_exit

__all__ = ["post_fork", "post_worker_init", "worker_exit"]

if "STREAMS_GREEN" in os.environ:
    post_fork = green(post_fork)
if "STREAMS_WITHOUT_HOOKS" in os.environ:
    del post_fork, post_worker_init, worker_exit
if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
    from pglisten.metrics import child_exit

    __all__ += ["child_exit"]
if "STREAMS_WITHOUT_NOTIFY" in os.environ:
    init = post_worker_init

    def post_worker_init(worker: Any) -> None:
        """Leave the signal alone to tell."""
        notify = worker.notify
        init(worker)
        worker.notify = notify
