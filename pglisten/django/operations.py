"""Operations for migrations: an event log, and a trigger that notifies of changed rows."""
# pyright: basic

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db import router
from django.db.migrations.operations.base import Operation

from .._eventlog.names import LogNames
from .._eventlog.schema import create_sql, drop_sql
from ..errors import ConfigurationError
from ._trigger import EVENTS, MAX_FIELDS, Trigger

__all__ = ["CreateEventLog", "NotifyTrigger"]


class _Sql(Operation):
    """Runs statements on PostgreSQL, and nothing elsewhere; changes no model."""

    def state_forwards(self, app_label: str, state: Any) -> None:
        pass

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        self._execute(0, app_label, schema_editor, to_state)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        self._execute(1, app_label, schema_editor, to_state)

    def _execute(self, step: int, app_label: str, schema_editor: Any, state: Any) -> None:
        connection, model = schema_editor.connection, self._of(app_label, state)
        hints = {} if model is None else {"model_name": model._meta.model_name, "model": model}
        if connection.vendor == "postgresql" and router.allow_migrate(connection.alias, app_label, **hints):
            schema_editor.execute(self._sql(model, schema_editor.quote_name)[step], params=None)

    def _of(self, app_label: str, state: Any) -> Any:
        """Return the model by which a router decides; ``None`` if it is for the whole application."""
        return None

    def _sql(self, model: Any, quoted: Callable[[str], str]) -> tuple[str, str]:
        """Return the statements that make it, and those that remove it. *quoted* quotes a table's name."""
        raise NotImplementedError


class CreateEventLog(_Sql):
    """Make the event log *name* in *schema*, if it is not there. Backwards, remove it with its entries."""

    def __init__(self, name: str, schema: str = "public") -> None:
        self._names = LogNames(name, schema)

    def _sql(self, model: Any, quoted: Callable[[str], str]) -> tuple[str, str]:
        return create_sql(self._names), drop_sql(self._names)

    def describe(self) -> str:
        """Return what ``migrate`` and ``showmigrations`` say."""
        return f"Create event log {self._names}"


class NotifyTrigger(_Sql):
    """Notify *channel* of each row of a model that is inserted, updated or deleted.

    *model* is the name of a model of the same Django application. The payload is JSON: ``{"op": "UPDATE",
    "id": 17}``, the primary key as ``id``, and the columns of *fields*. If that is too long for a
    notification, only ``op`` and ``id`` are in it. If the primary key changes, receivers get a ``DELETE`` of
    the old one too. The trigger never aborts a write: after an error, the payload is empty, and anything may
    have changed. *events* are those that notify. Backwards, remove it.

    Raises `InvalidChannelName`, and `ConfigurationError` for events that there are not and for more than 48
    fields. When it runs, `ConfigurationError` for fields that are no columns of the model's table, as those
    of a parent model.
    """

    def __init__(
        self, model: str, channel: str, fields: Sequence[str] = (), events: Sequence[str] = EVENTS
    ) -> None:
        if isinstance(fields, str) or len(fields) > MAX_FIELDS:
            raise ConfigurationError(f"fields is a list of up to {MAX_FIELDS} names: receivers read the row")
        if isinstance(events, str):
            raise ConfigurationError(f"events is a list, not {events!r}")
        self._model, self._fields = model, fields
        self._trigger = Trigger(channel, tuple(events))

    def _of(self, app_label: str, state: Any) -> Any:
        return state.apps.get_model(app_label, self._model)

    def _sql(self, model: Any, quoted: Callable[[str], str]) -> tuple[str, str]:
        meta = model._meta
        table = (meta.db_table, quoted(meta.db_table))
        columns = {name: _column(meta, _field(meta, name)) for name in self._fields}
        return self._trigger.create(*table, _column(meta, meta.pk), columns), self._trigger.drop(*table)

    def describe(self) -> str:
        """Return what ``migrate`` and ``showmigrations`` say."""
        return f"Notify {self._trigger.channel!r} of changes of {self._model}"


def _field(meta: Any, name: str) -> Any:
    try:
        return meta.get_field(name)
    except FieldDoesNotExist:
        raise ConfigurationError(f"{meta.object_name} has no field {name!r}") from None


def _column(meta: Any, field: Any) -> str:
    if field not in meta.concrete_model._meta.local_concrete_fields:
        raise ConfigurationError(
            f"{meta.object_name}.{field.name} is no column of {meta.db_table}: a trigger has columns of its "
            "own table, and a primary key of one column"
        )
    name: str = field.column
    return name
