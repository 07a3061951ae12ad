"""Server-Sent Events with Flask: every open page shows each message that is sent.

    python examples/flask_stream.py 8000
    gunicorn -k gevent -c examples/gunicorn.conf.py --chdir examples flask_stream:app

Then open http://127.0.0.1:8000/ in two windows. PGLISTEN_DSN or the PG* variables name the database.
PGLISTEN_BACKEND chooses the driver.
"""

if __name__ == "__main__":  # gunicorn's worker patches by itself
    from gevent import monkey

    monkey.patch_all()

import os
import signal
import sys
from pathlib import Path

import gevent
from flask import Flask, request
from gevent.pywsgi import WSGIServer

import pglisten
import pglisten.flask

app = Flask(__name__)
app.config.from_mapping({name: value for name, value in os.environ.items() if name.startswith("PGLISTEN_")})

listening = pglisten.flask.PgListen(app)  # each worker connects at its first request


@app.get("/")
def page():
    return Path(__file__).with_name("page.html").read_text()


@app.get("/events")
def events():
    return listening.stream("chat")


@app.post("/notify")
def notify():
    try:
        listening.broadcaster.notify("chat", request.form["text"], timeout=10)
    except ValueError as error:  # the text is too long or holds a NUL
        return str(error), 400
    return "", 204


@app.errorhandler(pglisten.Error)
def unavailable(error):
    return "the database is not available", 503, {"Retry-After": "3"}


def main(port: int) -> None:
    server = WSGIServer(("127.0.0.1", port), app)

    def stop():
        server.close()  # no new requests
        listening.broadcaster.close()  # ends the streams

    for number in (signal.SIGINT, signal.SIGTERM):
        gevent.signal_handler(number, stop)
    server.start()
    print(f"serving on http://127.0.0.1:{port}/", flush=True)
    server.serve_forever(stop_timeout=1)


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 8000)
