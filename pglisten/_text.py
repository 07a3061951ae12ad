"""Text from outside, made safe to show: on one line, and without control characters. Pure."""

from __future__ import annotations

__all__ = ["one_line", "printable", "visible"]


def printable(text: str) -> str:
    """Return *text* on one line, with an escape for every character that cannot be printed."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def visible(text: str) -> str:
    """Return *text* as `printable` does, with every backslash doubled, so that no two texts look the same.

    Any user of the database can send any payload. Shown, a payload must neither look like two lines nor
    control the terminal.
    """
    return printable(text.replace("\\", "\\\\"))


def one_line(message: object) -> str:
    """Return *message*, perhaps a server's, on one line: blanks merged, control characters escaped."""
    return printable(" ".join(str(message).split()))
