"""Notifications from the application's own transactions.

`Broadcaster.notify` and `Listener.notify` send over the listener's session, at once. `notify_over` sends in
the transaction of any cursor: receivers get the notification when that has committed.
"""

from __future__ import annotations

from ._eventlog.cursors import runner
from ._sql import check_channel, check_payload

__all__ = ["notify_over"]


def notify_over(cursor: object, channel: str, payload: str = "") -> None:
    """Send a notification in the transaction of *cursor*. Receivers get it when that has committed.

    *cursor* is a cursor of psycopg2, psycopg or pg8000, a connection of ``pg8000.native``, a connection or
    session of SQLAlchemy, or a cursor of Django. Channel and payload travel as parameters. In autocommit mode
    the notification is sent at once. PostgreSQL sends equal notifications of a transaction once.

    Raises `InvalidChannelName`, `PayloadTooLong` over 7999 bytes of UTF-8, and ``ValueError`` if the payload
    holds a NUL, before anything is sent: the transaction can go on. Raises ``TypeError`` if *cursor* cannot
    run a statement or is asynchronous, and the errors of the driver.
    """
    check_channel(channel)
    check_payload(payload)
    runner(cursor)("SELECT pg_catalog.pg_notify(%s, %s)", (channel, payload))
