"""close() in a plain signal handler, by real signals: in the event loop, in greenlets, in pglisten's code."""

from __future__ import annotations

import pytest

from support.fixtures.listeners import succeeds
from support.servers.server import Server

BEGINNING = """
import sys
how, backend, dsn, rounds = sys.argv[1:]
if how == "patched":
    from gevent import monkey
    monkey.patch_all()
import os, random, signal, time
import gevent, pglisten

signal.alarm(45)
made, called, waiting = [], [], []

def handle(signo, _):
    called.append(type(gevent.getcurrent()).__name__)
    for each in list(made):
        each.close()
        each.close()
    if len(made) < 3 and signo == signal.SIGVTALRM:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.003)  # Too early for one of them.

signal.signal(signal.SIGUSR1, handle)
signal.signal(signal.SIGVTALRM, handle)

def make():
    made.append(pglisten.Listener(dsn, backend=backend, min_reconnect_interval=0.001))
    made.append(pglisten.Broadcaster(dsn, backend=backend, min_reconnect_interval=0.001))
    made[0].listen("signals")
    subscription = made[1].subscribe("signals")
    made.append(pglisten.ListenerConnection(dsn, backend=backend))
    made[2].listen("signals")
    return made[0], made[2], subscription

def ended(call):
    try:
        while True:
            call()
    except pglisten.Error:
        pass

def end():
    with gevent.Timeout(20):
        while not all(each.closed for each in made):
            gevent.sleep(0.001)
        gevent.joinall(waiting, raise_error=True)
        for each in made:
            each.close()
"""
END = """
print("well")
"""

IDLE = """
waiting = [gevent.spawn(list, each) for each in make()]
gevent.spawn_later(0.05, os.kill, os.getpid(), signal.SIGUSR1)
end()
assert len(called) == 1, called
"""
"""The signal comes while the event loop waits."""

BUSY = """
waiting = [gevent.spawn(list, each) for each in make()]
gevent.sleep(0.01)

def compute():
    os.kill(os.getpid(), signal.SIGUSR1)
    # Outside of the event loop, and of pglisten, close() has waited.
    assert called == ["Greenlet"] and all(each.closed for each in made)
    assert made[0].stats().server_pid is None

waiting.append(gevent.spawn(compute))
end()
"""
"""The signal comes in a greenlet of the application's."""

ANYWHERE = """
seed = random.SystemRandom().randrange(10**9)
print("seed", seed, file=sys.stderr)  # Shown if it fails.
rng = random.Random(seed)
for number in range(int(rounds)):
    made.clear(), waiting.clear()
    # By the process's own time: the signals come where it has something to do.
    signal.setitimer(signal.ITIMER_VIRTUAL, rng.uniform(0.001, 0.03))
    try:
        listener, connection, subscription = make()
    except pglisten.ListenerClosed:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        for each in made:
            each.close()
        continue
    waiting = [gevent.spawn(list, each) for each in (listener, connection, subscription)]
    for each in made:
        waiting.append(gevent.spawn(ended, lambda each=each: each.notify("signals", "x")))
        waiting.append(gevent.spawn(ended, each.ping))
    waiting.append(gevent.spawn(ended, lambda: (listener.listen("x"), listener.unlisten("x"))))
    # This may never wait, and the others must have their turn.
    waiting.append(
        gevent.spawn(ended, lambda: (subscription.listen("y"), subscription.unlisten("y"), gevent.sleep(0)))
    )
    end()
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
assert len(set(called)) > 1, called  # In the event loop and in greenlets.
"""
"""The signals come wherever the process happens to be."""


@pytest.mark.parametrize("how", ["plain", "patched"])
@pytest.mark.parametrize("where", [IDLE, BUSY], ids=["in the event loop", "in a greenlet"])
def test_close_in_a_handler_ends_everything(server: Server, backend_name: str, where: str, how: str) -> None:
    succeeds(BEGINNING + where + END, how, backend_name, server.dsn(), "1")


@pytest.mark.sweep
@pytest.mark.parametrize("how", ["plain", "patched"])
def test_close_in_a_handler_ends_everything_wherever_it_comes(
    server: Server, backend_name: str, how: str
) -> None:
    succeeds(BEGINNING + ANYWHERE + END, how, backend_name, server.dsn(), "40")
