"""``pglisten demo`` as processes: the web server, its workers, and what becomes of them."""

from __future__ import annotations

import os
import re
import signal
import socket

import psutil
import pytest

from support.fixtures.demo import Remains, Start, Stream, WebDemo, stop, the_rest, up_to, wait
from support.fixtures.environment import installed_backends
from support.servers.server import Server

pytestmark = [pytest.mark.slow, pytest.mark.programs, pytest.mark.timeout(120)]

WITHOUT_GUNICORN = """\
import importlib.util, sys
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "gunicorn" else found(name, *rest)
from pglisten._cli.main import main
sys.exit(main(["demo"]))
"""


@pytest.fixture
def demo(start: Start) -> WebDemo:
    # A variable that would lead elsewhere, or change gunicorn, has nothing to say here.
    variables = {"PGHOSTADDR": "192.0.2.1", "GUNICORN_CMD_ARGS": "--bind 127.0.0.1:1", "WEB_CONCURRENCY": "7"}
    return WebDemo(start("-m", "pglisten", "demo", **variables))


def test_each_worker_has_another_backend_and_hands_on_what_any_of_them_sends(demo: WebDemo) -> None:
    workers = max(2, len(installed_backends()))
    assert len(demo.gunicorn.children()) == workers
    streams: dict[int, Stream] = {}
    # Which worker takes a connection is the kernel's choice.
    spare = []
    while len(streams) < workers:
        stream = Stream(demo)
        worker = stream.hello["worker"]
        if worker in streams:
            spare.append(stream)
        else:
            streams[worker] = stream
        assert len(spare) < 200
    for stream in spare:
        stream.__exit__()
    backends = {stream.hello["backend"] for stream in streams.values()}
    assert backends == set(installed_backends())
    for stream in streams.values():
        stream.until("state", name="connected")
    first, *others = streams.values()
    status, answer = demo.post("/send", first.token, channel="chat", name="Ada", text="to both")
    assert status == 200
    assert answer["worker"] in streams
    pids = set()
    for worker, stream in streams.items():
        with stream:
            [(_, data)] = stream.until_text("to both")[-1:]
            assert (data["channel"], data["worker"], data["backend"]) == (
                "chat",
                worker,
                stream.hello["backend"],
            )
            pids.add(data["pid"])
    assert len(pids) == 1
    assert {other.token for other in others} == {first.token}
    stop(demo)


def test_a_restart_is_told_to_every_page_in_order(demo: WebDemo) -> None:
    with Stream(demo) as stream:
        [(_, state)] = stream.until("state", name="connected")[-1:]
        # A button pressed meanwhile causes no second restart.
        assert [demo.post("/restart", stream.token)[0] for _ in range(3)] == [202] * 3
        seen = stream.until("state", name="back")
        # A server that shuts down may not hand on what was committed just before; that is the gap's too.
        orders = [data["payload"] for name, data in seen if name == "notification"]
        assert ["Order 1" in order for order in orders] in ([], [True])
        *lost, back = [data for name, data in seen if name == "state"]
        assert {data["name"] for data in lost} == {"lost"}
        assert [data["attempts"] for data in lost] == list(range(len(lost)))
        assert any("refused" in data["error"] for data in lost)
        assert back["server_pid"] not in (None, state["server_pid"])
        assert stream.event() == ("gap", None)
        stream.until("notification", channel="orders")
        demo.send(stream.token, "after")
        stream.until_text("after")
        # A fence: what was asked for before has been done by now, or dropped.
        assert demo.post("/reload", stream.token)[0] == 202
        while stream.event()[0]:
            pass
    remains = Remains(demo.process)
    demo.process.send_signal(signal.SIGINT)
    told, said = the_rest(demo.process)
    assert (told.count("shuts down"), told.count("is up again"), said) == (1, 1, "")
    remains.assert_gone()


def test_a_page_that_is_opened_while_the_database_is_away_says_so_and_goes_on(demo: WebDemo) -> None:
    with Stream(demo) as first:
        first.until("state", name="connected")
        demo.post("/restart", first.token)
        first.until("state", name="lost")
        with demo.frozen():
            second = Stream(demo)
            name, state = second.event()
            # Its worker may not have had a connection before.
            assert (name, state["name"]) in (("state", "lost"), ("state", "connecting"))
        with second:
            while state["name"] not in ("connected", "back"):
                [(_, state)] = second.until("state")
            demo.send(second.token, "after")
            second.until_text("after")
    stop(demo)


@pytest.mark.parametrize("how", ["signal", "button"])
def test_workers_are_replaced_at_once_though_streams_are_open(demo: WebDemo, how: str) -> None:
    old = demo.gunicorn.children()
    with Stream(demo) as stream:
        stream.until("state", name="connected")
        if how == "signal":
            demo.gunicorn.send_signal(signal.SIGHUP)
        else:
            assert demo.post("/reload", stream.token)[0] == 202
        # Long before the graceful timeout of 10 seconds; the new ones come first.
        while stream.event()[0]:
            pass
    _, alive = psutil.wait_procs(old, timeout=8)
    assert alive == []
    with Stream(demo, Last_Event_ID="x") as stream:
        assert stream.hello["worker"] not in [process.pid for process in old]
        seen = stream.until("gap")
        assert {name for name, _ in seen[:-1]} == {"state"}
        demo.send(stream.token, "after")
        stream.until_text("after")
    stop(demo)


