"""What ``pglisten.django.dsn`` makes of a project's DATABASES, and the SQL of operations, by Django."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from pglisten._conninfo import ConnInfo

pytest.importorskip("psycopg2", reason="Django's PostgreSQL backend needs a driver")

PROGRAM = """
import json, sys
from django.conf import settings
settings.configure(DATABASES=json.loads(sys.argv[1]))
import pglisten.django
try:
    print(json.dumps(["dsn", pglisten.django.dsn(*sys.argv[2:])]))
except pglisten.ConfigurationError as error:
    print(json.dumps(["error", str(error)]))
"""
"""In a process of its own: a process has one configuration."""

ENGINE = "django.db.backends.postgresql"


def _asked(databases: dict[str, dict[str, Any]], *alias: str) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(databases), *alias],
        capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    kind, text = json.loads(done.stdout)
    return kind, text


def _dsn(**settings: Any) -> ConnInfo:
    kind, text = _asked({"default": {"ENGINE": ENGINE, **settings}})
    assert kind == "dsn", text
    return ConnInfo.parse(text, {})


def _refusal(databases: dict[str, dict[str, Any]], *alias: str) -> str:
    kind, text = _asked(databases, *alias)
    assert kind == "error"
    return text


def test_every_setting_is_taken() -> None:
    password = "it's a\\ pä$$"
    info = _dsn(NAME="shop", USER="app", PASSWORD=password, HOST="db1", PORT=6000)
    assert (info.dbname, info.user, info.password, info.description) == (
        "shop",
        "app",
        password,
        "db1:6000/shop",
    )


def test_options_are_libpqs_and_those_for_queries_are_left_out() -> None:
    options = {
        "sslmode": "disable",
        "application_name": "shop",
        "connect_timeout": 3,
        "pool": {"min_size": 2},
        "isolation_level": 3,
        "assume_role": "writer",
        "server_side_binding": True,
    }
    info = _dsn(NAME="shop", USER="app", OPTIONS=options)
    assert (info.sslmode, info["application_name"], info.connect_timeout) == ("disable", "shop", 3.0)


def test_a_password_file_is_passed_on() -> None:
    assert (
        _dsn(NAME="shop", USER="app", OPTIONS={"passfile": "/etc/shop/pgpass"}).passfile == "/etc/shop/pgpass"
    )


def test_a_service_may_be_all_there_is() -> None:
    kind, text = _asked({"default": {"ENGINE": ENGINE, "OPTIONS": {"service": "shop"}}})
    assert (kind, text) == ("dsn", "service=shop")


def test_no_name_is_djangos_default() -> None:
    assert _dsn(NAME=None, USER="app").dbname == "postgres"


def test_another_database_is_chosen_by_its_alias() -> None:
    databases = {"default": {"ENGINE": ENGINE, "NAME": "a"}, "events": {"ENGINE": ENGINE, "NAME": "b"}}
    assert _asked(databases, "events") == ("dsn", "dbname=b")


def test_what_cannot_work_is_refused() -> None:
    databases = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
    assert _refusal(databases) == "settings.DATABASES['default'] is sqlite, not PostgreSQL"
    assert _refusal(databases, "events") == "settings.DATABASES has no 'events'; known are default"
    options = {"default": {"ENGINE": ENGINE, "NAME": "shop", "OPTIONS": {"cursors": "many"}}}
    assert "has cursors, which is no keyword of libpq's" in _refusal(options)


OPERATIONS = """
import django
from django.conf import settings

class Router:
    def allow_migrate(self, db, app_label, model_name=None, **hints):
        return model_name != "elsewhere"

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "shop"}},
    DATABASE_ROUTERS=[Router()],
)
django.setup()
from django.db import connection, models
from django.db.migrations import CreateModel
from django.db.migrations.state import ProjectState
from django.db.migrations.writer import OperationWriter
from pglisten import ConfigurationError
from pglisten.django.operations import CreateEventLog, NotifyTrigger

