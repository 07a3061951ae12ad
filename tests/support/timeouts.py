"""How long a test waits for what must happen. Only a test that fails waits so long."""

from __future__ import annotations

TIMEOUT = 20.0
"""Seconds for what takes milliseconds."""

RECOVERY_TIMEOUT = 60.0
"""Seconds from the last fault until everything works again, which takes less than two."""
