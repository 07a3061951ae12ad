"""gunicorn's settings for the examples beside this file: its hooks are what pglisten needs.

    gunicorn -c examples/gunicorn.conf.py --chdir examples flask_stream:app

Without the hooks a worker that is asked to stop waits for its open streams until ``graceful_timeout``.
"""

from pglisten.gunicorn import post_fork, post_worker_init, worker_exit

__all__ = ["post_fork", "post_worker_init", "worker_exit"]

worker_class = "gevent"
workers = 2
