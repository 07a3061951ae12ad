"""The listener's states and the transitions between them. Pure.

::

    state        trigger      next
    -----------  -----------  -----------
    DIALLING     DIALLED      LISTENING
    DIALLING     FAILED       BACKING_OFF
    LISTENING    CAUGHT_UP    CONNECTED
    LISTENING    PASSED_OVER  DIALLING
    LISTENING    FAILED       BACKING_OFF
    BACKING_OFF  RESTED       DIALLING
    CONNECTED    LOST         RESTING
    RESTING      RESTED       DIALLING
    (any)        CLOSE        CLOSED

DIALLING resolves host names and opens a session. LISTENING has a session and sends the LISTENs. If a standby
refuses them, it is PASSED_OVER: DIALLING continues with the next host, and fails if there is none. CONNECTED
has every channel acknowledged. BACKING_OFF sleeps after a failed attempt. RESTING sleeps after a loss, so
that connections that are lost at once are not retried in a tight loop. CLOSED is final.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType


class State(enum.Enum):
    """The state of a listener; ``repr`` shows the value."""

    DIALLING = "dialling"
    LISTENING = "listening"
    CONNECTED = "connected"
    RESTING = "resting"
    BACKING_OFF = "backing off"
    CLOSED = "closed"


class Trigger(enum.Enum):
    """The cause of a transition."""

    DIALLED = enum.auto()
    FAILED = enum.auto()
    CAUGHT_UP = enum.auto()
    PASSED_OVER = enum.auto()
    LOST = enum.auto()
    RESTED = enum.auto()
    CLOSE = enum.auto()


TRANSITIONS: Mapping[tuple[State, Trigger], State] = MappingProxyType(
    {
        (State.DIALLING, Trigger.DIALLED): State.LISTENING,
        (State.DIALLING, Trigger.FAILED): State.BACKING_OFF,
        (State.LISTENING, Trigger.CAUGHT_UP): State.CONNECTED,
        (State.LISTENING, Trigger.PASSED_OVER): State.DIALLING,
        (State.LISTENING, Trigger.FAILED): State.BACKING_OFF,
        (State.BACKING_OFF, Trigger.RESTED): State.DIALLING,
        (State.CONNECTED, Trigger.LOST): State.RESTING,
        (State.RESTING, Trigger.RESTED): State.DIALLING,
        **{(state, Trigger.CLOSE): State.CLOSED for state in State},
    }
)
"""The table above. Closing twice is allowed; no transition leaves CLOSED."""
