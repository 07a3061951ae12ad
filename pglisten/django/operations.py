"""Operations for migrations: an event log, and a trigger that notifies of changed rows."""
# pyright: basic

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import router
from django.db.migrations.operations.base import Operation

from .._eventlog.names import LogNames
from .._eventlog.schema import create_sql, drop_sql
from ._trigger import EVENTS, Trigger

__all__ = ["CreateEventLog", "NotifyTrigger"]


class _Sql(Operation):
    """Runs statements on PostgreSQL, and nothing elsewhere; changes no model."""

    def state_forwards(self, app_label: str, state: Any) -> None:
        pass

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if _allowed(app_label, schema_editor):
            schema_editor.execute(self._sql(app_label, to_state)[0], params=None)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if _allowed(app_label, schema_editor):
            schema_editor.execute(self._sql(app_label, to_state)[1], params=None)

    def _sql(self, app_label: str, state: Any) -> tuple[str, str]:
        raise NotImplementedError


class CreateEventLog(_Sql):
    """Make the event log *name* in *schema*, if it is not there. Backwards, remove it with its entries."""

    def __init__(self, name: str, schema: str = "public") -> None:
        self._names = LogNames(name, schema)

    def _sql(self, app_label: str, state: Any) -> tuple[str, str]:
        return create_sql(self._names), drop_sql(self._names)

    def describe(self) -> str:
        """Return what ``migrate`` and ``showmigrations`` say."""
        return f"Create event log {self._names}"

    @property
    def migration_name_fragment(self) -> str:
        """A part of the name of a migration."""
        return f"event_log_{self._names.name.lower()}"


class NotifyTrigger(_Sql):
    """Notify *channel* of each row of a model that is inserted, updated or deleted.

    *model* is the name of a model of the same Django application. The payload is JSON: ``{"op": "UPDATE",
    "id": 17}``, the primary key as ``id``, and the columns of *fields*. If that is too long for a
    notification, only ``op`` and ``id`` are in it. If the primary key changes, receivers get a ``DELETE`` of
    the old one too. The trigger never aborts a write: after an error, the payload is empty, and anything may
    have changed. *events* are those that notify. Backwards, remove it.

    Raises `InvalidChannelName`, and `ConfigurationError` for events that there are not.
    """

    def __init__(
        self, model: str, channel: str, fields: Sequence[str] = (), events: Sequence[str] = EVENTS
    ) -> None:
        self._model, self._fields = model, fields
        self._trigger = Trigger(channel, tuple(events))

    def _sql(self, app_label: str, state: Any) -> tuple[str, str]:
        meta = state.apps.get_model(app_label, self._model)._meta
        columns = {name: meta.get_field(name).column for name in self._fields}
        made = (meta.db_table, meta.pk.column, columns)
        return self._trigger.create(*made), self._trigger.drop(meta.db_table)

    def describe(self) -> str:
        """Return what ``migrate`` and ``showmigrations`` say."""
        return f"Notify {self._trigger.channel!r} of changes of {self._model}"

    @property
    def migration_name_fragment(self) -> str:
        """A part of the name of a migration."""
        return f"notify_{self._model.lower()}"


def _allowed(app_label: str, schema_editor: Any) -> bool:
    connection = schema_editor.connection
    return connection.vendor == "postgresql" and bool(router.allow_migrate(connection.alias, app_label))
