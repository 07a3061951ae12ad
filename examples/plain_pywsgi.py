"""Server-Sent Events without a framework: gevent's server, pglisten's application, and permissions.

    python examples/plain_pywsgi.py 8000
    SECRET_KEY=... gunicorn -k gevent -c examples/gunicorn.conf.py --chdir examples plain_pywsgi:application

Then open http://127.0.0.1:8000/ in two windows. PGLISTEN_DSN or the PG* variables name the database.
PGLISTEN_BACKEND chooses the driver.
"""

if __name__ == "__main__":  # gunicorn's worker patches by itself
    from gevent import monkey

    monkey.patch_all()

import hashlib
import hmac
import os
import secrets
import signal
import sys
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import parse_qs

import gevent
from gevent.pywsgi import WSGIServer

import pglisten
from pglisten import sse

# All workers need the same key.
KEY = os.environ.get("SECRET_KEY", secrets.token_hex()).encode()

# Each worker connects at its first request.
broadcaster = pglisten.Broadcaster.from_config(os.environ)


def signed(user: str) -> str:
    return f"{user}.{hmac.new(KEY, user.encode(), hashlib.sha256).hexdigest()}"


def user_of(environ) -> str | None:
    """Return the user of a request, whose cookie has a valid signature; None without one."""
    try:
        cookie = SimpleCookie(environ.get("HTTP_COOKIE", "")).get("user")
    except CookieError:
        return None
    if cookie is None:
        return None
    user = cookie.value.partition(".")[0]
    return user if hmac.compare_digest(cookie.value.encode(), signed(user).encode()) else None


def authorize(environ, channel: str) -> bool:
    """Return whether the user of a request may read *channel*: the chat, or the user's own channel."""
    user = user_of(environ)
    return user is not None and channel in ("chat", f"user-{user}")


events = sse.app(broadcaster, authorize)


def application(environ, start_response):
    route = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    if route[1] == "/events":
        return events(environ, start_response)
    if route == ("GET", "/"):
        # In place of a login. Strict: browsers do not send it with requests from other sites.
        cookie = f"user={signed(secrets.token_hex(8))}; HttpOnly; SameSite=Strict; Path=/"
        start_response("200 OK", [("Content-Type", "text/html; charset=utf-8"), ("Set-Cookie", cookie)])
        return [Path(__file__).with_name("page.html").read_bytes()]
    if route == ("POST", "/notify"):
        start_response(notify(environ), [])
        return []
    start_response("404 Not Found", [])
    return []


def notify(environ) -> str:
    if user_of(environ) is None:
        return "403 Forbidden"
    form = parse_qs(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)).decode())
    try:
        broadcaster.notify("chat", form["text"][0], timeout=10)
    except (KeyError, ValueError):  # the text is missing, too long or holds a NUL
        return "400 Bad Request"
    except pglisten.Error:
        return "503 Service Unavailable"
    return "204 No Content"


def main(port: int) -> None:
    server = WSGIServer(("127.0.0.1", port), application)

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
