"""gunicorn's settings for the examples in this folder, with the hooks that pglisten needs.

    gunicorn -c examples/gunicorn.conf.py --chdir examples flask_stream:app

Without the hooks a worker that stops waits for its open streams until ``graceful_timeout``.
"""

from pglisten.gunicorn import post_fork, post_worker_init, worker_exit

__all__ = ["post_fork", "post_worker_init", "worker_exit"]

worker_class = "gevent"
workers = 2