state, text = ProjectState(), models.TextField(db_column="remark")
for name, fields, options, bases in (
    ("Order", [("note", text), ("many", models.ManyToManyField("Order"))], {}, ()),
    ("Tenants", [], {"db_table": 'tenant"."orders'}, ()),
    ("Elsewhere", [], {}, ()),
    ("Special", [("extra", models.TextField())], {}, ("shop.Order",)),
    ("Same", [], {"proxy": True}, ("shop.Order",)),
):
    key = [] if bases else [("id", models.BigAutoField(primary_key=True))]
    CreateModel(name, key + fields, options, bases or None).state_forwards("shop", state)

def sql(operation):
    with connection.schema_editor(collect_sql=True, atomic=False) as editor:
        operation.database_forwards("shop", editor, state, state)
        operation.database_backwards("shop", editor, state, state)
    return "".join(editor.collected_sql)

for model, table in ("Order", '"shop_order"'), ("Same", '"shop_order"'), ("Tenants", '"tenant"."orders"'):
    made = sql(NotifyTrigger(model, "orders"))
    assert f" OR DELETE ON {table}" in made and f'_notify_orders" ON {table};' in made, made
assert "E'note', changed.\\"remark\\"" in sql(NotifyTrigger("Same", "orders", ["note"]))
assert sql(NotifyTrigger("Elsewhere", "orders")) == ""
for model, field in ("Special", "note"), ("Order", "many"), ("Order", "special"):
    try:
        raise AssertionError(sql(NotifyTrigger(model, "orders", [field])))
    except ConfigurationError as error:
        assert f"{model}.{field} is no column" in str(error), error
for wrong in "note", [f"f{number}" for number in range(49)]:
    try:
        raise AssertionError(NotifyTrigger("Order", "orders", wrong))
    except ConfigurationError as error:
        assert "a list of up to 48 names" in str(error), error
try:
    raise AssertionError(NotifyTrigger("Order", "orders", events="insert"))
except ConfigurationError as error:
    assert str(error) == "events is a list, not 'insert'", error
try:
    raise AssertionError(sql(NotifyTrigger("Order", "orders", ["remarks"])))
except ConfigurationError as error:
    assert str(error) == "Order has no field 'remarks'", error
if hasattr(models, "CompositePrimaryKey"):
    fields = [("a", models.IntegerField()), ("b", models.IntegerField())]
    CreateModel("Pair", [*fields, ("pk", models.CompositePrimaryKey("a", "b"))]).state_forwards("shop", state)
    try:
        raise AssertionError(sql(NotifyTrigger("Pair", "orders")))
    except ConfigurationError as error:
        assert "Pair.pk is no column" in str(error), error

import pglisten.django.operations
for operation in CreateEventLog("news", schema="tenant"), NotifyTrigger("Order", "orders", events=["insert"]):
    written, imports = OperationWriter(operation, indentation=0).serialize()
    assert imports == {"import pglisten.django.operations"}, imports
    assert sql(eval(written.rstrip(","))) == sql(operation)
print("done")
"""


def test_operations_are_written_and_run_for_what_a_table_has() -> None:
    done = subprocess.run(
        [sys.executable, "-c", OPERATIONS], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.stdout == "done\n", done.stderr


WRONG = """
import django, sys
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["pglisten.django"],
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "shop"}},
)
import pglisten, pglisten.django
pglisten.django.on("first")(lambda notification: None)
pglisten.django.on("second", queue_size=0)(lambda notification: None)
pglisten.django.on("third")(lambda notification: None)
try:
    django.setup()
except pglisten.ConfigurationError as error:
    print(error)
"""


def test_a_wrong_argument_of_a_function_ends_the_start() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WRONG], capture_output=True, text=True, timeout=50, check=False
    )
    assert "queue_size" in done.stdout, done.stderr


STARTED = """
import gc
from pglisten._consumers.registry import start_all
start_all()
print(sum(each.stats().consumers for each in gc.get_objects() if isinstance(each, pglisten.Broadcaster)))
"""


def test_a_wrong_argument_leaves_no_function_to_be_started() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WRONG + STARTED], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.stdout.endswith("\n0\n"), done.stderr
