"""The servers of the tests are what they say, as a driver sees them without pglisten."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from support.fixtures.tls import LOGINS, PLAIN_ONLY, TLS_ONLY, TlsServer

psycopg2 = pytest.importorskip("psycopg2", reason="these tests look through psycopg2")


def user_of(dsn: str) -> str:
    with contextlib.closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT current_user")
        (user,) = cursor.fetchone()
        return str(user)


@pytest.mark.parametrize("unix", [False, True])
@pytest.mark.parametrize("method", [method for method in LOGINS if method != "cert"])
def test_every_method_lets_its_user_in(auth_server: TlsServer, method: str, unix: bool) -> None:
    assert (
        user_of(auth_server.login(method, **({"host": auth_server.socket_directory} if unix else {})))
        == LOGINS[method]
    )


@pytest.mark.parametrize("method", ["scram-sha-256", "md5", "password"])
def test_a_wrong_password_keeps_out(auth_server: TlsServer, method: str) -> None:
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        user_of(auth_server.login(method, password="wrong"))


def test_a_client_certificate_lets_in(auth_server: TlsServer) -> None:
    keys: dict[str, Any] = {"sslmode": "require", "sslcert": auth_server.client_cert}
    assert user_of(auth_server.login("cert", sslkey=auth_server.client_key, **keys)) == "cert_user"
    encrypted = auth_server.login("cert", sslkey=auth_server.encrypted_key, sslpassword="secret", **keys)
    assert user_of(encrypted) == "cert_user"


def test_a_strangers_certificate_keeps_out(auth_server: TlsServer) -> None:
    dsn = auth_server.login(
        "cert", sslmode="require", sslcert=auth_server.stranger_cert, sslkey=auth_server.stranger_key
    )
    with pytest.raises(psycopg2.OperationalError):
        user_of(dsn)


def test_users_that_need_tls_or_its_absence(tls_server: TlsServer) -> None:
    for user, right, wrong in ((TLS_ONLY, "require", "disable"), (PLAIN_ONLY, "disable", "require")):
        assert user_of(tls_server.login("scram-sha-256", user=user, sslmode=right)) == user
        with pytest.raises(psycopg2.OperationalError, match="pg_hba"):
            user_of(tls_server.login("scram-sha-256", user=user, sslmode=wrong))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_the_certificate_is_good_for(tls_server: TlsServer, host: str) -> None:
    assert user_of(tls_server.dsn(host=host, sslmode="verify-full", sslrootcert=tls_server.ca)) == "postgres"


def test_what_verification_refuses(
    tls_server: TlsServer, expired_tls_server: TlsServer, misnamed_tls_server: TlsServer
) -> None:
    for server, keywords in (
        (tls_server, {"sslrootcert": tls_server.wrong_ca}),
        (tls_server, {"sslrootcert": tls_server.ca, "sslcrl": tls_server.revoking_crl}),
        (expired_tls_server, {"sslrootcert": tls_server.ca}),
        (misnamed_tls_server, {"sslrootcert": tls_server.ca}),
    ):
        with pytest.raises(psycopg2.OperationalError, match="certificate"):
            user_of(server.dsn(sslmode="verify-full", **keywords))


def test_a_revocation_list_that_names_nobody_lets_in(tls_server: TlsServer) -> None:
    assert user_of(tls_server.dsn(sslmode="verify-full", sslrootcert=tls_server.ca, sslcrl=tls_server.crl))
