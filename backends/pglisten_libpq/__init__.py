"""What the backends over libpq share: its settings, its texts, its way of waiting, and its sessions.

Nothing here imports a driver. `pglisten_psycopg2` and `pglisten_psycopg` do.
"""
