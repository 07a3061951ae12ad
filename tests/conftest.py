from __future__ import annotations

pytest_plugins = [
    "support.fixtures.environment",
    "support.fixtures.servers",
    "support.fixtures.tls",
    "support.fixtures.standby",
    "support.fixtures.odyssey",
    "support.fixtures.pgbouncer",
    "support.fixtures.namespace",
    "support.fixtures.proxy",
    "support.fixtures.gunicorn",
    "support.fixtures.leaks",
    "support.fixtures.listeners",
    "support.fixtures.broadcasters",
    "support.fixtures.diagnosis",
    "support.fixtures.programs",
    "support.fixtures.examples",
    "support.fixtures.demo",
    "support.fixtures.browser",
    "support.fixtures.secrets",
    "support.fixtures.vault",
    "support.fixtures.chaos",
]
