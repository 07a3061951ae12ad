"""``python -m pglisten`` is ``pglisten``."""

from __future__ import annotations

import signal
import sys

__all__ = ["run"]


def run() -> int:
    """Run the command of this process and return its exit status.

    Before and after the command, Ctrl-C ends the process by the signal itself, without a traceback.
    """
    _end_by_sigint()
    from ._cli.main import main  # noqa: PLC0415 - importing it takes time

    try:
        return main()
    finally:
        _end_by_sigint()


def _end_by_sigint() -> None:
    # Unless SIGINT is ignored, as nohup does.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(run())
