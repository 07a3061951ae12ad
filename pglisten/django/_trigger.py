"""The SQL of a trigger that notifies of changed rows, and never gets in the way of a write. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from .._sql import MAX_CHANNEL, MAX_PAYLOAD, check_channel, quote_identifier, quote_literal
from ..errors import ConfigurationError

__all__ = ["EVENTS", "MAX_FIELDS", "Trigger"]

EVENTS = ("insert", "update", "delete")

RESERVED = ("op", "id")
"""Keys of each payload."""

MAX_FIELDS = 48
"""Further keys: a function of PostgreSQL takes 100 arguments, ``json_build_object`` two for each key."""


@dataclass(frozen=True)
class Trigger:
    """A trigger for *events* that notifies *channel*. Raises an error for what cannot be one."""

    channel: str
    events: tuple[str, ...] = EVENTS

    def __post_init__(self) -> None:
        check_channel(self.channel)
        if not self.events or not set(self.events) <= set(EVENTS):
            raise ConfigurationError(f"events are some of {', '.join(EVENTS)}, not {self.events!r}")

    def create(self, table: str, quoted: str, key: str, columns: Mapping[str, str]) -> str:
        """Return the statements that make it on *table*, *quoted* for SQL; *columns* are of further keys."""
        if wrong := set(columns) & set(RESERVED):
            raise ConfigurationError(f"each payload has {' and '.join(sorted(wrong))} already: leave it out")
        name, channel = self._name(table), quote_literal(self.channel)
        row = f"changed.{quote_identifier(key)}"
        extra = "".join(
            f", {quote_literal(label)}, changed.{quote_identifier(column)}"
            for label, column in columns.items()
        )
        body = f"""
DECLARE
    changed record;
    payload text;
BEGIN
    IF TG_OP = 'DELETE' THEN changed := OLD; ELSE changed := NEW; END IF;
    IF TG_OP = 'UPDATE' AND OLD.{quote_identifier(key)} IS DISTINCT FROM NEW.{quote_identifier(key)} THEN
        PERFORM pg_catalog.pg_notify({channel},
            pg_catalog.json_build_object('op', 'DELETE', 'id', OLD.{quote_identifier(key)})::text);
    END IF;
    payload := pg_catalog.json_build_object('op', TG_OP, 'id', {row}{extra});
    IF pg_catalog.octet_length(payload) > {MAX_PAYLOAD} THEN  -- the key alone: receivers read the row
        payload := pg_catalog.json_build_object('op', TG_OP, 'id', {row});
    END IF;
    PERFORM pg_catalog.pg_notify({channel}, payload);
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN  -- a key that is too long, a column that was renamed, …
    PERFORM pg_catalog.pg_notify({channel}, '');  -- receivers reload everything
    RAISE WARNING 'pglisten trigger on %: %', TG_RELID::regclass, SQLSTATE;
    RETURN NULL;
END """
        tag = "$pglisten$"
        while tag in body:
            tag = tag[:-1] + "_$"
        return (
            f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS {tag}{body}{tag};\n"
            f"CREATE TRIGGER {name} AFTER {' OR '.join(self.events).upper()} ON {quoted}\n"
            f"    FOR EACH ROW EXECUTE FUNCTION {name}();"
        )

    def drop(self, table: str, quoted: str) -> str:
        """Return the statements that remove it, if it is there."""
        name = self._name(table)
        return f"DROP TRIGGER IF EXISTS {name} ON {quoted};\nDROP FUNCTION IF EXISTS {name}();"

    def _name(self, table: str) -> str:
        name = f"{table}_notify_{self.channel}"
        if len(name.encode()) > MAX_CHANNEL:
            name = "pglisten_" + hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()
        return quote_identifier(name)
