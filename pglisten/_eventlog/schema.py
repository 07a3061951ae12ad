"""The SQL that makes a log and removes it. Pure.

An entry gets no position when it is inserted: numbers drawn at INSERT become visible at COMMIT, in another
order, and a reader that has seen 2 would never look for 1. A deferred constraint trigger draws the position
when its transaction is about to commit, under a lock that the server releases after the transaction has
become visible. So positions are in the order of commits.

Positions go into a table of their own, because an UPDATE of the entry would leave a dead row for each entry,
and make SERIALIZABLE writers fail with false conflicts.
"""

from __future__ import annotations

from .._sql import quote_literal
from .missing import REMEDY
from .names import LogNames

__all__ = ["MAX_ENTRY", "VERSION", "create_sql", "drop_sql"]

VERSION = 1
"""The version of the tables that this release makes and understands."""

MAX_ENTRY = 16 << 20
"""Longest payload of an entry, in bytes: an entry is read in one piece, also where memory is short."""

LOCK = int.from_bytes(b"pglisten", "big")
"""Key of the advisory lock under which positions are drawn.

All logs of a database share it. With a lock for each log, two transactions that write to two logs in opposite
order would end in a deadlock."""

_MARK = "pglisten event log, version "
"""A log's tables and functions have this comment and a version: others are neither changed nor dropped."""


def create_sql(names: LogNames) -> str:
    """Return one statement that makes the log. It changes nothing if the log is there already.

    It is atomic however it is run: by itself, in a script, or in a migration's transaction. It contains no
    ``%``, ``:`` or ``?`` outside of names, which drivers and ORMs would take for a parameter. It fails if the
    tables were made by a newer release, or if the log's name belongs to another table.
    """
    parts = (names.positions, names.state, names.consumers, names.view)
    rest = ", ".join(f"to_regclass({_text(each)})" for each in parts)
    owned = " OR ".join(map(_is_ours, parts))
    return _block(
        names,
        f"""\
    IF mark IS NOT NULL THEN
        IF CAST(substr(mark, {len(_MARK) + 1}) AS integer) > {VERSION} THEN
            RAISE EXCEPTION USING ERRCODE = '0A000',
                MESSAGE = {_text(f"the event log {names} was made by a newer release of pglisten")},
                HINT = 'This release knows version {VERSION}. Upgrade pglisten.';
        END IF;
    END IF;
    IF (mark IS NOT NULL AND num_nulls({rest}) > 0) OR (mark IS NULL AND ({owned})) THEN
        RAISE EXCEPTION USING ERRCODE = '42P01',
            MESSAGE = {_text(f"the event log {names} lacks some of its tables")},
            HINT = {_text(REMEDY)};
    END IF;
    IF mark IS NOT NULL THEN
        PERFORM set_config('search_path', path, true);
        RETURN;
    END IF;
{_tables(names)}
{_triggers(names)}
{_marks(names)}
""",
    )


def drop_sql(names: LogNames, *, missing_ok: bool = True) -> str:
    """Return one statement that removes the log and its entries.

    If nothing of it is there, it fails with the SQLSTATE 42P01, unless *missing_ok*.
    """
    check = ""
    if not missing_ok:
        parts = " OR ".join(_is_ours(each, kind) for kind, each in _parts(names))
        message = _text(f"nothing of the event log {names} exists")
        hint = _text(f"there is no event log {names}: look at its name and its schema")
        check = f"""\
    IF NOT ({parts}) THEN
        RAISE EXCEPTION USING ERRCODE = '42P01', MESSAGE = {message}, HINT = {hint};
    END IF;
"""
    view = f"    IF mark IS NOT NULL THEN DROP VIEW IF EXISTS {names.view}; END IF;\n"
    # Without the entries' table, the rest is known by its own comments.
    rest = (
        f"    IF mark IS NOT NULL OR {_is_ours(each, kind)} THEN DROP {kind} IF EXISTS {each}; END IF;\n"
        for kind, each in _parts(names)
    )
    return _block(names, check + view + "".join(rest))


def _parts(names: LogNames) -> list[tuple[str, str]]:
    """Return what has a comment: kind and name."""
    tables = (names.entries, names.positions, names.state, names.consumers)
    functions = (f"{names.function}()", f"{names.qualified('_keep')}()")
    return [*(("TABLE", each) for each in tables), *(("FUNCTION", each) for each in functions)]


def _marks(names: LogNames) -> str:
    return "\n".join(f"    COMMENT ON {kind} {each} IS '{_MARK}{VERSION}';" for kind, each in _parts(names))


def _is_ours(name: str, kind: str = "TABLE") -> str:
    """Return the condition that there is a table or function *name* with our comment."""
    number, catalog = ("to_regclass", "pg_class") if kind == "TABLE" else ("to_regprocedure", "pg_proc")
    return f"COALESCE(starts_with(obj_description({number}({_text(name)}), '{catalog}'), '{_MARK}'), false)"


