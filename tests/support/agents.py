"""APM agents: how to start each, and everything it records, as text. No agent sends its records.

Modules of agents are imported inside functions only: the environment decides which agents are installed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

APPLICATION = "SELECT 'the application''s own'"
"""What the application asks over a connection of its own. Every agent must record it."""


TESTS = str(Path(__file__).parents[1])


class Agent(ABC):
    """One agent. ``statements`` is the SQL that it has recorded, ``records`` everything."""

    def __init__(self) -> None:
        self.statements: list[str] = []
        self.records: list[str] = []

    @abstractmethod
    def start(self) -> None:
        """Instrument this process as the agent's documentation says."""

    @abstractmethod
    def unit(self, name: str) -> contextlib.AbstractContextManager[object]:
        """Return a context manager that makes a block one unit of work, like a request."""

    @abstractmethod
    def capture(self) -> None:
        """Report the exception that is being handled."""

    def ask(self, keywords: dict[str, Any]) -> None:
        """Have the application ask `APPLICATION` over a connection of its own."""
        import psycopg2

        with contextlib.closing(psycopg2.connect(**keywords)) as connection, connection.cursor() as cursor:
            cursor.execute(APPLICATION)

    def _record(self, record: object) -> None:
        self.records.append(json.dumps(_without_tests(record), default=repr, ensure_ascii=False))


def _without_tests(record: Any) -> Any:
    """Return *record* without the frames of the tests, whose variables are the application's own."""
    if isinstance(record, Mapping):
        if str(record.get("abs_path", "")).startswith(TESTS):
            return "a frame of the tests"
        return {key: _without_tests(value) for key, value in record.items()}
    return [_without_tests(each) for each in record] if isinstance(record, list | tuple) else record


class OpenTelemetry(Agent):
    """``Psycopg2Instrumentor``, which has psycopg2 make cursors of its own class."""

    def start(self) -> None:
        from opentelemetry import trace
        from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

        agent = self

        class Keep(SpanProcessor):
            def on_end(self, span: ReadableSpan) -> None:
                attributes = dict(span.attributes or {})
                agent.statements += [str(attributes[key]) for key in attributes if key == "db.statement"]
                agent._record(
                    [span.name, attributes, [(event.name, event.attributes) for event in span.events]]
                )

        provider = TracerProvider()
        provider.add_span_processor(Keep())
        trace.set_tracer_provider(provider)
        self._instrument()

    def _instrument(self) -> None:
        from opentelemetry.instrumentation.psycopg2 import Psycopg2Instrumentor

        Psycopg2Instrumentor().instrument(capture_parameters=True)

    def unit(self, name: str) -> contextlib.AbstractContextManager[object]:
        from opentelemetry import trace

        return trace.get_tracer(__name__).start_as_current_span(name)

    def capture(self) -> None:
        import sys

        from opentelemetry import trace

        trace.get_current_span().record_exception(sys.exc_info()[1])


class DbApi(OpenTelemetry):
    """``dbapi.trace_integration``, which puts a proxy in place of what a function returns."""

    def _instrument(self) -> None:
        import pg8000.dbapi
        import pg8000.native
        import psycopg2
        from opentelemetry.instrumentation.dbapi import trace_integration

        for module, name in (
            (psycopg2, "connect"),
            (pg8000, "connect"),
            (pg8000.dbapi, "connect"),
            (pg8000.native, "Connection"),
        ):
            trace_integration(module, name, "postgresql", {}, capture_parameters=True)


class Datadog(Agent):
    """ddtrace as ``ddtrace-run`` starts it, with all that it can trace of psycopg2."""

    def start(self) -> None:
        # Read when ddtrace is imported. Nothing listens to port 1; spans are dropped before they are sent.
        os.environ |= {
            "DD_TRACE_AGENT_URL": "http://127.0.0.1:1",
            "DD_TRACE_STARTUP_LOGS": "0",
            "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
            "DD_REMOTE_CONFIGURATION_ENABLED": "false",
            "DD_CRASHTRACKING_ENABLED": "false",
            "DD_PSYCOPG_TRACE_CONNECT": "true",
            "DD_PSYCOPG_TRACE_FETCH_METHODS": "true",
        }
        import ddtrace.auto  # noqa: F401
        from ddtrace.trace import Span, TraceFilter, tracer

        agent = self

        class Keep(TraceFilter):
            def process_trace(self, trace: list[Span]) -> list[Span] | None:
                for span in trace:
                    if span.span_type == "sql" and span.name != "psycopg2.connect":
                        agent.statements.append(span.resource)
                    agent._record([span.name, span.resource, span.get_tags(), span.get_metrics()])
                return None

        tracer.configure(trace_processors=[Keep()])

    def unit(self, name: str) -> contextlib.AbstractContextManager[object]:
        from ddtrace.trace import tracer

        return tracer.trace(name)

    def capture(self) -> None:
        import sys

        from ddtrace.trace import tracer

        span = tracer.current_span()
        assert span is not None
        span.set_exc_info(*sys.exc_info())


