"""What a message looks like in the log, and which of those that arrive are new. Pure.

An entry is the sender's id, the message's number and its JSON. A sender that has lost its connection cannot
know whether its last messages were committed, so it sends them again with the same numbers. It sends in
order, and the log keeps the order. So a reader drops each number that is not above the sender's last one.
"""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["Inbox", "wrap"]

DIGITS = 18
"""Of the longest number. Python refuses to read one of more than 4,300."""

SENDERS = 10_000
"""Senders whose last number a reader keeps. A Celery task that makes its own manager is a sender too."""


def wrap(sender: str, number: int, message: str) -> str:
    """Return the payload of an entry."""
    return f"{sender} {number} {message}"


class Inbox:
    """Return each message of other senders than *own* once."""

    def __init__(self, own: str) -> None:
        self._own = own
        self._last: OrderedDict[str, int] = OrderedDict()

    def unwrap(self, payload: str) -> str | None:
        """Return the JSON of a message; ``None`` if it is one's own, or was here before.

        JSON without a sender is what SQL has inserted: its transaction was committed once. What is no message
        at all is returned as it is.
        """
        sender, _, rest = payload.partition(" ")
        number, _, message = rest.partition(" ")
        if sender.lstrip().startswith("{") or not (number.isascii() and number.isdecimal()):
            return payload
        if len(number) > DIGITS:
            return payload
        if sender == self._own:
            return None
        if int(number) <= self._last.get(sender, 0):
            return None
        self._last[sender] = int(number)
        self._last.move_to_end(sender)
        if len(self._last) > SENDERS:
            self._last.popitem(last=False)
        return message
