"""The password of a malformed connection string shows nowhere, whether the string is refused or not.

The error says what the mistake is, and in which part; it repeats nothing of that part.
"""

from __future__ import annotations

import functools

import pytest

import pglisten
from pglisten import Listener
from support.fixtures.listeners import Events, MakeConnection, MakeListener
from support.fixtures.secrets import PASSWORDS, Searched
from support.fixtures.vault import Reach, raised
from support.malformed import SHAPES, malformed

pytestmark = pytest.mark.slow  # Hundreds of mistakes and moments: on one Python.


@pytest.mark.parametrize("name", PASSWORDS)
@pytest.mark.parametrize("shape", SHAPES, ids=[ascii(shape) for shape in SHAPES])
def test_in_whatever_shape_it_is(
    searched: Searched, make_connection: MakeConnection, make_listener: MakeListener, shape: str, name: str
) -> None:
    dsn = malformed(shape, PASSWORDS[name])
    failed = raised(functools.partial(make_connection, dsn))
    assert isinstance(failed, pglisten.ConfigurationError | pglisten.ConnectionFailed)
    searched.error(failed, own=(dsn,))
    if isinstance(failed, pglisten.ConfigurationError):
        searched.error(raised(make_listener, dsn), own=(dsn,))
        # The configuration is the caller's own, whatever object holds it.
        searched.words(raised(Listener.from_config, {"PGLISTEN_DSN": dsn}))
        return
    events = Events()
    with make_listener(dsn, event_callback=events) as listener:
        events.wait_for("CONNECTION_ATTEMPT_FAILED")
        searched.show(listener, listener.stats(), *events[0])


@pytest.mark.parametrize(
    "wrong",
    [{"sslmode": "nope"}, {"replication": "database"}, {"host": "127.0.0.1,127.0.0.2", "port": "1,x"}],
)
def test_wherever_it_is_from_when_another_setting_is_wrong(
    searched: Searched,
    make_connection: MakeConnection,
    make_listener: MakeListener,
    reach: Reach,
    wrong: dict[str, object],
) -> None:
    dsn = reach(**wrong)
    for make in (make_connection, make_listener):
        error = raised(make, dsn)
        assert isinstance(error, pglisten.ConfigurationError)
        searched.error(error, own=(dsn,))
