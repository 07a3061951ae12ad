"""``pglisten demo`` as processes: the web server, its workers, and what becomes of them."""

from __future__ import annotations

import os
import re
import signal
import socket

import psutil
import pytest

from support.fixtures.demo import Remains, Start, Stream, WebDemo, stop, text_of, the_rest, up_to, wait
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
    assert demo.post("/send", first.token, key="1", name="Ada", text="to all") == (200, {})
    for stream in streams.values():
        with stream:
            stream.until_text("to all")
    assert {other.token for other in others} == {first.token}
    # Each knows of all workers and of its own window.
    workers_seen = [data for name, data in first.seen if name == "cast"][-1]["workers"]
    assert {each["worker"] for each in workers_seen} == set(streams)
    stop(demo)


def test_what_is_sent_during_an_outage_is_lost_to_notifications_and_kept_by_the_log(demo: WebDemo) -> None:
    with Stream(demo) as stream:
        stream.until("state", name="connected")
        # A button pressed meanwhile causes no second outage.
        assert [demo.post("/cut", stream.token)[0] for _ in range(3)] == [202] * 3
        stream.until("state", name="lost")
        announced = [data["outage"] for name, data in stream.seen if name == "cast" and data["outage"]]
        assert [each["kind"] for each in announced[:1]] == ["cut"]
        assert demo.post("/send", stream.token, key="1", name="Ada", text="unheard") == (200, {})
        with Stream(demo) as second:
            second.until("cast")
            states = {data["name"] for name, data in second.seen if name == "state"}
            assert states <= {"lost", "connecting"}
            assert [data for name, data in second.seen if name == "cast"][-1]["outage"]["seconds"] > 1
            back = stream.until("state", name="back")
            lost = [data for name, data in back if name == "state"][:-1]
            assert [data["attempts"] for data in lost] == list(range(1, len(lost) + 1))
            assert all("refused" in data["error"] for data in lost)
            seen = stream.until("gap")
            texts = {text_of(event) for event in seen if event[0] == "read"}
            while len(texts) < 3:
                texts.add(stream.read()[1])
            assert texts == {"unheard", "Order 1", "Order 2"}
            while states.isdisjoint({"connected", "back"}):
                states.add(second.until("state")[-1][1]["name"])
            demo.send(stream.token, "after")
            assert [text_of(event) for event in stream.until_text("after") if event[0] == "heard"] == [
                "after"
            ]
            second.until_text("after")
        # A fence: what was asked for before has been done by now, or dropped.
        assert demo.post("/reload", stream.token)[0] == 202
        while stream.event()[0]:
            pass
    remains = Remains(demo.process)
    demo.process.send_signal(signal.SIGINT)
    told, said = the_rest(demo.process)
    assert (told.count("are cut off"), told.count("may come back"), said) == (1, 1, "")
    remains.assert_gone()


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
    run, position = stream.hello["run"], stream.position
    demo.send(stream.token, "while it was away")
    with Stream(demo, f"run={run}&after={position}") as stream:
        assert stream.hello["worker"] not in [process.pid for process in old]
        stream.until("gap")
        assert stream.read(position)[1] == "while it was away"
        demo.send(stream.token, "after")
        stream.until_text("after")
    # Of another demo, whose log had other positions.
    with Stream(demo, "run=another&after=999999") as stream:
        stream.until("state", name="connected")
        assert "gap" not in [name for name, _ in stream.seen]
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


def test_with_a_dsn_it_keeps_to_what_it_has_made_and_leaves_nothing(
    start: Start, server: Server, backend_name: str
) -> None:
    [[own]] = server.query("SELECT pg_backend_pid()")
    options = ("--backend", backend_name, "--log", "--dsn", server.dsn(application_name="application"))
    demo = WebDemo(start("-m", "pglisten", "demo", *options))
    tables = "SELECT relname FROM pg_class WHERE relname LIKE 'pglisten_demo_%' AND relkind = 'r'"
    assert len(server.query(tables)) == 4
    assert "It is dropped at the end." in "".join(demo.said)
    with Stream(demo) as stream:
        assert (stream.hello["backend"], stream.hello["restarts"]) == (backend_name, False)
        stream.until("state", name="connected")
        assert demo.post("/cut", stream.token)[0] == 202
        stream.until("state", name="lost")
        demo.send(stream.token, "unheard")
        seen = stream.until("state", name="back")
        assert any("the demo keeps this connection away" in data.get("error", "") for _, data in seen)
        texts = [text_of(event) for event in stream.until("gap") if event[0] == "heard"]
        demo.send(stream.token, "after")
        texts += [text_of(event) for event in stream.until_text("after") if event[0] == "heard"]
        assert texts == ["after"]
        # The worker hears notifications and reads the log in greenlets of their own.
        while "unheard" not in [text_of(event) for event in stream.seen if event[0] == "read"]:
            stream.until("read")
    demo.process.send_signal(signal.SIGTERM)
    assert (the_rest(demo.process)[1], demo.process.returncode) == ("", 0)
    assert server.query("SELECT pg_backend_pid()") == [(own,)]
    assert server.query(tables) == []


def test_what_is_served_is_what_a_browser_may_run_and_no_more(demo: WebDemo) -> None:
    for path, kind in {"/": "text/html", "/app.js": "text/javascript", "/page.css": "text/css"}.items():
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