def _block(names: LogNames, body: str) -> str:
    """Return a DO block that runs *body* if the log's name is free or the log's; ``mark`` is its comment."""
    return _quoted(
        "DO",
        f"""\
DECLARE
    -- Qualified: the types are looked up before the path is set.
    path pg_catalog.text = pg_catalog.current_setting('search_path');
    mark pg_catalog.text;
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    -- Two sessions that do this at once take turns.
    PERFORM pg_advisory_xact_lock({LOCK - 1});
    mark = obj_description(to_regclass({_text(names.entries)}), 'pg_class');
    IF to_regclass({_text(names.entries)}) IS NOT NULL
        AND (mark IS NULL OR NOT starts_with(mark, '{_MARK}')) THEN
        RAISE EXCEPTION USING ERRCODE = '42P07',
            MESSAGE = {_text(f"{names} exists and is no event log of pglisten")},
            HINT = 'Choose another name or schema.';
    END IF;
{body}    PERFORM set_config('search_path', path, true);
END
""",
    )


def _tables(names: LogNames) -> str:
    return f"""\
    CREATE TABLE {names.entries} (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        channel text NOT NULL
            CONSTRAINT channel_length CHECK (octet_length(channel) BETWEEN 1 AND 63),
        payload text NOT NULL DEFAULT ''
            CONSTRAINT payload_length CHECK (octet_length(payload) <= {MAX_ENTRY}),
        created timestamptz NOT NULL DEFAULT clock_timestamp()
    );
    CREATE TABLE {names.positions} (
        position bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
        id bigint NOT NULL,
        channel text NOT NULL
    );
    CREATE INDEX {names.plain("_position_channel")} ON {names.positions} (channel, position);
    CREATE TABLE {names.state} (
        one boolean PRIMARY KEY DEFAULT true CHECK (one),
        version integer NOT NULL,
        trimmed bigint NOT NULL DEFAULT 0
    ) WITH (fillfactor = 50);
    INSERT INTO {names.state} (version) VALUES ({VERSION});
    CREATE TABLE {names.consumers} (
        name text PRIMARY KEY,
        position bigint NOT NULL,
        updated timestamptz NOT NULL DEFAULT clock_timestamp()
    ) WITH (fillfactor = 50);
    CREATE VIEW {names.view} AS
        SELECT p.position, p.channel, e.payload, e.created
        FROM {names.positions} AS p JOIN {names.entries} AS e ON e.id = p.id;"""


def _triggers(names: LogNames) -> str:
    # EXECUTE is revoked: with it, any user could put the function on a table of their own, and so write
    # positions with the owner's rights.
    keep = names.qualified("_keep")
    number_body = _quoted(
        f"CREATE FUNCTION {names.function}() RETURNS trigger\n"
        "        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS",
        f"""\
    BEGIN
        -- Held until the transaction is visible to others, so positions are in the order of commits.
        PERFORM pg_catalog.pg_advisory_xact_lock({LOCK});
        INSERT INTO {names.positions} (id, channel) VALUES (NEW.id, NEW.channel);
        PERFORM pg_catalog.pg_notify({_text(names.bell)}, '');
        RETURN NULL;
    END
    """,
    )
    keep_body = _quoted(
        f"CREATE FUNCTION {keep}() RETURNS trigger\n"
        "        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS",
        f"""\
    BEGIN
        RAISE EXCEPTION USING ERRCODE = '0A000',
            MESSAGE = {_text(f"the event log {names} cannot be truncated: its readers would not notice")},
            HINT = 'Use trim, which they notice.';
    END
    """,
    )
    return f"""\
    {number_body};
    {keep_body};
    REVOKE ALL ON FUNCTION {names.function}(), {keep}() FROM PUBLIC;
    CREATE CONSTRAINT TRIGGER {names.plain("_number")} AFTER INSERT ON {names.entries}
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {names.function}();
    CREATE TRIGGER {names.plain("_keep")} BEFORE TRUNCATE ON {names.entries}
        FOR EACH STATEMENT EXECUTE FUNCTION {keep}();
    CREATE TRIGGER {names.plain("_keep")} BEFORE TRUNCATE ON {names.positions}
        FOR EACH STATEMENT EXECUTE FUNCTION {keep}();"""


def _quoted(before: str, body: str) -> str:
    """Return *before* and *body*, dollar-quoted by a tag that *body* does not hold."""
    tag = "$pglisten$"
    while tag in body:
        tag = tag[:-1] + "_$"
    return f"{before} {tag}\n{body}{tag}"


def _text(text: str) -> str:
    """Return *text* as a literal, plain if it can be: most of them are read by people."""
    literal = quote_literal(text)
    return literal if "\\" in literal else literal[1:]
