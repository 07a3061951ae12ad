from __future__ import annotations

pytest_plugins = [
    "pglisten_environment",
    "pglisten_servers",
    "pglisten_tls",
    "pglisten_standby",
    "pglisten_pgbouncer",
    "pglisten_namespace",
    "pglisten_proxy",
    "pglisten_gunicorn",
    "pglisten_leaks",
    "pglisten_listeners",
    "pglisten_diagnosis",
    "pglisten_programs",
    "pglisten_examples",
    "pglisten_demo",
    "pglisten_browser",
    "pglisten_secrets",
    "pglisten_vault",
    "pglisten_chaos",
]
