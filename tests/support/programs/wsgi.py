"""A client that calls a WSGI application as a server does, through wsgiref.validate (PEP 3333)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator


@dataclass
class Response:
    """The application's answer to a server."""

    status: str
    headers: dict[str, str]
    body: Any

    def text(self) -> str:
        try:
            return b"".join(self.body).decode()
        finally:
            self.body.close()


class WsgiClient:
    """Calls as a WSGI server does, and closes the bodies that a test leaves open."""

    def __init__(self) -> None:
        self._bodies: list[Any] = []

    def ask(self, app: Any, query: str = "channel=orders", method: str = "GET", **environ: str) -> Response:
        environ |= {"REQUEST_METHOD": method, "QUERY_STRING": query}
        setup_testing_defaults(environ)
        started: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(
            status: str, headers: list[tuple[str, str]], exc_info: object = None
        ) -> Callable[[bytes], object]:
            started.append((status, headers))
            return lambda data: None

        body = validator(app)(environ, start_response)
        self._bodies.append(body)
        ((status, headers),) = started
        assert len(dict(headers)) == len(headers)
        return Response(status, dict(headers), body)

    def close(self) -> None:
        for body in self._bodies:
            body.close()


def anyone(environ: dict[str, Any], channel: str) -> bool:
    """Allow every stream."""
    return True


def refused(response: Response) -> str:
    """Return the text of a refusal; assert that it has what every refusal has."""
    text = response.text()
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Content-Length"] == str(len(text.encode()))
    assert text.endswith(".\n")
    return text.removesuffix("\n")
