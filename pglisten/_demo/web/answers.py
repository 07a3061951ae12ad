"""The responses of the web application, and its checks of requests."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["FILES", "SAFETY", "Answer", "Refusal", "check_host", "check_token", "posted", "reply"]

MAX_BODY = 65536
"""Longest body of a request in bytes: a payload has at most 7999, and JSON may need six for one."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
"""Any program may send a payload: if the page ever took one for markup, this policy would disarm it."""

SAFETY = (
    ("Content-Security-Policy", POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)
"""Headers of all responses."""

_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class Answer:
    """A whole response."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes


class Refusal(Exception):
    """A request that is refused; the message is one line for the user of the page."""

    def __init__(self, status: str, text: str, *headers: tuple[str, str]) -> None:
        super().__init__(text)
        self.answer = reply({"error": text}, status, *headers)


def reply(values: Mapping[str, object], status: str = "200 OK", *headers: tuple[str, str]) -> Answer:
    """Return an answer in JSON."""
    return _answer(json.dumps(values).encode(), "application/json", status, *headers)


def _answer(body: bytes, media_type: str, status: str = "200 OK", *headers: tuple[str, str]) -> Answer:
    content = (
        ("Content-Type", f"{media_type}; charset=utf-8"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
    )
    return Answer(status, [*content, *SAFETY, *headers], body)


def _files() -> dict[str, Answer]:
    found: dict[str, Answer] = {}
    for file in sorted(Path(__file__).with_name("static").iterdir()):
        name = "" if file.name == "index.html" else file.name
        found[f"/{name}"] = _answer(file.read_bytes(), _TYPES[file.suffix])
    return found


FILES = _files()
"""The page and its files, by path."""


def check_host(environ: WSGIEnvironment, *, any_host: bool) -> None:
    """Refuse a request whose Host is not a loopback name of this machine.

    Another site's name may resolve to this machine; its scripts could then read the page.
    """
    host: str = environ.get("HTTP_HOST", "").lower()
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    if any_host or name == "localhost" or name.endswith(".localhost"):
        return
    try:
        if ip_address(name.strip("[]")).is_loopback:
            return
    except ValueError:
        pass
    raise Refusal("403 Forbidden", "this page is not served under that name: open it as localhost")


def check_token(environ: WSGIEnvironment, token: str) -> None:
    """Refuse a request that does not come from the page: any site can make a browser send one."""
    if not hmac.compare_digest(environ.get("HTTP_X_DEMO_TOKEN", "").encode("latin-1"), token.encode()):
        raise Refusal("403 Forbidden", "this is for the page alone: reload it")


def posted(environ: WSGIEnvironment) -> tuple[str, str, str]:
    """Return key, name and text of a message that the page posts."""
    try:
        length = int(environ.get("CONTENT_LENGTH") or "")
    except ValueError:
        raise Refusal("411 Length Required", "say how long the request is") from None
    if not 0 <= length <= MAX_BODY:
        raise Refusal("413 Content Too Large", f"that is too long: {MAX_BODY} bytes at most")
    try:
        values: Any = json.loads(environ["wsgi.input"].read(length))
        key, name, text = values["key"], values["name"], values["text"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise Refusal("400 Bad Request", "that is not what the page sends") from None
    if not all(isinstance(each, str) for each in (key, name, text)):
        raise Refusal("400 Bad Request", "that is not what the page sends")
    return key, name, text
