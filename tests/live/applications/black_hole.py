"""A listener whose network becomes a black hole, for a time: prints what it saw. See test_packet_loss.py."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import gevent

import pglisten
from pglisten import Listener, ListenerConnection, ListenerEvent
from pglisten.testing.postgres.server import PrivatePostgres
from support.programs.own_network import set_link

kinds, backend, occupation, settings, outage = sys.argv[1:]
options: dict[str, Any] = json.loads(settings)
keywords = options.pop("dsn", {})
events: list[str] = []
lost = gevent.event.Event()
facts: dict[str, Any] = {}


def note(event: ListenerEvent, error: Exception | None) -> None:
    events.append(event.name)
    if event is ListenerEvent.DISCONNECTED and not lost.is_set():
        facts.update(seconds=time.monotonic() - began, error=str(error))
        lost.set()


with PrivatePostgres(prefer=kinds.split(",")) as postgres:  # type: ignore[arg-type]
    # Over the Unix socket, which no black hole swallows.
    beside = ListenerConnection(postgres.dsn(host=postgres.socket_directory), backend=backend)
    listener = Listener(
        postgres.dsn(**keywords),
        backend=backend,
        event_callback=note,
        min_reconnect_interval=0.1,
        max_reconnect_interval=0.1,
        connect_timeout=5.0,
        **options,
    )
    with beside, listener:
        listener.listen("x", timeout=20)
        began = time.monotonic()
        set_link(up=False)
        if occupation == "query":
            querying = gevent.spawn(listener.notify, "x", "never sent")
        if outage == "until lost":
            assert lost.wait(40), "the loss was never found"
        else:
            for number in range(100):
                beside.notify("x", str(number), timeout=20)
            gevent.sleep(float(outage))
        facts["received while it was down"] = listener.stats().received
        set_link(up=True)
        if outage == "until lost":
            with gevent.Timeout(30):
                facts["first"] = listener.get()
        beside.notify("x", "last", timeout=20)
        items = iter(listener)
        facts["items"] = payloads = []
        while "last" not in payloads:
            with gevent.Timeout(30):
                item = next(items)
            payloads.append(None if item is None else item.payload)
        facts["events"] = events.copy()
        facts["reconnects"] = listener.stats().reconnects
        if occupation == "query":
            try:
                querying.get(timeout=20)
            except pglisten.ConnectionLost:
                facts["query"] = "lost"
    print(json.dumps(facts))
