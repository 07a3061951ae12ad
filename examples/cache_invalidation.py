"""A cache in each process that drops an entry when its row in the table changes.

    python examples/cache_invalidation.py create        # once: the table and its trigger
    python examples/cache_invalidation.py 8000
    curl http://127.0.0.1:8000/colour                   # blue; the program says that it has read it
    curl http://127.0.0.1:8000/colour                   # blue, from the cache
    psql -c "UPDATE settings SET value = 'red' WHERE name = 'colour'"
    curl http://127.0.0.1:8000/colour                   # red, read again

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
from pglisten.cache import Cache

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

broadcaster = pglisten.Broadcaster.from_config(os.environ)


def read(name: str) -> str:
    print("read", name, flush=True)
    with database.connect() as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT value FROM settings WHERE name = %s", (name,))
        row = cursor.fetchone()
        return "" if row is None else row[0]


settings = Cache(broadcaster, "settings", read)


def application(environ, start_response):
    value = settings.get(environ["PATH_INFO"].strip("/"))
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{value}\n".encode()]


def main(port: int) -> None:
    broadcaster.start()  # under gunicorn, the hook post_worker_init does this
    server = WSGIServer(("127.0.0.1", port), application)
    for number in (signal.SIGINT, signal.SIGTERM):
        gevent.signal_handler(number, server.close)
    server.start()
    print(f"serving on http://127.0.0.1:{port}/", flush=True)
    server.serve_forever(stop_timeout=1)
    broadcaster.close()


if __name__ == "__main__":
    if sys.argv[1:] == ["create"]:
        database.run(SCHEMA)
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 8000)
