"""A Django project with ``pglisten.django``: migrations, commands, checks, views, consumers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from live.frameworks.conftest import Run
from support.fixtures.examples import Database
from support.fixtures.listeners import MakeListener
from support.fixtures.poolers import Imitate
from support.servers.poolers import PgDogLike
from support.timeouts import TIMEOUT

pytestmark = [pytest.mark.slow, pytest.mark.any_backend]


def test_a_migration_makes_a_log_and_a_trigger_and_takes_them_back(
    manage: Run, database: Database, make_listener: MakeListener
) -> None:
    printed = manage("sqlmigrate", "shop", "0001").stdout
    assert 'CREATE TABLE "public"."shop_events"' in printed
    assert 'CREATE TRIGGER "shop_order_notify_orders" AFTER INSERT OR UPDATE OR DELETE' in printed
    assert manage("migrate").returncode == 0
    with make_listener(database.dsn()) as listener:
        listener.listen("orders", TIMEOUT)
        for statement in (
            "INSERT INTO shop_order VALUES (1, 'é')",
            "INSERT INTO shop_order VALUES (2, repeat('x', 9000))",
            "UPDATE shop_order SET id = 3 WHERE id = 1",
            "DELETE FROM shop_order WHERE id = 2",
            "ALTER TABLE shop_order RENAME remark TO comment",
            "INSERT INTO shop_order VALUES (4, 'written, whatever the trigger does')",
        ):
            database.query(statement)
        got = [listener.get(TIMEOUT) for _ in range(6)]
        assert [json.loads(each.payload) if each and each.payload else "" for each in got] == [
            {"op": "INSERT", "id": 1, "note": "é"},
            {"op": "INSERT", "id": 2},
            {"op": "DELETE", "id": 1},
            {"op": "UPDATE", "id": 3, "note": "é"},
            {"op": "DELETE", "id": 2},
            "",
        ]
    database.query("ALTER TABLE shop_order RENAME comment TO remark")
    assert manage("migrate", "shop", "zero").returncode == 0
    left = "SELECT count(*) FROM {} WHERE {} ~ '^shop_'"
    assert database.query(left.format("pg_class", "relname")) == [(0,)]
    assert database.query(left.format("pg_proc", "proname")) == [(0,)]


CALL = """
import os, django
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
django.setup()
from django.core.management import CommandError, call_command
call_command("pglisten", "log", "status", "news", "--json", database="default")
try:
    call_command("pglisten", "log", "no_such_command")
except CommandError as error:
    assert error.returncode == 2
"""


def test_the_command_line_has_the_database_of_the_project(manage: Run, run: Run) -> None:
    made = manage("pglisten", "log", "create", "news", "--database", "default")
    assert (made.returncode, made.stderr) == (0, "")
    status = manage("pglisten", "log", "status", "news", "--json")
    assert json.loads(status.stdout)["newest"] == 0
    helped = manage("pglisten", "--help", QUEUE_SIZE="many").stdout
    assert helped.startswith("--database NAME names one of DATABASES.")
    assert helped.endswith(run("-m", "pglisten", "--help").stdout)
    wrong = manage("pglisten", "listen", "orders", "--database", "other")
    assert (wrong.returncode, "DATABASES has no 'other'" in wrong.stderr) == (2, True)
    for option in ("--dsn=host=db", "-dshop2"):
        both = manage("pglisten", "notify", "orders", "--database", "default", option)
        assert (both.returncode, "both name a database: leave one out" in both.stderr) == (2, True)
    usual = manage("pglisten", "notify", "orders", "--skip-checks", "--no-color", "--traceback", "-v", "2")
    assert (usual.returncode, usual.stderr) == (0, "")
    unusable = manage("pglisten", "doctor", QUEUE_SIZE="many")
    assert (unusable.returncode, unusable.stderr.startswith("PGLISTEN_QUEUE_SIZE: ")) == (2, True)
    elsewhere = manage("pglisten", "notify", "orders", "--", "--database", DSN="host=127.0.0.1 port=1")
    assert (elsewhere.returncode, "127.0.0.1:1" in elsewhere.stderr) == (1, True)
    called = run("-c", CALL)
    assert (json.loads(called.stdout)["newest"], called.returncode) == (0, 0), called.stderr


def test_checks_warn_of_a_pooler_by_its_name_and_by_asking_it(manage: Run, imitate: Imitate) -> None:
    assert manage("check", "--database", "default").stderr == ""
    assert "pglisten.E001" in manage("check", DSN="no connection string").stderr
    assert "(pglisten.W001)" in manage("check", HOST="127.0.0.1", PORT="6432").stderr
    assert "looks like PgBouncer" in manage("check", DSN="postgresql://app@pgbouncer:6543/app").stderr
    # Only a connection calls the function.
    assert (
        "(pglisten.W002) configuration: " in manage("check", "--database", "default", DSN="os:getcwd").stderr
    )
    dsn = imitate(PgDogLike).dsn()
    asked = manage("check", "--database", "default", DSN=dsn).stderr
    assert "(pglisten.W002) pooler: PgDog is in between" in asked
    assert "(pglisten.W002) listen: " in asked


PROGRAM = """
from gevent import monkey; monkey.patch_all()
import os, django, gevent
from gevent.event import Event
import pglisten.django
from pglisten._consumers.registry import start_all

