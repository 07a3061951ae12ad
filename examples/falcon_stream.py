"""Server-Sent Events with Falcon: every open page shows each message that is sent.

    python examples/falcon_stream.py 8000
    gunicorn -k gevent -c examples/gunicorn.conf.py --chdir examples falcon_stream:app

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

import falcon
import gevent
from gevent.pywsgi import WSGIServer

import pglisten
from pglisten import sse

# Each worker connects at its first request.
broadcaster = pglisten.Broadcaster.from_config(os.environ)


class Page:
    def on_get(self, request, response):
        response.content_type = falcon.MEDIA_HTML
        response.text = Path(__file__).with_name("page.html").read_text()


class Events:
    def on_get(self, request, response):
        answer = sse.response(broadcaster, request.env, "chat")
        response.status = answer.status
        response.set_headers(answer.headers)
        response.stream = answer.body


class Notify:
    def on_post(self, request, response):
        try:
            broadcaster.notify("chat", request.get_media().get("text", ""), timeout=10)
        except ValueError as error:  # the text is too long or holds a NUL
            raise falcon.HTTPBadRequest(description=str(error)) from error
        response.status = falcon.HTTP_NO_CONTENT


def unavailable(request, response, error, params):
    raise falcon.HTTPServiceUnavailable(title="the database is not available", retry_after=3)


app = falcon.App()
app.add_route("/", Page())
app.add_route("/events", Events())
app.add_route("/notify", Notify())
app.add_error_handler(pglisten.Error, unavailable)


def main(port: int) -> None:
    server = WSGIServer(("127.0.0.1", port), app)

    def stop():
        server.close()  # no new requests
        broadcaster.close()  # ends the streams

    for number in (signal.SIGINT, signal.SIGTERM):
        gevent.signal_handler(number, stop)
    server.start()
    print(f"serving on http://127.0.0.1:{port}/", flush=True)
    server.serve_forever(stop_timeout=1)


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 8000)
