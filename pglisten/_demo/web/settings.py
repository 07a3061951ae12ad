"""What the demo tells its web server, in one environment variable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

__all__ = ["VARIABLE", "Settings"]

VARIABLE = "PGLISTEN_DEMO_SETTINGS"
"""Holds the settings, as JSON. Not an argument, which every user of the machine can read: there is a
password in them."""


@dataclass(frozen=True)
class Settings:
    """All that the web server has to know."""

    dsn: str
    server: str
    """What the page calls the database."""
    backends: tuple[str, ...]
    """Names; workers take turns."""
    channels: Mapping[str, str]
    """What the page calls each, and its name."""
    restarts: bool
    """Whether the database can be restarted; else the workers' sessions can be ended."""
    token: str
    """What every POST must have with it: other sites can send one, and cannot read this."""
    any_host: bool
    """Whether to answer by whatever name the server is called, and not just as this machine's loopback."""
    workers: int
    listener: int = -1
    """Descriptor of the socket that takes connections."""
    control: int = -1
    """Descriptor of the workers' end of the control channel; see `pglisten._demo.web.control`."""

    def at(self, listener: int, control: int) -> Settings:
        """Return a copy with the descriptors."""
        return replace(self, listener=listener, control=control)

    def variable(self) -> dict[str, str]:
        """Return the environment variable, to add to others."""
        return {VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Settings:
        """Return those of a process that was started with the variable."""
        values = json.loads(environ[VARIABLE])
        return cls(**values | {"backends": tuple(values["backends"])})
