"""What a server once said, and the ways to spoil it: material for tests against hostile bytes.

``PGLISTEN_TEST_FUZZ_SECONDS`` makes each fuzz test run that long, with new seeds every time; without it
the seeds are the same few. A failure names its seed, and ``PGLISTEN_TEST_FUZZ_SEED`` repeats it alone.
"""

from __future__ import annotations

import base64
import os
import random
import struct
import time
from collections.abc import Iterator

ROUNDS = 200
"""Seeds without the variables: a second or so."""

# PostgreSQL 15.18, as user postgres with a password in clear.
_STARTUP = (
    "UgAAAAgAAAADUgAAAAgAAAAAUwAAABZhcHBsaWNhdGlvbl9uYW1lAABTAAAAGWNsaWVudF9lbmNvZGluZwBVVEY4AFMAAAAXRGF0"
    "ZVN0eWxlAElTTywgTURZAFMAAAAmZGVmYXVsdF90cmFuc2FjdGlvbl9yZWFkX29ubHkAb2ZmAFMAAAAXaW5faG90X3N0YW5kYnkA"
    "b2ZmAFMAAAAZaW50ZWdlcl9kYXRldGltZXMAb24AUwAAABtJbnRlcnZhbFN0eWxlAHBvc3RncmVzAFMAAAAUaXNfc3VwZXJ1c2Vy"
    "AG9uAFMAAAAZc2VydmVyX2VuY29kaW5nAFVURjgAUwAAADJzZXJ2ZXJfdmVyc2lvbgAxNS4xOCAoRGViaWFuIDE1LjE4LTArZGVi"
    "MTJ1MSkAUwAAACNzZXNzaW9uX2F1dGhvcml6YXRpb24AcG9zdGdyZXMAUwAAACNzdGFuZGFyZF9jb25mb3JtaW5nX3N0cmluZ3MA"
    "b24AUwAAABVUaW1lWm9uZQBFdGMvVVRDAEsAAAAMAAAmKw1CatBaAAAABUk="
)

# LISTEN; NOTIFY, SELECT with a NULL, SET; an error; DO with a notice, VALUES; pg_terminate_backend.
_REPLIES = (
    "QwAAAAtMSVNURU4AQwAAAAtMSVNURU4AWgAAAAVJQwAAAAtOT1RJRlkAQwAAAAtOT1RJRlkAVAAAAFcAAz9jb2x1bW4/AAAAAAAA"
    "AAAAABcABP////8AAD9jb2x1bW4/AAAAAAAAAAAAABn///////8AAD9jb2x1bW4/AAAAAAAAAAAAABn///////8AAEQAAAAXAAMA"
    "AAABMf////8AAAAEdGV4dEMAAAANU0VMRUNUIDEAQwAAAAhTRVQAQQAAAAwAACYrYQB4AEEAAAAUAAAmK8O8AGdyw7bDn2VyAFMA"
    "AAARVGltZVpvbmUAVVRDAFoAAAAFSUUAAABBU0VSUk9SAFZFUlJPUgBDMjIwMTIATWRpdmlzaW9uIGJ5IHplcm8ARmludC5jAEw4"
    "NjkAUmludDRkaXYAAFoAAAAFSU4AAAB3U05PVElDRQBWTk9USUNFAEMwMDAwMABNaG0AV1BML3BnU1FMIGZ1bmN0aW9uIGlubGlu"
    "ZV9jb2RlX2Jsb2NrIGxpbmUgMSBhdCBSQUlTRQBGcGxfZXhlYy5jAEwzODkxAFJleGVjX3N0bXRfcmFpc2UAAEMAAAAHRE8AVAAA"
    "ADoAAmNvbHVtbjEAAAAAAAAAAAAAGf///////wAAY29sdW1uMgAAAAAAAAAAAAAZ////////AABEAAAADwACAAAAAWH/////RAAA"
    "ABEAAgAAAAFiAAAAAsOpQwAAAA1TRUxFQ1QgMgBaAAAABUlUAAAALQABcGdfdGVybWluYXRlX2JhY2tlbmQAAAAAAAAAAAAAEAAB"
    "/////wAARAAAAAsAAQAAAAF0RQAAAHRTRkFUQUwAVkZBVEFMAEM1N1AwMQBNdGVybWluYXRpbmcgY29ubmVjdGlvbiBkdWUgdG8g"
    "YWRtaW5pc3RyYXRvciBjb21tYW5kAEZwb3N0Z3Jlcy5jAEwzMjExAFJQcm9jZXNzSW50ZXJydXB0cwAA"
)

_LENGTHS = (0, 1, 3, 4, 5, 6, 8, 9, 1024, 2**20, 2**24, 2**30, 2**31 - 1, 2**31, 2**31 + 4, 2**32 - 1)


def messages(stream: bytes) -> list[bytes]:
    """Take a valid stream apart."""
    found = []
    while stream:
        size = 1 + int.from_bytes(stream[1:5], "big")
        found.append(stream[:size])
        stream = stream[size:]
    return found


