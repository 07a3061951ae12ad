from __future__ import annotations

pytest_plugins = [
    "pglisten_environment",
    "pglisten_servers",
    "pglisten_tls",
    "pglisten_proxy",
    "pglisten_leaks",
    "pglisten_listeners",
]
