"""What a backend promises about logging in."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

import pytest

from ...backend import Backend, ConnInfo
from ...errors import ConnectionFailed
from ._fixtures import Connect, ContractFixtures
from ._observing import answer, connect_to, every_descriptor_returned

__all__ = ["AuthenticationContract"]

_METHODS = ("scram-sha-256", "md5", "password")


class AuthenticationContract(ContractFixtures):
    """Right and wrong passwords, with each of PostgreSQL's methods that take one."""

    @pytest.fixture
    def logins(self) -> Mapping[str, str]:
        """Return a connection string, with user and password, for each method that takes a password."""
        raise NotImplementedError(
            f"define a fixture `logins` with a connection string for {', '.join(_METHODS)}"
        )

    @pytest.fixture(params=_METHODS)
    def conninfo(self, request: pytest.FixtureRequest, logins: Mapping[str, str]) -> ConnInfo:
        """Return the connection string for one method."""
        return ConnInfo.parse(logins[request.param], {})

    def test_the_right_password_logs_in(self, connect: Connect, conninfo: ConnInfo) -> None:
        assert answer(connect(), "current_user::text") == conninfo.user

    @pytest.mark.parametrize("password", ["wrong", "\N{LATIN SMALL LETTER SHARP S}", "x" * 500])
    def test_a_wrong_password_is_28p01(self, backend: Backend, conninfo: ConnInfo, password: str) -> None:
        wrong = ConnInfo({**conninfo.values(), "password": password})
        with pytest.raises(ConnectionFailed) as caught:
            connect_to(backend, wrong)
        assert caught.value.sqlstate == "28P01"
        assert conninfo.user in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_without_a_password_the_error_says_that_one_is_wanted(
        self, backend: Backend, conninfo: ConnInfo
    ) -> None:
        with pytest.raises(ConnectionFailed, match="password"):
            connect_to(backend, ConnInfo({**conninfo.values(), "password": ""}))

    def test_no_error_shows_the_password(self, backend: Backend, conninfo: ConnInfo) -> None:
        secret = f"s3cret-{secrets.token_hex(4)}"
        with pytest.raises(ConnectionFailed) as caught:
            connect_to(backend, ConnInfo({**conninfo.values(), "password": secret}))
        error: BaseException | None = caught.value
        while error is not None:
            assert secret not in f"{error} {error!r} {vars(error)}"
            error = error.__cause__ or error.__context__

    def test_a_refused_login_leaves_no_descriptor(self, backend: Backend, conninfo: ConnInfo) -> None:
        wrong = ConnInfo({**conninfo.values(), "password": "wrong"})
        connect_to(backend, conninfo).close()
        with every_descriptor_returned():
            for _ in range(5):
                with pytest.raises(ConnectionFailed):
                    connect_to(backend, wrong)
