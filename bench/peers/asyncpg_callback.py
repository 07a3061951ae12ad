"""asyncpg: `Connection.add_listener`, on asyncio's own loop."""

from __future__ import annotations

import argparse
import asyncio

import asyncpg

from bench.peers.script import CHANNEL, Burst, arrived, main, say


async def take_burst(uri: str, count: int) -> None:
    done = asyncio.Event()
    watch, consumed = Burst(), 0

    def take(connection: object, pid: int, channel: str, payload: str) -> None:
        nonlocal consumed, watch
        if not consumed:
            watch = Burst()
        consumed += 1
        if consumed == count:
            watch.done(consumed, payload)
            done.set()

    connection = await asyncpg.connect(uri)
    await connection.add_listener(CHANNEL, take)
    say(ready=True)
    await done.wait()


async def take_single(uri: str, count: int) -> None:
    done = asyncio.Event()
    consumed = 0

    def take(connection: object, pid: int, channel: str, payload: str) -> None:
        nonlocal consumed
        arrived(payload)
        consumed += 1
        if consumed == count:
            done.set()

    connection = await asyncpg.connect(uri)
    await connection.add_listener(CHANNEL, take)
    say(ready=True)
    await done.wait()


def burst(options: argparse.Namespace) -> None:
    asyncio.run(take_burst(options.uri, options.count))


def latency(options: argparse.Namespace) -> None:
    asyncio.run(take_single(options.uri, options.count))


if __name__ == "__main__":
    main(burst=burst, latency=latency)
