"""What a ``dsn`` function returns shows nowhere, whatever the function does and whatever becomes of it."""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable

import gevent
import pytest
from gevent.event import Event

import pglisten
from pglisten import Broadcaster, ConnectionFailed, ListenerConnection
from pglisten._cli.main import main
from pglisten._conninfo.dsn import keyword_string
from support.fixtures.listeners import Events, MakeConnection, MakeListener
from support.fixtures.secrets import PASSWORDS, PAYLOAD, Searched
from support.fixtures.vault import METHODS, STRANGER, raised
from support.malformed import SHAPES, malformed
from support.servers.server import PrivateServer

pytestmark = pytest.mark.slow  # Hundreds of mistakes and moments: on one Python.

PASSWORD = PASSWORDS["odd"]


@pytest.fixture
def dsn(vault: PrivateServer) -> Callable[..., str]:
    """Return a function that returns a connection string with the password; keywords replace its settings."""

    def dsn(**changes: object) -> str:
        user = f"odd_{METHODS['scram-sha-256']}"
        place = {"host": "127.0.0.1", "port": vault.port, "dbname": "latin", "user": user}
        return keyword_string({**place, "password": PASSWORD, **changes})

    return dsn


class Shows:
    """An object that shows the password."""

    def __repr__(self) -> str:
        return PASSWORD


def _raises(text: str) -> object:
    raise LookupError(f"no such secret: {len(text)}")


def _is_late(text: str) -> object:
    gevent.sleep(3600 + 0 * len(text))
    return text


def _times_out(text: str) -> object:
    with gevent.Timeout(0.01):
        return _is_late(text)


def _is_bytes(text: str) -> object:
    return text.encode()


def _is_a_dict(text: str) -> object:
    return {"password": text}


def _shows_it(text: str) -> object:
    del text
    return Shows()


def _is_unfinished(text: str) -> object:
    return f"{text} password='{PASSWORD}"


def _has_an_unknown_keyword(text: str) -> object:
    return f"{text} passwort={PASSWORD}"


IN_VAIN = [_is_late, _times_out]
RUBBISH = [_raises, _is_bytes, _is_a_dict, _shows_it, _is_unfinished, _has_an_unknown_keyword]
BAD = [*IN_VAIN, *RUBBISH]


def _has_failed(searched: Searched, error: BaseException) -> None:
    assert isinstance(error, ConnectionFailed), error
    searched.error(error)
    # Not even the function's own frames, which error trackers would record.
    for cause in filter(None, (error.__cause__, error.__context__)):
        assert cause.__traceback__ is None


@pytest.mark.parametrize("bad", BAD, ids=lambda each: each.__name__[1:])
def test_whatever_the_function_does(
    searched: Searched,
    make_connection: MakeConnection,
    make_listener: MakeListener,
    backend_name: str,
    dsn: Callable[..., str],
    bad: Callable[[str], object],
) -> None:
    def ask() -> object:
        return bad(dsn())

    _has_failed(searched, raised(functools.partial(make_connection, ask, connect_timeout=0.1)))
    events = Events()
    with make_listener(ask, connect_timeout=0.1, event_callback=events) as listener:
        events.wait_for("CONNECTION_ATTEMPT_FAILED")
        searched.show(listener, listener.stats(), *events[0], listener._supervisor._settings.target)
        for late in (raised(listener.listen, "x", 0), raised(listener.wait_connected, 0)):
            assert isinstance(late, pglisten.OperationTimeout)
            searched.error(late)
    with Broadcaster(ask, backend=backend_name, connect_timeout=0.1) as broadcaster:  # type: ignore[arg-type]
        searched.error(raised(broadcaster.subscribe, "x", timeout=0.3))
        searched.show(broadcaster, broadcaster.stats())


@pytest.mark.parametrize("shape", SHAPES, ids=[ascii(shape) for shape in SHAPES])
def test_whatever_shape_its_result_has(
    searched: Searched, make_connection: MakeConnection, shape: str
) -> None:
    for password in PASSWORDS.values():
        text = malformed(shape, password)
        _has_failed(searched, raised(functools.partial(make_connection, lambda text=text: text)))


@pytest.mark.parametrize(
    "wrong",
    [{"port": 1}, {"user": STRANGER}, {"dbname": "nowhere"}, {"sslmode": "require"}, {"sslmode": "nope"}],
    ids="".join,
)
def test_whatever_becomes_of_the_attempt(
    searched: Searched,
    make_connection: MakeConnection,
    make_listener: MakeListener,
    dsn: Callable[..., str],
    wrong: dict[str, object],
) -> None:
    def ask() -> str:
        return dsn(**wrong)

    failed = raised(functools.partial(make_connection, ask))
    assert isinstance(failed, ConnectionFailed)
    searched.error(failed)
    events = Events()
    with make_listener(ask, event_callback=events) as listener:
        events.wait_for("CONNECTION_ATTEMPT_FAILED")
        searched.error(raised(listener.listen, "x", 0))
        searched.show(listener, listener.stats(), *events[0])


def test_a_connection_that_is_made_and_lost_shows_none(
    searched: Searched, make_listener: MakeListener, vault: PrivateServer, dsn: Callable[..., str]
) -> None:
    events = Events()
    listener = make_listener(dsn, event_callback=events)
    listener.listen("x", timeout=20)
    target = listener._supervisor._settings.target
    searched.show(listener, listener.stats(), target, target.description, target._source)
    vault.terminate(listener.stats().server_pid or 0)
    assert listener.get(timeout=20) is None
    searched.show(listener, listener.stats(), *(part for event in events for part in event))
    listener.close()
    searched.error(raised(listener.notify, "x", PAYLOAD))


@pytest.mark.parametrize("end", [gevent.GreenletExit(), gevent.Timeout()], ids=repr)
def test_a_call_that_is_killed_while_the_function_runs_shows_none(
    searched: Searched, backend_name: str, dsn: Callable[..., str], end: BaseException
) -> None:
    running = Event()

    def ask() -> str:
        text = dsn()
        running.set()
        gevent.sleep(3600)
        return text

    dialling = gevent.spawn(raised, ListenerConnection, ask, backend=backend_name)
    assert running.wait(20)
    dialling.kill(end)
    searched.show(dialling)
    searched.error(end)


FORMS = ["plain", *(bad.__name__ for bad in RUBBISH), "refused", "stranger"]


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize("form", FORMS)
def test_the_command_line_shows_none(
    searched: Searched,
    dsn: Callable[..., str],
    backend_name: str,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
) -> None:
    made = types.ModuleType("made_up_vault")
    bad = {each.__name__: each for each in BAD}.get(form)
    changes: dict[str, object] = {"refused": {"port": 1}, "stranger": {"user": STRANGER}}.get(form, {})  # type: ignore[assignment]
    made.dsn = lambda: dsn(**changes) if bad is None else bad(dsn())  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "made_up_vault", made)
    monkeypatch.setenv("PGLISTEN_DSN", "made_up_vault:dsn")
    expected = {0} if form == "plain" else {1}
    notify = ["notify", "x", ""]
    for arguments in (notify, [*notify, "-h", "127.0.0.1"], ["doctor"], ["doctor", "--json"]):
        assert main([*arguments, "--backend", backend_name]) in expected, arguments
        searched.listen_to_all()
        searched.output()
    assert main(["listen", "x", "--timeout", "0.5", "--backend", backend_name]) in {0, 1, 124}
    searched.listen_to_all()
    assert searched.output()
