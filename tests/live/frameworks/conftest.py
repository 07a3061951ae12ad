"""A Django project in a folder of its own, with a database of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import gevent.subprocess
import pytest

from support.fixtures.examples import Database
from support.timeouts import TIMEOUT

SETTINGS = """
import os
SECRET_KEY = "x"
USE_TZ = True
ROOT_URLCONF = "shop.views"
ALLOWED_HOSTS = ["*"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["pglisten.django", "shop"]
DATABASES = {"default": {
    "ENGINE": "django.db.backends.postgresql", "NAME": os.environ["PGDATABASE"],
    "PORT": os.environ.get("PORT", ""), "HOST": os.environ.get("HOST", ""),
}}
PGLISTEN_BACKEND = os.environ["BACKEND"]
if "DSN" in os.environ:
    PGLISTEN_DSN = os.environ["DSN"]
if "QUEUE_SIZE" in os.environ:
    PGLISTEN_QUEUE_SIZE = os.environ["QUEUE_SIZE"]
"""

MANAGE = """
import os, sys
from django.core.management import execute_from_command_line

os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
execute_from_command_line(sys.argv)
"""

MODELS = """
from django.db import models

class Order(models.Model):
    note = models.TextField(db_column="remark", null=True)
"""

MIGRATION = """
from django.db import migrations, models
from pglisten.django.operations import CreateEventLog, NotifyTrigger

class Migration(migrations.Migration):
    operations = [
        migrations.CreateModel("Order", [
            ("id", models.BigAutoField(primary_key=True)),
            ("note", models.TextField(db_column="remark", null=True)),
        ]),
        CreateEventLog("shop_events"),
        NotifyTrigger("Order", "orders", fields=["note"]),
    ]
"""

VIEWS = """
import pglisten.django
from django.db import transaction
from django.http import HttpResponse
from django.urls import path
from shop.models import Order

def events(request):
    with transaction.atomic():
        Order.objects.count()
        return pglisten.django.stream(request, "orders")

def entries(request):
    return pglisten.django.stream(request, "orders", log="shop_events")

def page(request):
    return HttpResponse("page")

urlpatterns = [path("events", events), path("entries", entries), path("page", page)]
"""

FILES = {
    "settings.py": SETTINGS,
    "manage.py": MANAGE,
    "shop/__init__.py": "",
    "shop/models.py": MODELS,
    "shop/views.py": VIEWS,
    "shop/migrations/__init__.py": "",
    "shop/migrations/0001_initial.py": MIGRATION,
}

Run: TypeAlias = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def run(project: Path, database: Database, backend_name: str) -> Run:
    """Return a function that runs Python in the project, without blocking the hub of the test."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = database.variables(BACKEND=backend_name, **variables)

        # The hub reaps the children of all threads, once gevent has started one.
        done: subprocess.CompletedProcess[str] = gevent.subprocess.run(
            [sys.executable, *arguments],
            cwd=project, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False,
        )  # fmt: skip
        return done

    return run


@pytest.fixture
def manage(run: Run) -> Run:
    """Return a function that runs manage.py."""
    return lambda *arguments, **variables: run("manage.py", *arguments, **variables)
