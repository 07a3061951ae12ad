"""Applications whose middleware compresses all that it may, one below each path: see test_sse_compressed.py.

Each has ``/page``, which is compressed, and ``/events``.
"""

from __future__ import annotations

from typing import Any

import flask
import flask_compress
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.gzip import gzip_page
from gevent.pywsgi import WSGIServer
from whitenoise import WhiteNoise

import pglisten
from pglisten import sse

PAGE = "all the same " * 100
broadcaster = pglisten.Broadcaster()  # PG* and PGLISTEN_BACKEND say where and how


def with_flask() -> flask.Flask:
    app = flask.Flask(__name__)
    app.config["COMPRESS_MIMETYPES"] = ["text/html", "text/event-stream"]
    flask_compress.Compress(app)
    app.get("/page")(lambda: PAGE)

    @app.get("/events")
    def events() -> flask.Response:
        stream = sse.stream(broadcaster.subscribe("orders", timeout=20))
        return flask.Response(stream, headers=sse.HEADERS)

    return app


def page(request: Any) -> HttpResponse:
    return HttpResponse(PAGE)


def events(request: Any) -> StreamingHttpResponse:
    stream = sse.stream(broadcaster.subscribe("orders", timeout=20))
    return StreamingHttpResponse(stream, headers=dict(sse.HEADERS))


urlpatterns = [
    path("page", page),
    path("events", events),
    path("decorated-page", gzip_page(page)),
    path("decorated-events", gzip_page(events)),
]
settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="x", USE_TZ=True)


def with_django(*middleware: str) -> WSGIHandler:
    settings.MIDDLEWARE = middleware
    return WSGIHandler()


GZIP = "django.middleware.gzip.GZipMiddleware"
APPLICATIONS: dict[str, Any] = {
    "django": with_django(GZIP),
    "django-whitenoise": with_django("whitenoise.middleware.WhiteNoiseMiddleware", GZIP),
    "django-decorator": with_django(),
    "flask-compress": with_flask(),
    "flask-compress-whitenoise": WhiteNoise(with_flask()),
}


def application(environ: dict[str, Any], start_response: Any) -> Any:
    _, name, environ["PATH_INFO"] = environ["PATH_INFO"].split("/", 2)
    environ["PATH_INFO"] = "/" + environ["PATH_INFO"]
    return APPLICATIONS[name](environ, start_response)


web = WSGIServer(("127.0.0.1", 0), application, log=None)
web.start()
print(web.server_port, flush=True)
web.serve_forever()
