"""A process without a free descriptor: calls raise the library's own error, and the connection comes back.

Each test runs in a process of its own, whose limit it lowers.
"""

from __future__ import annotations

import pytest

from support.fixtures.listeners import succeeds
from support.fixtures.tls import PASSWORD, TlsServer

SHORT = """
import os, resource, sys
import gevent, pglisten
gevent.get_hub()  # Without a descriptor for its loop, libev ends the process.
backend, dsn, text, kind = sys.argv[1:]
if backend == "fake":
    from pglisten.testing import FakeBackend
    backend = FakeBackend()
elif kind == "loaded":
    backend = pglisten.load_backend(backend)
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
taken = []
try:
    while True:
        taken.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass

def free_one():
    os.closerange(taken[-1], taken.pop() + 1)

"""

CONNECTION = (
    SHORT
    + """
failures = []
for _ in range(20):
    try:
        with pglisten.ListenerConnection(dsn, backend=backend) as connection:
            connection.ping(20)
        break
    except pglisten.Error as error:
        failures.append(str(error))
        free_one()
else:
    raise AssertionError(failures)
# Of the later ones libpq may say why in words of its own.
assert text in failures[0], failures
print("well")
"""
)

LISTENER = (
    SHORT
    + """
events = []
listener = pglisten.Listener(
    dsn, backend=backend, min_reconnect_interval=0.02, max_reconnect_interval=0.02,
    event_callback=lambda event, error: events.append((event.name, str(error))),
)
with gevent.Timeout(20):
    while len(events) < 3:
        gevent.sleep(0.01)
assert all(name == "CONNECTION_ATTEMPT_FAILED" and text in error for name, error in events), events
while taken[80:]:
    free_one()
listener.listen("x", timeout=20)
listener.notify("x", "alive", timeout=20)
assert listener.get(timeout=20).payload == "alive"
listener.close()
print("well")
"""
)

TEXT = "Too many open files"
WAYS = ["plain", "TLS", "certificate", "name"]


def _dsn(server: TlsServer, way: str) -> str:
    settings: dict[str, object] = {"sslmode": "disable" if way in ("plain", "name") else "require"}
    if way == "certificate":
        settings |= {"sslcert": server.client_cert, "sslkey": server.client_key}
    if way == "name":
        settings |= {"host": "localhost"}
    return server.login("scram-sha-256", **settings)


@pytest.mark.sweep
@pytest.mark.parametrize("way", WAYS)
def test_a_connection_says_so_until_there_is_enough(
    tls_server: TlsServer, backend_name: str, way: str
) -> None:
    succeeds(CONNECTION, backend_name, _dsn(tls_server, way), TEXT, "loaded")


def test_so_it_does_where_the_backend_has_to_be_looked_for(tls_server: TlsServer, backend_name: str) -> None:
    succeeds(CONNECTION, backend_name, _dsn(tls_server, "plain"), TEXT, "by name")


@pytest.mark.sweep
@pytest.mark.parametrize("way", WAYS)
def test_a_listener_comes_back_once_there_is_enough(
    tls_server: TlsServer, backend_name: str, way: str
) -> None:
    succeeds(LISTENER, backend_name, _dsn(tls_server, way), TEXT, "loaded")


def test_the_server_in_memory_says_so_too() -> None:
    succeeds(CONNECTION, "fake", f"user=app password={PASSWORD.split()[0]!r}", TEXT, "loaded")