STARTUP = messages(base64.b64decode(_STARTUP))

REPLIES: list[list[bytes]] = [[]]
"""Of each query the messages up to ReadyForQuery, or to the end of the session."""
for _message in messages(base64.b64decode(_REPLIES)):
    REPLIES[-1].append(_message)
    if _message[:1] == b"Z":
        REPLIES.append([])


def seeds() -> Iterator[tuple[str, random.Random]]:
    """Give sources of randomness with their seeds, until there was enough of it."""
    if seed := os.environ.get("PGLISTEN_TEST_FUZZ_SEED"):
        yield seed, random.Random(seed)
        return
    seconds = float(os.environ.get("PGLISTEN_TEST_FUZZ_SECONDS", "0"))
    if not seconds:
        yield from ((f"fixed-{number}", random.Random(f"fixed-{number}")) for number in range(ROUNDS))
        return
    end, base, number = time.monotonic() + seconds, random.randrange(2**32), 0
    while time.monotonic() < end:
        number += 1
        yield f"{base:x}-{number}", random.Random(f"{base:x}-{number}")
    print(f"{number} seeds, {base:x}-1 to {base:x}-{number}")


def spoilt(rng: random.Random, valid: list[bytes]) -> bytes:
    """Return the stream of *valid* with one to four things wrong."""
    parts = list(valid)
    for _ in range(rng.randint(1, 4)):
        if not parts:
            break
        at = rng.randrange(len(parts))
        rng.choice(_MESSAGE_DAMAGES)(rng, parts, at)
    stream = b"".join(parts)
    return stream[: rng.randrange(len(stream) + 1)] if rng.random() < 0.2 else stream


def pieces(rng: random.Random, stream: bytes) -> list[bytes]:
    """Cut *stream* somewhere."""
    cuts = sorted(rng.randrange(len(stream) + 1) for _ in range(rng.choice([0, 1, 3, 20])))
    return [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


def _bend_length(rng: random.Random, parts: list[bytes], at: int) -> None:
    part = parts[at]
    near = [len(part) - 2, len(part), len(part) + 7]
    parts[at] = part[:1] + struct.pack("!I", rng.choice([*_LENGTHS, *near]) % 2**32) + part[5:]


def _bend_inner_length(rng: random.Random, parts: list[bytes], at: int) -> None:
    part = parts[at]
    place = rng.randrange(5, max(6, len(part) - 3))
    parts[at] = part[:place] + struct.pack("!I", rng.choice(_LENGTHS)) + part[place + 4 :]


def _bend_count(rng: random.Random, parts: list[bytes], at: int) -> None:
    parts[at] = parts[at][:5] + struct.pack("!H", rng.choice([0, 1, 2, 255, 32767, 65535])) + parts[at][7:]


def _change_type(rng: random.Random, parts: list[bytes], at: int) -> None:
    parts[at] = bytes([rng.choice([*b"RSKZTDCEAINGHWv123nst", rng.randrange(256)])]) + parts[at][1:]


def _change_byte(rng: random.Random, parts: list[bytes], at: int) -> None:
    place = rng.randrange(len(parts[at]) or 1)
    parts[at] = (
        parts[at][:place] + bytes([rng.choice([0, 255, 0xC3, rng.randrange(256)])]) + parts[at][place + 1 :]
    )


def _insert(rng: random.Random, parts: list[bytes], at: int) -> None:
    part = parts[at]
    place = rng.randrange(len(part) + 1)
    parts[at] = part[:place] + rng.randbytes(rng.choice([1, 2, 30])) + part[place:]


def _remove(rng: random.Random, parts: list[bytes], at: int) -> None:
    place = rng.randrange(len(parts[at]) + 1)
    parts[at] = parts[at][:place] + parts[at][place + rng.choice([1, 2, 4]) :]


def _without_nul(rng: random.Random, parts: list[bytes], at: int) -> None:
    del rng
    parts[at] = parts[at][:5] + parts[at][5:].replace(b"\0", b"x")


def _swap(rng: random.Random, parts: list[bytes], at: int) -> None:
    other = rng.randrange(len(parts))
    parts[at], parts[other] = parts[other], parts[at]


def _drop(rng: random.Random, parts: list[bytes], at: int) -> None:
    del rng, parts[at]


def _repeat(rng: random.Random, parts: list[bytes], at: int) -> None:
    parts[at:at] = [parts[at]] * rng.choice([1, 2, 50])


def _borrow(rng: random.Random, parts: list[bytes], at: int) -> None:
    parts[at:at] = rng.choice([STARTUP, *REPLIES])


_MESSAGE_DAMAGES = (
    _bend_length,
    _bend_inner_length,
    _bend_count,
    _change_type,
    _change_byte,
    _insert,
    _remove,
    _without_nul,
    _swap,
    _drop,
    _repeat,
    _borrow,
)
