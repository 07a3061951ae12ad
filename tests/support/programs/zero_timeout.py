"""A program of calls that are given no time: each lets others run once, and a loop of them gets somewhere."""

from __future__ import annotations

NO_TIME = """
import sys
how, backend, dsn = sys.argv[1:]
if how == "patched":
    from gevent import monkey
    monkey.patch_all()
import os, signal
import gevent, pglisten
from pglisten.testing import FakeBackend, FakeServer, Proxy

signal.alarm(45)  # A loop that lets nothing run would go on without end.
memory = backend == "memory"
if memory:
    server = FakeServer()
    backend = FakeBackend(server)
NO_TIME = 0, 0.0, 1e-9, -1.0

class Turn:
    '''What is ready for the event loop's next turn; `had` tells who had it.'''
    def __enter__(self):
        loop, self.had = gevent.get_hub().loop, set()
        self.ends = os.pipe()
        os.write(self.ends[1], b"!")
        self.greenlet = gevent.spawn(self.had.add, "a greenlet")
        self.watchers = loop.timer(0.0), loop.io(self.ends[0], 1)
        for watcher, what in zip(self.watchers, ("a timer", "a descriptor")):
            watcher.start(self.had.add, what)
        return self
    def __exit__(self, *_):
        for watcher in self.watchers:
            watcher.close()
        self.greenlet.kill()
        for end in self.ends:
            os.close(end)
    everything = {"a greenlet", "a timer", "a descriptor"}

def lets_others_run(call, *expected):
    with Turn() as turn:
        try:
            call()
        except expected:
            assert turn.had == turn.everything, turn.had

def until_it_succeeds(call, *expected):
    while True:
        try:
            return call()
        except expected:
            pass

def at_once(call):
    with Turn() as turn:
        call()
    assert turn.had == set(), turn.had

Late, NotConnected = pglisten.OperationTimeout, pglisten.NotConnected
options = dict(backend=backend, min_reconnect_interval=0.001)
sender = pglisten.ListenerConnection(dsn, backend=backend)

def connected(made):
    until_it_succeeds(lambda: made.wait_connected(timeout=0), Late)
    return made
"""
"""What it begins with; its arguments are ``plain`` or ``patched``, a backend or ``memory``, and a DSN."""

CALLS = {
    "listener": """
for none in NO_TIME:
    with pglisten.Listener(dsn, **options) as listener:
        for call in (
            lambda: listener.wait_connected(none), lambda: listener.ping(none), lambda: listener.get(none),
            lambda: listener.notify("a", "", none),
        ):
            lets_others_run(call, Late, NotConnected)
        connected(listener)
        for call in (
            lambda: listener.get(none), lambda: listener.listen("a", none),
            lambda: listener.unlisten_all(none),
            # The last may lose the connection: no answer in time is a loss, if there was any time.
            lambda: listener.notify("b", "", none), lambda: listener.ping(none),
        ):
            lets_others_run(call, Late, pglisten.ConnectionLost)
        connected(listener)
        until_it_succeeds(lambda: listener.listen("c", none), Late)
        lets_others_run(lambda: listener.unlisten("c", none), Late)
        lets_others_run(lambda: listener.close(none))
""",
    "connection": """
for none in NO_TIME:
    with pglisten.ListenerConnection(dsn, backend=backend) as made:
        for call in (
            lambda: made.get(none), lambda: made.listen("a", none), lambda: made.notify("b", "", none),
            lambda: made.execute("select 1", none), lambda: made.unlisten_all(none), lambda: made.ping(none),
        ):
            lets_others_run(call, Late)
        if none != 1e-9:  # No answer in time counts as a loss, if there was a time.
            until_it_succeeds(lambda: made.listen("c", none), Late)
            lets_others_run(lambda: made.unlisten("c", none), Late)
        lets_others_run(lambda: made.close(none))
""",
    "broadcaster": """
for none in NO_TIME:
    with pglisten.Broadcaster(dsn, **options) as made:
        for call in (
            lambda: made.wait_connected(none), lambda: made.ping(none), lambda: made.notify("a", "", none),
            lambda: made.subscribe("a", timeout=none),
        ):
            lets_others_run(call, Late, NotConnected)
        subscription = until_it_succeeds(lambda: made.subscribe("b", timeout=none), Late)
        for call in (lambda: subscription.get(none), lambda: subscription.listen("d", none)):
            lets_others_run(call, Late)
        lets_others_run(lambda: made.close(none))
""",
    "loops": """
with (
    pglisten.Listener(dsn, **options) as listener,
    pglisten.ListenerConnection(dsn, backend=backend) as made,
    pglisten.Broadcaster(dsn, **options) as broadcaster,
):
    listener.listen("a"), made.listen("a")
    for consumer in (listener, made, broadcaster.subscribe("a")):
        for number, none in enumerate(NO_TIME):
            sending = gevent.spawn(sender.notify, "a", str(number))
            assert until_it_succeeds(lambda: consumer.get(timeout=none), Late).payload == str(number)
            sending.get()
""",
    "queued": """
with pglisten.Listener(dsn, **options) as listener, pglisten.Broadcaster(dsn, **options) as broadcaster:
    listener.listen("a")
    for made, consumer in ((listener, listener), (broadcaster, broadcaster.subscribe("b"))):
        for none in NO_TIME:
            for _ in range(3):
                made.notify(*made.channels, "x")
            made.ping()
            for _ in range(3):
                at_once(lambda: consumer.get(timeout=none))
            lets_others_run(lambda: consumer.get(timeout=none), Late)
""",
}
"""The calls that it makes, by their subject."""

END = """
sender.close()
print("well")
"""