class Elastic(Agent):
    """elastic-apm, with every variable of every frame, and with its handler for logs."""

    def start(self) -> None:
        import elasticapm
        from elasticapm.handlers.logging import LoggingHandler
        from elasticapm.transport.base import Transport

        agent = self

        class Keep(Transport):
            def start_thread(self, pid: int | None = None) -> None:
                """Start no thread: queued records stay here."""

            def queue(self, event_type: str, data: Any, flush: bool = False) -> None:
                statement = data.get("context", {}).get("db", {}).get("statement")
                agent.statements += [statement] if statement else []
                agent._record([event_type, data])

        globals()["ElasticTransport"] = Keep
        self._client = elasticapm.Client(
            service_name="application",
            server_url="http://127.0.0.1:1",
            transport_class=f"{__name__}.ElasticTransport",
            central_config=False,
            cloud_provider="none",
            metrics_interval="0s",
            span_compression_enabled=False,
            transaction_max_spans=100_000,
            collect_local_variables="all",
        )
        elasticapm.instrument()
        logging.root.addHandler(LoggingHandler(self._client))

    @contextlib.contextmanager
    def unit(self, name: str) -> Iterator[None]:
        self._client.begin_transaction("test")
        try:
            yield
        finally:
            self._client.end_transaction(name)

    def capture(self) -> None:
        self._client.capture_exception()


class Sentry(Agent):
    """sentry-sdk, which follows SQL through Django, logs and sockets, with the variables of all frames."""

    def start(self) -> None:
        import sentry_sdk
        from sentry_sdk.envelope import Envelope
        from sentry_sdk.integrations.django import DjangoIntegration
        from sentry_sdk.integrations.logging import LoggingIntegration
        from sentry_sdk.integrations.socket import SocketIntegration
        from sentry_sdk.transport import Transport

        agent = self

        class Keep(Transport):
            def capture_envelope(self, envelope: Envelope) -> None:
                for item in envelope.items:
                    record = json.loads(item.payload.get_bytes() or "null")
                    spans = record.get("spans", []) if isinstance(record, dict) else []
                    asked = [span["description"] for span in spans if span["op"] == "db"]
                    agent.statements += [sql for sql in asked if sql != "connect"]  # Django's own.
                    agent._record([item.type, record])

        sentry_sdk.init(
            dsn="http://public@127.0.0.1:1/1",
            transport=Keep,
            traces_sample_rate=1.0,
            send_default_pii=True,
            attach_stacktrace=True,
            enable_logs=True,
            max_breadcrumbs=1000,
            auto_session_tracking=False,
            integrations=[DjangoIntegration(), LoggingIntegration(logging.DEBUG), SocketIntegration()],
        )

    @contextlib.contextmanager
    def unit(self, name: str) -> Iterator[None]:
        import sentry_sdk

        with sentry_sdk.isolation_scope(), sentry_sdk.start_transaction(name=name):
            yield
        sentry_sdk.flush()

    def capture(self) -> None:
        import sentry_sdk

        sentry_sdk.capture_exception()

    def ask(self, keywords: dict[str, Any]) -> None:
        import django
        from django.conf import settings

        names = {"host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD", "dbname": "NAME"}
        place = {names[keyword]: value for keyword, value in keywords.items() if keyword in names}
        if not settings.configured:
            settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", **place}})
            django.setup(set_prefix=False)
        from django.db import connection

        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute(APPLICATION)


AGENTS: dict[str, type[Agent]] = {
    "opentelemetry": OpenTelemetry,
    "opentelemetry-dbapi": DbApi,
    "ddtrace": Datadog,
    "elastic-apm": Elastic,
    "sentry-sdk": Sentry,
}