heard, arrived = [], Event()

@pglisten.django.on("orders", on_gap=lambda: heard.append(Order.objects.count()))
def note(notification):
    heard.append((notification.payload, Order.objects.count()))
    arrived.set()

os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
django.setup()
from django.db import connection
from django.test import Client
from shop.models import Order

start_all()  # as gunicorn's hook does, before there is a request
while not heard:
    gevent.sleep(0.001)
client = Client()
answer = client.get("/events", buffered=False)
stream = iter(answer.streaming_content)
next(stream)
assert connection.connection is None, "the stream keeps the connection of the view"
Order.objects.create(note="tea")
assert arrived.wait(20)
assert b'"note" : "tea"' in next(stream)
payload, count = heard[1]
assert (heard[0], count, "tea" in payload) == (0, 1, True), heard
answer.close()

pglisten.django.log("shop_events").append("orders", "kept", timeout=20)
answer = client.get("/entries?after=0")
chunk = b""
stream = iter(answer.streaming_content)
while b"kept" not in chunk:
    chunk = next(stream)
answer.close()
pglisten.django.broadcaster().close()
connection.close()
print("done")
"""


def test_views_stream_and_functions_run_with_fresh_connections(
    manage: Run, run: Run, project: Path, database: Database
) -> None:
    assert manage("migrate").returncode == 0
    (project / "program.py").write_text(PROGRAM)
    done = run("program.py")
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr
    assert database.sessions() == 0


THREAD = """
import os, threading, django
import pglisten, pglisten.django
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
pglisten.django.on("orders")(print)
django.setup()
from django.test import Client

def ask():
    print(Client().get("/page").status_code)
    try:
        Client().get("/events")
    except pglisten.Error as error:
        print(error)

thread = threading.Thread(target=ask)
thread.start()
thread.join()
"""


def test_a_server_with_threads_has_its_pages_and_says_the_remedy_at_a_stream(manage: Run, run: Run) -> None:
    assert manage("migrate").returncode == 0
    done = run("-c", THREAD)
    assert done.stdout.startswith("200\n")
    assert "gevent.monkey.patch_all() in manage.py's first lines" in done.stdout
    assert "functions of on() do not run" in done.stderr


TESTS = """
import pglisten.django
from django.test import Client, TestCase, TransactionTestCase
from shop.models import Order

class Committed(TransactionTestCase):
    def test_stream(self):
        answer = Client().get("/events")
        stream = iter(answer.streaming_content)
        next(stream)
        Order.objects.create(note="tea")
        assert b"tea" in next(stream)
        answer.close()

class Undone(TestCase):
    def test_page(self):
        with self.captureOnCommitCallbacks(execute=True):
            Client().get("/events")
        assert Order.objects.count() == 0
"""


def test_the_tests_of_a_project_stream_from_the_test_database_and_drop_it(
    manage: Run, project: Path, database: Database
) -> None:
    page = (Path(__file__).parents[3] / "docs" / "django.md").read_text()
    runner = page.split("\n# shop/runner.py. ")[1].split("```")[0]
    (project / "shop" / "runner.py").write_text(f"# {runner}")
    (project / "shop" / "tests.py").write_text(TESTS)
    settings = project / "settings.py"
    settings.write_text(settings.read_text() + 'TEST_RUNNER = "shop.runner.Runner"\n')
    done = manage("test", "--noinput")
    assert (done.returncode, "Ran 2 tests" in done.stderr) == (0, True), done.stderr
    assert database.query("SELECT count(*) FROM pg_database WHERE datname ~ '^test_'") == [(0,)]


FLASK = """
import flask
import pglisten.flask

def create_app():
    app = flask.Flask("shop")
    app.config.from_prefixed_env()
    pglisten.flask.PgListen(app)
    return app
"""


def test_flask_has_the_command_line_with_the_database_of_the_application(
    run: Run, project: Path, database: Database, backend_name: str
) -> None:
    (project / "app.py").write_text(FLASK)
    settings = {
        "FLASK_SQLALCHEMY_DATABASE_URI": "postgresql+psycopg2://",
        "FLASK_PGLISTEN_BACKEND": backend_name,
    }
    doctor = run("-m", "flask", "pglisten", "doctor", "--json", **settings)
    assert json.loads(doctor.stdout)["backend"] == backend_name, doctor.stderr
    missing = run("-m", "flask", "pglisten", "notify", "-d", "dbname=no_such", "a", "--", "-5", **settings)
    assert (missing.returncode, "no_such" in missing.stderr) == (1, True), missing.stderr
