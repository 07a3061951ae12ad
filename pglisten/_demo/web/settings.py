"""The settings of the demo's web server, passed in one environment variable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from ..common import Names

__all__ = ["VARIABLE", "Settings"]

VARIABLE = "PGLISTEN_DEMO_SETTINGS"
"""Holds the settings as JSON. They contain a password: every user of the machine can read a program's
arguments, but not its environment."""


@dataclass(frozen=True)
class Settings:
    """The settings that the web server needs."""

    dsn: str
    """For the workers."""
    sender: str
    """For what the page sends: it works during an outage."""
    door: bool
    """Whether the workers keep themselves away during an outage: the line to the server is not the demo's."""
    server: str
    """The page's name of the database."""
    backends: tuple[str, ...]
    """Names of the backends, distributed over the workers."""
    names: Names
    restarts: bool
    """Whether the database can be restarted."""
    run: str
    """Another one for each demo: positions of another demo's log mean nothing in this one's."""
    token: str
    """The token that every POST must have: another site can send a POST, but cannot read the token."""
    any_host: bool
    """Whether to answer requests with any Host, and not only with this machine's loopback names."""
    workers: int
    listener: int = -1
    """Descriptor of the socket that accepts connections."""
    control: int = -1
    """Descriptor of the workers' end of the control socket; see `pglisten._demo.web.control`."""

    def at(self, listener: int, control: int) -> Settings:
        """Return a copy with the descriptors."""
        return replace(self, listener=listener, control=control)

    def variable(self) -> dict[str, str]:
        """Return the environment variable and its value."""
        return {VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Settings:
        """Return the settings in the environment of a process."""
        values = json.loads(environ[VARIABLE])
        return cls(**values | {"backends": tuple(values["backends"]), "names": Names(**values["names"])})
