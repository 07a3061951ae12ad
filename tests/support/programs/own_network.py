"""For programs that tests run: a network of their own, whose one link they may cut. For Linux.

The link is the loopback interface of a network namespace. While it is down it is a true black hole: what is
sent is lost and nothing is acknowledged. A connect() hangs too: it does not fail with ENETUNREACH, as one
might fear, since the address stays. When the link is up again, TCP mends what it can. Unix sockets lead
past it.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import sys
from pathlib import Path

__all__ = ["NOT_PERMITTED", "enter", "set_link"]

NOT_PERMITTED = 77
"""Exit status of a program that may not have a network of its own; it says why on standard error."""

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
"""From linux/sched.h."""

_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_IFF_UP = 1
_IFREQ = "16sH14x"
"""From linux/sockios.h, net/if.h and netdevice(7): the interface's name, and its flags."""


def enter() -> None:
    """Move this process, with the link up, or end it if that is not permitted.

    To be called first: a process with threads may not, nor one whose event loop exists already.
    """
    try:
        _unshare()
        set_link(up=True)
    except OSError as error:
        sys.stderr.write(f"no network namespace for this user: {error}\n")
        raise SystemExit(NOT_PERMITTED) from None


def set_link(*, up: bool) -> None:
    """Bring the link up, or take it down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack(_IFREQ, b"lo", 0)
        _, flags = struct.unpack(_IFREQ, fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))
        flags = flags | _IFF_UP if up else flags & ~_IFF_UP
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack(_IFREQ, b"lo", flags))


def _unshare() -> None:
    # os.unshare() came with Python 3.12, and unshare(1) would not let an ordinary user keep the right to
    # change the link without making it root, whom PostgreSQL refuses.
    user, group = os.geteuid(), os.getegid()
    kinds = _CLONE_NEWNET if user == 0 else _CLONE_NEWNET | _CLONE_NEWUSER
    if ctypes.CDLL(None, use_errno=True).unshare(kinds) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    if kinds & _CLONE_NEWUSER:
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")
