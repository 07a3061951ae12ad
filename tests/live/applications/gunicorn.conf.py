"""gunicorn's hooks for the application beside this file."""

from __future__ import annotations

from typing import Any


def post_worker_init(worker: Any) -> None:
    import seen

    seen.start()
