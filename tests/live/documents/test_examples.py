"""The programs in examples/ do what their docstrings say, after a lost connection and at their end too."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable

import gevent
import pytest

from pglisten.testing.postgres.processes import free_port
from support.fixtures.examples import EXAMPLES, ROOT, Browser, Database, Example, StartExample, seconds_to_end

# Each test starts processes: run them on one Python.
pytestmark = [pytest.mark.slow, pytest.mark.programs, pytest.mark.any_backend]

WEB = {
    "flask_stream.py": "flask_stream:app",
    "django_stream.py": "django_stream:application",
    "falcon_stream.py": "falcon_stream:app",
    "plain_pywsgi.py": "plain_pywsgi:application",
}

Run = Callable[..., None]
Serve = Callable[..., tuple[Example, Browser]]


def test_the_list_of_examples_has_them_all_and_their_commands_name_existing_files() -> None:
    files = {path.name for path in EXAMPLES.iterdir() if path.is_file()}
    listed = set(re.findall(r"^\| \[(.+?)\]\(\1\)", (EXAMPLES / "README.md").read_text(), re.MULTILINE))
    assert listed == files - {"README.md"}
    for name in files:
        text = (EXAMPLES / name).read_text()
        for command in re.findall(r"python (examples/\S+)|-c (examples/\S+)", text):
            assert (ROOT / "".join(command)).exists(), (name, command)
        for module, attribute in re.findall(r"--chdir examples (\w+):(\w+)", text):
            assert (
                f"\n{attribute} = " in (EXAMPLES / f"{module}.py").read_text() or attribute == "application"
            )


# Event streams


@pytest.mark.parametrize("name", WEB)
def test_every_open_page_sees_what_is_sent_and_is_told_of_a_gap(
    serve: Serve, database: Database, name: str
) -> None:
    example, browser = serve(name)
    status, page = browser.get("/")
    assert status == 200
    assert "new EventSource" in page
    with browser.events() as first, browser.events() as second:
        assert (first.status, first.type) == (200, "text/event-stream; charset=utf-8")
        assert list(first.start) == ["\ufeffid"]
        assert browser.send("größer & kleiner") == 204
        assert first.next() == second.next() == ("chat", "größer & kleiner")
        (pid,) = database.pids()
        database.terminate(pid)
        assert first.next() == second.next() == ("gap", "")
        assert browser.send("again") == 204
        assert first.next() == second.next() == ("chat", "again")
        assert browser.send("x" * 8000) == 400
        assert browser.send("\0") == 400
        example.process.terminate()
        assert first.ended()
        assert second.ended()
    assert example.ends() == []


@pytest.mark.parametrize("name", WEB)
def test_a_server_without_a_database_says_so_and_ends_as_well(serve: Serve, name: str) -> None:
    example, browser = serve(name, PGLISTEN_DSN=f"host=127.0.0.1 port={free_port()}")
    browser.get("/")
    assert browser.send("x") == 503
    example.stop(signal.SIGINT)


@pytest.mark.parametrize("name", WEB)
def test_gunicorns_workers_end_with_their_streams(
    gunicorn_serve: Callable[[str], tuple[object, Browser]], database: Database, name: str
) -> None:
    process, browser = gunicorn_serve(WEB[name])
    browser.get("/")
    with browser.events() as events:
        assert browser.send("hello") == 204
        assert events.next() == ("chat", "hello")
        database.end_all_sessions()
        assert events.next() == ("gap", "")
        # The other worker may answer, and it may still be reconnecting.
        while browser.send("again") != 204:
            gevent.idle()
        assert events.next() == ("chat", "again")
        # Without the hooks this takes graceful_timeout, 30 s.
        assert seconds_to_end(process) < 10  # type: ignore[arg-type]
        assert events.ended()


def test_a_stranger_reads_and_sends_nothing(serve: Serve) -> None:
    example, browser = serve("plain_pywsgi.py")
    for cookie in ("", "user=me", "user=me.", "user=më.0", "=;,"):
        browser.cookie = cookie
        assert browser.get("/events?channel=chat")[0] == 403
        assert browser.send("x") == 403
    browser.get("/")
    user = browser.cookie.removeprefix("user=").partition(".")[0]
    assert browser.get("/events?channel=chat&channel=user-another")[0] == 403
    with browser.events(f"/events?channel=chat&channel=user-{user}") as events:
        assert events.status == 200
    example.stop()


# Cache


def wait_cached(browser: Browser, example: Example) -> None:
    """Wait until the cache keeps what it reads. Until it listens, it reads for each request."""
    for number in range(10_000):
        for name in (f"once-{number}", f"once-{number}", f"fence-{number}"):
            browser.get(f"/{name}")
        reads = list(iter(example.line, f"read fence-{number}"))
        if reads == [f"read once-{number}"]:
            return
    raise AssertionError


def wait_forgotten(browser: Browser, path: str, value: str) -> None:
    with gevent.Timeout(20):
        while browser.get(path)[1] != f"{value}\n":
            gevent.idle()


def test_a_cache_forgets_what_has_changed_and_everything_after_a_gap(
    serve: Serve, run_example: Run, database: Database
) -> None:
    run_example("cache_invalidation.py", "create")
    example, browser = serve("cache_invalidation.py")
    wait_cached(browser, example)
    for _ in range(2):
        assert browser.get("/colour")[1] == "blue\n"
        assert browser.get("/shape")[1] == "round\n"
    example.hear("read colour")
    example.hear("read shape")
    database.query("UPDATE settings SET value = 'red' WHERE name = 'colour'")
    wait_forgotten(browser, "/colour", "red")
    example.hear("read colour")
    assert browser.get("/shape")[1] == "round\n"

    database.query("ALTER TABLE settings DISABLE TRIGGER ALL")
    database.query("UPDATE settings SET value = 'green' WHERE name = 'colour'")
    assert browser.get("/colour")[1] == "red\n"
    database.terminate(*database.listeners(1))
    wait_forgotten(browser, "/colour", "green")
    example.hear("read colour")
    example.stop(signal.SIGINT)


# Work queue


def jobs_done(lines: list[str]) -> list[int]:
    return sorted(int(line.split()[-1]) for line in lines if "is through with" in line)


def test_every_job_is_done_by_one_of_many_workers_also_those_that_waited_before(
    start_example: StartExample, run_example: Run, database: Database
) -> None:
    run_example("work_queue.py", "create")
    database.query("INSERT INTO jobs (seconds) SELECT 0 FROM generate_series(1, 40)")
    workers = [start_example("work_queue.py", "work", "3") for _ in range(2)]
    database.listeners(2)
    database.wait_until("SELECT count(*) = 0 FROM jobs")
    run_example("work_queue.py", "add", *["0.01"] * 40)
    database.wait_until("SELECT count(*) = 0 FROM jobs")
    for worker in workers:
        worker.process.terminate()
    said = [line for worker in workers for line in worker.ends()]
    assert jobs_done(said) == list(range(1, 81))


def test_a_gap_is_a_reason_to_look_for_jobs(
    start_example: StartExample, run_example: Run, database: Database
) -> None:
    run_example("work_queue.py", "create")
    worker = start_example("work_queue.py", "work", "1")
    database.wait_for_a_look()
    (pid,) = database.listeners(1)
    database.query("ALTER TABLE jobs DISABLE TRIGGER ALL")
    database.query("INSERT INTO jobs (seconds) VALUES (0)")
    # The worker polls once a minute, which is longer than this test may take.
    database.terminate(pid)
    worker.hear("worker 1 has job 1")
    worker.hear("worker 1 is through with job 1")
    worker.stop()


def test_a_job_whose_worker_was_killed_is_done_by_another(
    start_example: StartExample, run_example: Run, database: Database
) -> None:
    run_example("work_queue.py", "create")
    victim = start_example("work_queue.py", "work", "1")
    run_example("work_queue.py", "add", "3")
    victim.hear("worker 1 has job 1")
    other = start_example("work_queue.py", "work", "1", LOOK_AGAIN="0.2")
    database.wait_for_a_look()  # which finds the job locked
    victim.kill()
    other.hear("worker 1 has job 1")
    assert other.stop(signal.SIGINT) == ["worker 1 is through with job 1"]
    assert database.query("SELECT count(*) FROM jobs") == [(0,)]


def test_a_job_that_fails_waits_and_delays_no_other_and_lost_sessions_are_replaced(
    start_example: StartExample, run_example: Run, database: Database
) -> None:
    run_example("work_queue.py", "create")
    worker = start_example("work_queue.py", "work", "1")
    run_example("work_queue.py", "add", "-1", "0")
    worker.hear("worker 1 has job 1")
    worker.hear("job 1 failed, again in a minute: there is no way back in time")
    worker.hear("worker 1 is through with job 1")
    worker.hear("worker 1 has job 2")
    worker.hear("worker 1 is through with job 2")
    assert database.query("SELECT id, due > now() + interval '30 s' FROM jobs") == [(1, True)]
    database.end_all_sessions()
    run_example("work_queue.py", "add", "0")
    while "has job 3" not in worker.line():
        pass
    worker.hear("worker 1 is through with job 3")
    worker.stop()


# Outbox


def test_messages_are_followed_in_the_order_of_commits_from_before_the_start(
    start_example: StartExample, run_example: Run, database: Database
) -> None:
    run_example("outbox.py", "create")
    run_example("outbox.py", "add", "one", "two")
    follower = start_example("outbox.py", "follow")
    follower.hear("1 one")
    follower.hear("2 two")
    database.query("BEGIN")
    database.query("INSERT INTO outbox (channel, payload) VALUES ('messages', 'early, committed late')")
    run_example("outbox.py", "add", "later")
    follower.hear("3 later")
    database.query("COMMIT")
    follower.hear("4 early, committed late")
    assert follower.stop() == []


@pytest.mark.parametrize("all_of_them", [False, True])
def test_messages_written_while_the_follower_reconnects_are_passed_on(
    start_example: StartExample, run_example: Run, database: Database, all_of_them: bool
) -> None:
    run_example("outbox.py", "create")
    run_example("outbox.py", "add", "one")
    follower = start_example("outbox.py", "follow")
    follower.hear("1 one")
    database.wait_until("SELECT position = 1 FROM outbox_consumer")
    while not (pids := database.pids("pglisten")):
        gevent.idle()  # It connects once it has read all.
    if all_of_them:
        database.end_all_sessions()
    else:
        database.terminate(*pids)
    database.query("INSERT INTO outbox (channel, payload) VALUES ('messages', 'meanwhile')")
    follower.hear("2 meanwhile")
    run_example("outbox.py", "add", "later")
    follower.hear("3 later")
    assert follower.stop(signal.SIGINT) == []


def test_a_follower_that_was_killed_goes_on_where_it_was(
    start_example: StartExample, run_example: Run, database: Database
) -> None:
    run_example("outbox.py", "create")
    run_example("outbox.py", "add", "one")
    follower = start_example("outbox.py", "follow")
    follower.hear("1 one")
    database.wait_until("SELECT position = 1 FROM outbox_consumer")
    follower.kill()
    run_example("outbox.py", "add", *["more"] * 250)
    follower = start_example("outbox.py", "follow")
    for number in range(2, 252):
        follower.hear(f"{number} more")
    assert follower.stop() == []
