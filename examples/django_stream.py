"""Server-Sent Events with Django, in one file: every open page shows each message that is sent.

    python examples/django_stream.py 8000
    gunicorn -k gevent -c examples/gunicorn.conf.py --chdir examples django_stream:application

Then open http://127.0.0.1:8000/ in two windows. PGLISTEN_DSN or the PG* variables name the database.
PGLISTEN_BACKEND chooses the driver. (Django's own connections are those of DATABASES.)
"""

if __name__ == "__main__":  # gunicorn's worker patches by itself
    from gevent import monkey

    monkey.patch_all()

import os
import signal
import sys
from pathlib import Path

import gevent
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path
from django.views.decorators.http import require_POST
from gevent.pywsgi import WSGIServer

import pglisten
import pglisten.django

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    INSTALLED_APPS=["pglisten.django"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=[f"{__name__}.Unavailable"],
    SECRET_KEY="a project has its own",
    **{name: value for name, value in os.environ.items() if name.startswith("PGLISTEN_")},
)


def page(request):
    return HttpResponse(Path(__file__).with_name("page.html").read_text())


def events(request):
    return pglisten.django.stream(request, "chat")


@require_POST
def notify(request):
    # In a transaction use cursor.execute("SELECT pg_notify(%s, %s)", ...): the commit sends it.
    try:
        pglisten.django.broadcaster().notify("chat", request.POST.get("text", ""), timeout=10)
    except ValueError as error:  # the text is too long or holds a NUL
        return HttpResponse(str(error), status=400)
    return HttpResponse(status=204)


class Unavailable:
    """Middleware that answers 503 if the database does not answer."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        return self.get_response(request)

    def process_exception(self, request, error):
        if isinstance(error, pglisten.Error):
            return HttpResponse("the database is not available", status=503, headers={"Retry-After": "3"})
        return None


urlpatterns = [path("", page), path("events", events), path("notify", notify)]
application = get_wsgi_application()


def main(port: int) -> None:
    server = WSGIServer(("127.0.0.1", port), application)

    def stop():
        server.close()  # no new requests
        pglisten.django.broadcaster().close()  # ends the streams

    for number in (signal.SIGINT, signal.SIGTERM):
        gevent.signal_handler(number, stop)
    server.start()
    print(f"serving on http://127.0.0.1:{port}/", flush=True)
    server.serve_forever(stop_timeout=1)


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 8000)
