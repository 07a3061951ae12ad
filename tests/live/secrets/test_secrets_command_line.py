"""What ``pglisten`` prints has no password in it, and a payload only if the user asked for it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import gevent
import pytest

from pglisten._cli.main import main
from support.fixtures.secrets import PASSWORDS, PAYLOAD, PAYLOAD_MARK, Searched
from support.fixtures.vault import STRANGER, Reach
from support.malformed import SHAPES, malformed
from support.servers.server import PrivateServer

pytestmark = [
    pytest.mark.slow,  # Hundreds of mistakes and moments: on one Python.
    pytest.mark.usefixtures("signals"),
]

WRONG: dict[str, dict[str, object]] = {
    "password": {"user": STRANGER},
    "database": {"dbname": "nowhere"},
    "port": {"port": 1},
    "setting": {"sslmode": "nope"},
}


class CommandLine:
    """Runs commands in this process, with a connection string by option or by variable."""

    def __init__(self, searched: Searched, backend_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self._searched = searched
        self._backend_name = backend_name
        self._monkeypatch = monkeypatch

    def __call__(self, *arguments: str, dsn: str, meanwhile: Callable[[], object] | None = None) -> int:
        """Return the exit status; after *meanwhile* it is sent a SIGTERM."""
        self._monkeypatch.delenv("PGLISTEN_DSN", raising=False)
        options = ["--backend", self._backend_name]
        if arguments[0] == "notify" and "\0" not in dsn and "\ud800" not in dsn:
            self._monkeypatch.setenv("PGLISTEN_DSN", dsn)
        else:
            options += ["--dsn", dsn]
        stopping = None if meanwhile is None else gevent.spawn(self._stop, meanwhile)
        try:
            return main([*arguments, *options])
        finally:
            if stopping is not None:
                stopping.kill()
            self._searched.listen_to_all()

    def hear(self, *texts: str) -> None:
        """Wait until a command has printed each of these."""
        heard = ""
        with gevent.Timeout(20):
            while not all(text in heard for text in texts):
                gevent.idle()
                heard += self._searched.output(payload_allowed=True)

    def _stop(self, meanwhile: Callable[[], object]) -> None:
        try:
            meanwhile()
        finally:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def run(searched: Searched, backend_name: str, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    return CommandLine(searched, backend_name, monkeypatch)


@pytest.mark.parametrize("password_name", ["odd"], indirect=True)
def test_listen_prints_what_it_receives_and_nothing_else_that_is_secret(
    searched: Searched, run: CommandLine, reach: Reach, vault: PrivateServer
) -> None:
    dsn = reach(application_name="secrets")

    def meanwhile() -> None:
        run.hear("listening to x")
        assert run("notify", "x", PAYLOAD, dsn=dsn) == 0
        run.hear(PAYLOAD_MARK)
        (pid,) = [
            pid
            for (pid,) in vault.query("SELECT pid FROM pg_stat_activity WHERE application_name = 'secrets'")
        ]
        vault.terminate(pid)
        run.hear("disconnected")

    assert run("listen", "x", dsn=dsn, meanwhile=meanwhile) == 0


def test_notify_and_doctor_show_none(searched: Searched, run: CommandLine, reach: Reach) -> None:
    dsn = reach()
    assert run("notify", "x", PAYLOAD, dsn=dsn) == 0
    assert run("notify", "x", f"{PAYLOAD} ключ", dsn=dsn) == 1
    assert run("notify", "x", PAYLOAD * 1000, dsn=dsn) == 2
    for form in ([], ["--json"]):
        run("doctor", *form, dsn=dsn)
        assert "delivery" in searched.output()


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("password_name", ["odd"], indirect=True)
def test_with_something_wrong_none_shows_it(
    searched: Searched, run: CommandLine, reach: Reach, wrong: str
) -> None:
    dsn = reach(**WRONG[wrong])
    for arguments in (["notify", "x", PAYLOAD], ["doctor"], ["doctor", "--json"], ["demo"]):
        assert run(*arguments, dsn=dsn) in (1, 2)
        assert searched.output()
    if wrong != "setting":
        retry = ["listen", "x", "--retry"]
        assert run(*retry, dsn=dsn, meanwhile=lambda: run.hear("attempt failed")) == 0
    if wrong != "port":
        assert run("listen", "x", dsn=dsn) in (1, 2)
        assert searched.output()


@pytest.mark.parametrize("name", PASSWORDS)
def test_whatever_is_malformed_none_shows_it(searched: Searched, run: CommandLine, name: str) -> None:
    for shape in SHAPES:
        dsn = malformed(shape, PASSWORDS[name])
        for arguments in (["notify", "x", PAYLOAD], ["doctor"]):
            assert run(*arguments, dsn=dsn) in (1, 2)
            assert searched.output()
