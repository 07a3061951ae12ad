"""``python -m pglisten`` is ``pglisten``."""

from __future__ import annotations

import signal
import sys

__all__ = ["run"]


def run() -> int:
    """Run the command of this process and return its exit status.

    Before the command and after it, Ctrl-C ends the process by the signal itself, without a traceback.
    """
    _let_it_end()
    from ._cli.main import main  # noqa: PLC0415 - all that takes time to import

    try:
        return main()
    finally:
        _let_it_end()


def _let_it_end() -> None:
    # Not if it is ignored, as nohup has it.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(run())
