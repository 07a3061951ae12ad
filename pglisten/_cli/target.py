"""The connection string and the backend that a command's arguments name."""

from __future__ import annotations

import argparse
import os

from .._connection.target import Target
from .arguments import DSN_VARIABLE

__all__ = ["dsn", "target"]


def dsn(arguments: argparse.Namespace) -> str:
    dsn: str | None = arguments.dsn
    return os.environ.get(DSN_VARIABLE, "") if dsn is None else dsn


def target(arguments: argparse.Namespace) -> Target:
    return Target(dsn(arguments), arguments.backend, None)
