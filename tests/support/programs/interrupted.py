"""A signal that comes in the middle of pglisten's own code, at each of its bytecodes in turn."""

from __future__ import annotations

INTERRUPTED = '''
import os, signal, sys
how, scenario, stride, start = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
if how == "patched":
    from gevent import monkey
    monkey.patch_all()
import gevent, pglisten
from pglisten.testing import FakeBackend, FakeServer

OURS = os.path.dirname(pglisten.__file__)
NOT_OURS = os.path.join(OURS, "testing")

class Bytecodes:
    """Counts the bytecodes of pglisten that run, and sends a signal before one of them."""
    def __init__(self, at):
        self.at, self.count, self.where = at, 0, None
    def __enter__(self):
        sys.settrace(self.enter)
    def __exit__(self, *_):
        sys.settrace(None)
    def enter(self, frame, event, arg):
        name = frame.f_code.co_filename
        if not name.startswith(OURS) or name.startswith(NOT_OURS) or self.where:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self.step
    def step(self, frame, event, arg):
        if event == "opcode":
            if self.count == self.at:
                self.where = f"{frame.f_code.co_filename}:{frame.f_lineno} in {gevent.getcurrent()}"
                signal.raise_signal(signal.SIGUSR1)
            self.count += 1
        return self.step

class Target:
    def __init__(self):
        self.made, self.calls = [], 0
    def __call__(self, *_):
        # Any handler may be called twice.
        self.calls += 1
        for made in self.made:
            made.close()
            made.close()

def ended(call):
    try:
        return call()
    except pglisten.Error:
        pass

def listen(backend, target):
    listener = pglisten.Listener(backend=backend, min_reconnect_interval=0.001)
    target.made.append(listener)
    consumer = gevent.spawn(list, listener)
    ended(lambda: listener.listen("a"))
    ended(lambda: listener.notify("a", "1"))
    ended(lambda: listener.get(timeout=0.001))
    ended(lambda: listener.unlisten("a"))
    ended(listener.wait_connected)
    return consumer

def subscribe(backend, target):
    broadcaster = pglisten.Broadcaster(backend=backend, min_reconnect_interval=0.001)
    target.made.append(broadcaster)
    subscription = ended(lambda: broadcaster.subscribe("a", "b", queue_size=1, overflow="block"))
    if subscription is None:
        return gevent.spawn(int)
    target.made.insert(0, subscription)
    ended(lambda: broadcaster.notify("a", "1"))
    ended(lambda: broadcaster.notify("a", "2"))
    consumer = gevent.spawn(list, subscription)
    ended(lambda: subscription.listen("c"))
    ended(lambda: subscription.unlisten("c"))
    return consumer

def connect(backend, target):
    connection = ended(lambda: pglisten.ListenerConnection("", backend=backend))
    target.made.append(connection)
    consumer = gevent.spawn(list, connection)
    ended(lambda: connection.listen("a"))
    ended(lambda: connection.notify("a", "1"))
    ended(connection.unlisten_all)
    return consumer

def lose(backend, target):
    options = dict(min_reconnect_interval=0.001, event_callback=lambda *_: None)
    listener = pglisten.Listener(backend=backend, **options)
    target.made.append(listener)
    consumer = gevent.spawn(list, listener)
    ended(lambda: listener.listen("a"))
    backend.server.cut()
    ended(lambda: listener.wait_connected(timeout=0.05))
    return consumer

def run(at):
    server, target = FakeServer(), Target()
    signal.signal(signal.SIGUSR1, target)
    code = Bytecodes(at)
    with gevent.Timeout(20):
        with code:
            consumer = globals()[scenario](FakeBackend(server), target)
            for made in target.made:
                made.close()
        # What a handler has begun ends by itself.
        while not all(made.closed for made in target.made):
            gevent.sleep(0.001)
        consumer.join()
        for made in target.made:
            made.close()
        while server.sessions():
            gevent.sleep(0.001)
    assert target.calls == (code.where is not None)
    return code

def left():
    import gc, greenlet
    gc.collect()
    return [each for each in gc.get_objects() if isinstance(each, gevent.Greenlet) and not each.dead]

total = run(-1).count
where = None
try:
    for at in range(start, total, stride):
        signal.alarm(30)
        where = run(at).where
    with gevent.Timeout(20):
        while left():
            gevent.sleep(0.001)
except BaseException:
    print(at, total, where, left(), file=sys.stderr)
    raise
print(total)
print("well")
'''

SCENARIOS = ("listen", "subscribe", "connect", "lose")
"""What it interrupts; its arguments are ``plain`` or ``patched``, one of these, and which bytecodes to try:
the distance between two, and the first."""
