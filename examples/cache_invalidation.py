"""A cache in each process that drops an entry when its row in the table changes.

    python examples/cache_invalidation.py create        # once: the table and its trigger
    python examples/cache_invalidation.py 8000
    curl http://127.0.0.1:8000/colour                   # blue, from the table
    curl http://127.0.0.1:8000/colour                   # blue, from the cache
    psql -c "UPDATE settings SET value = 'red' WHERE name = 'colour'"
    curl http://127.0.0.1:8000/colour                   # red, from the table

PGLISTEN_DSN or the PG* variables name the database. PGLISTEN_BACKEND chooses the driver.
"""

from gevent import monkey

monkey.patch_all()

import os
import signal
import sys

import database
import gevent
from gevent.pywsgi import WSGIServer

import pglisten

SCHEMA = """
CREATE TABLE settings (name text PRIMARY KEY, value text NOT NULL);
INSERT INTO settings VALUES ('colour', 'blue'), ('shape', 'round');
CREATE FUNCTION settings_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN PERFORM pg_notify('settings', OLD.name); END IF;
    IF TG_OP <> 'DELETE' THEN PERFORM pg_notify('settings', NEW.name); END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER settings_changed AFTER INSERT OR UPDATE OR DELETE ON settings
    FOR EACH ROW EXECUTE FUNCTION settings_changed();
"""

entries: dict[str, str] = {}
changes = 0


def lookup(name: str) -> tuple[str, str]:
    """Return a setting, and its source: the table or the cache."""
    if not listener.connected:
        # Without a connection no notification says that an entry is out of date.
        return read(name), "table"
    if name in entries:
        return entries[name], "cache"
    before = changes
    value = read(name)
    # If a change arrived during the read, the value may be out of date: do not keep it.
    if changes == before:
        entries[name] = value
    return value, "table"


def read(name: str) -> str:
    with database.connect() as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT value FROM settings WHERE name = %s", (name,))
        row = cursor.fetchone()
        return "" if row is None else row[0]


def forget() -> None:
    """Follow the listener until it is closed."""
    global changes
    for notification in listener:
        changes += 1
        if notification is None:  # the connection was lost: any row may have changed
            entries.clear()
            print("forgot everything", flush=True)
        else:
            entries.pop(notification.payload, None)
            print("forgot", notification.payload, flush=True)


def application(environ, start_response):
    value, source = lookup(environ["PATH_INFO"].strip("/"))
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{value}, from the {source}\n".encode()]


def main(port: int) -> None:
    listener.listen("settings")  # before the cache keeps an entry, so that no change is missed
    server = WSGIServer(("127.0.0.1", port), application)
    for number in (signal.SIGINT, signal.SIGTERM):
        gevent.signal_handler(number, server.close)
    follower = gevent.spawn(forget)
    server.start()
    print(f"serving on http://127.0.0.1:{port}/", flush=True)
    server.serve_forever(stop_timeout=1)
    listener.close()
    follower.join()


if __name__ == "__main__":
    if sys.argv[1:] == ["create"]:
        database.run(SCHEMA)
    else:
        with pglisten.Listener.from_config(os.environ) as listener:
            main(int(sys.argv[1]) if sys.argv[1:] else 8000)
