"""What every backend promises, as tests to inherit; needs pytest.

A backend's test file is a few lines::

    class TestMyBackend(BackendContract, WireContract):
        @pytest.fixture
        def backend(self) -> Backend:
            return MyBackend()

        @pytest.fixture
        def dsn(self) -> str:
            return "host=127.0.0.1 dbname=test"

* `BackendContract`: all of `ConnectContract`, `QueryContract`, `FetchContract`, `NotificationContract` and
  `EndContract`.
  The server must speak English (``lc_messages``).
* `WireContract`: the network at its worst. ``dsn`` must lead to PostgreSQL over TCP.
* `TlsContract` and `AuthenticationContract`: more fixtures, which their docstrings name.

A backend that cannot meet the server as a test needs it overrides that fixture: see `ContractFixtures`.
"""

from __future__ import annotations

import pytest

# Before the modules are imported, or a failing assertion shows no values.
for _module in (
    "_authentication",
    "_fetching",
    "_fixtures",
    "_forking",
    "_network",
    "_notifications",
    "_observing",
    "_queries",
    "_sessions",
    "_tls",
    "_wire",
):
    pytest.register_assert_rewrite(f"{__name__}.{_module}")

from ._authentication import AuthenticationContract  # noqa: E402
from ._fetching import FetchContract  # noqa: E402
from ._fixtures import Connect, ContractFixtures  # noqa: E402
from ._notifications import NotificationContract  # noqa: E402
from ._queries import QueryContract  # noqa: E402
from ._sessions import ConnectContract, EndContract  # noqa: E402
from ._tls import TlsContract, TlsSite  # noqa: E402
from ._wire import WireContract  # noqa: E402

__all__ = [
    "AuthenticationContract",
    "BackendContract",
    "Connect",
    "ConnectContract",
    "ContractFixtures",
    "EndContract",
    "FetchContract",
    "NotificationContract",
    "QueryContract",
    "TlsContract",
    "TlsSite",
    "WireContract",
]


class BackendContract(ConnectContract, QueryContract, FetchContract, NotificationContract, EndContract):
    """Everything that `pglisten.backend` promises and that a server in memory can show."""