def test_a_killed_worker_is_replaced_by_one_with_its_backend(demo: WebDemo) -> None:
    with Stream(demo) as stream:
        old = {process.pid for process in demo.gunicorn.children()}
        os.kill(stream.hello["worker"], signal.SIGKILL)
        wait(lambda: len({process.pid for process in demo.gunicorn.children()} - old) == 1)
        [new] = {process.pid for process in demo.gunicorn.children()} - old
        found = stream.hello
        while found["worker"] != new:
            with Stream(demo) as other:
                found = other.hello
        assert found["backend"] == stream.hello["backend"]
    # gunicorn itself has something to say of that.
    remains = Remains(demo.process)
    demo.process.terminate()
    assert "SIGKILL" in the_rest(demo.process)[1]
    remains.assert_gone()


def test_with_a_dsn_it_keeps_to_channels_and_sessions_of_its_own(
    start: Start, server: Server, backend_name: str
) -> None:
    [[own]] = server.query("SELECT pg_backend_pid()")
    options = ("--backend", backend_name, "--dsn", server.dsn(application_name="application"))
    demo = WebDemo(start("-m", "pglisten", "demo", *options))
    with Stream(demo) as stream:
        assert (stream.hello["backend"], stream.hello["restarts"]) == (backend_name, False)
        names = {each["label"]: each["name"] for each in stream.hello["channels"]}
        assert list(names) == ["orders", "chat", "alerts"]
        assert all(re.fullmatch(r"pglisten_demo_[0-9a-f]{8}_\w+", name) for name in names.values())
        [(_, state)] = stream.until("state", name="connected")[-1:]
        assert state["server_pid"] in server.pids(names["chat"].removesuffix("_chat"))
        assert demo.post("/send", stream.token, channel="chat", name="", text="x") == (
            400,
            {"error": "that is none of the demo's channels"},
        )
        assert demo.post("/restart", stream.token)[0] == 202
        stream.until("state", name="back")
        assert stream.event() == ("gap", None)
        server.notify(names["chat"], "not from the page")
        stream.until("notification", payload="not from the page")
    demo.process.send_signal(signal.SIGTERM)
    assert (the_rest(demo.process)[1], demo.process.returncode) == ("", 0)
    assert server.query("SELECT pg_backend_pid()") == [(own,)]


def test_what_is_served_is_what_a_browser_may_run_and_no_more(demo: WebDemo) -> None:
    for path, kind in {"/": "text/html", "/app.js": "text/javascript", "/style.css": "text/css"}.items():
        status, headers, body = demo.request("GET", path)
        assert (status, headers["Content-Type"]) == (200, f"{kind}; charset=utf-8")
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert demo.request("HEAD", path)[::2] == (200, b"")
        assert b"http://" not in body.replace(b'xmlns="http://www.w3.org/2000/svg"', b"")
        assert b"https://" not in body
    stop(demo)


def test_a_port_that_is_taken_is_said_before_anything_is_started(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = start("-m", "pglisten", "demo", "--web-port", str(port))
        told, said = the_rest(process)
    assert (process.returncode, told) == (1, "")
    assert re.fullmatch(
        rf"pglisten: cannot listen on port {port} of '127.0.0.1' \(Address already in use\): choose.*\n", said
    )


def test_a_name_that_is_none_of_this_machine_is_said(start: Start) -> None:
    process = start("-m", "pglisten", "demo", "--web-host", "192.0.2.1")
    assert re.fullmatch(r"pglisten: cannot listen on port 0 of '192.0.2.1' .*\n", the_rest(process)[1])
    assert process.returncode == 1


@pytest.mark.parametrize(("host", "warned"), [("0.0.0.0", True), ("localhost", False), ("::1", False)])
def test_it_warns_where_other_machines_can_reach_it(start: Start, host: str, warned: bool) -> None:
    if ":" in host and not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    process = start("-m", "pglisten", "demo", "--web-host", host, "--workers", "1")
    told = up_to(process, "^Open http://(localhost|127.0.0.1|\\[::1\\]):[0-9]+/ ")
    assert any(line.startswith("Warning: every user who can reach this machine") for line in told) == warned
    process.send_signal(signal.SIGTERM)
    assert (the_rest(process)[1], process.returncode) == ("", 0)


def test_gunicorn_that_is_missing_is_said_with_the_line_that_installs_it(start: Start) -> None:
    process = start("-c", WITHOUT_GUNICORN)
    assert re.fullmatch(
        r"pglisten: .*needs gunicorn.*pip install 'pglisten\[demo\]'.*--terminal\n", the_rest(process)[1]
    )
    assert process.returncode == 2
