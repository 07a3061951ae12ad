"""The listener's states and what leads from one to the next. Pure.

::

    state        happening    next
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

DIALLING resolves host names and opens a session; LISTENING has one and sends the LISTENs. When a standby
refuses these it is PASSED_OVER: DIALLING goes on with the next host, and fails if there is none. CONNECTED
has every channel acknowledged. BACKING_OFF sleeps after a failed attempt, RESTING after a loss, so that a
connection that never lives long is not retried in a tight loop. CLOSED is final.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType


class State(enum.Enum):
    """Where a listener is; the value is what ``repr`` shows."""

    DIALLING = "dialling"
    LISTENING = "listening"
    CONNECTED = "connected"
    RESTING = "resting"
    BACKING_OFF = "backing off"
    CLOSED = "closed"


class Trigger(enum.Enum):
    """What moves a listener from one state to the next."""

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
"""The table above. Closing twice is allowed, and nothing leads out of CLOSED."""
