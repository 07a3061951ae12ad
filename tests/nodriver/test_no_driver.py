"""The core alone, without a driver. Runs in the tox environment ``nodriver``."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from importlib.metadata import requires

import pytest

import pglisten

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(driver) for driver in ("psycopg2", "psycopg", "pg8000")),
    reason="a driver is installed here; tox -e nodriver runs these",
)


def test_the_error_names_the_extras_to_install() -> None:
    with pytest.raises(pglisten.BackendNotFound) as caught:
        pglisten.Listener("host=db")
    assert "pip install 'pglisten[psycopg2]'" in str(caught.value)
    assert "pip install 'pglisten[pg8000]'" in str(caught.value)
    assert isinstance(caught.value, pglisten.ConfigurationError)


@pytest.mark.parametrize("name", ["psycopg2", "psycopg", "pg8000"])
def test_a_backend_asked_for_by_name_names_its_extra(name: str) -> None:
    with pytest.raises(pglisten.BackendNotFound, match=rf"pip install 'pglisten\[{name}\]'") as caught:
        pglisten.Listener("host=db", backend=name)
    assert "\n" not in str(caught.value)


def test_no_backend_is_available() -> None:
    assert pglisten.available_backends() == ()


def test_the_core_depends_on_gevent_alone() -> None:
    needed = [line for line in requires("pglisten") or [] if "extra ==" not in line]
    assert [line.partition(">")[0].strip() for line in needed] == ["gevent"]


def test_the_command_line_says_what_to_install_in_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pglisten", "listen", "x", "--dsn", "host=db"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "pip install 'pglisten[psycopg2]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_streams_need_no_driver_until_there_is_something_to_stream() -> None:
    from pglisten import gunicorn, sse
    from pglisten.testing import FakeBackend, FakeServer

    assert callable(gunicorn.post_worker_init)
    server = FakeServer()
    with pglisten.Broadcaster("", backend=FakeBackend(server)) as broadcaster:
        stream = sse.stream(broadcaster.subscribe("x", timeout=10), retry=None)
        server.notify("x", "y")
        assert b"\nevent: x\ndata: y\n" in b"".join(next(stream) for _ in range(2))
        stream.close()


def test_an_application_can_be_tested_without_a_driver_or_a_server() -> None:
    from pglisten.testing import FakeBackend, FakeServer

    server = FakeServer()
    with pglisten.Listener("", backend=FakeBackend(server)) as listener:
        listener.listen("x", timeout=10)
        server.notify("x", "y")
        item = listener.get(timeout=10)
        assert item is not None
        assert item.payload == "y"
