"""Passwords and role names of all kinds, compared with libpq itself: SCRAM, MD5 and in the clear."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import unicodedata
from collections.abc import Iterator

import psycopg2
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg2 import sql
from psycopg2.extensions import encrypt_password

from pglisten.errors import ConnectionFailed
from pglisten.testing.postgres.server import JanitorProcess, PrivatePostgres
from pglisten_pg8000._saslprep import prepare
from support.fixtures.pg8000_sessions import connect_to
from support.fixtures.servers import private_kinds
from support.servers.server import PrivateServer

METHODS = ("scram-sha-256", "md5", "password")

HBA = [
    "host all postgres all password",
    *(f"host all +by_{method} all {method}" for method in METHODS if method != "scram-sha-256"),
    "host all all all scram-sha-256",
]

COMPARE = settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
CONNECT = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])

ODD = {
    "emoji": "open\U0001f600sesame",
    "tab in ASCII": "a\tb\x7f\x01",
    "tab beside a letter": "ä\tb",
    "private use": "a\ue000\U000f0000",
    "right to left": "\u05d0\u05d1",
    "right to left beside left to right": "\u05d0a\u05d0",
    "right to left at one end": "\u05d01",
    "left to right only once normalized": "\u05d0\u2122\u05d0",
    "prohibited only once normalized": "\u05d0\u00a8\u05d0",
    "a mark that changes direction": "a\u200eb\u202e",
    "unassigned in Unicode 3.2": "\u0221\u1e9e",
    "soft hyphen": "pass\u00adword",
    "nothing but a soft hyphen": "\u00ad",
    "spaces": "a\u00a0\u2003\u3000b",
    "in two tables": "a\u200bé",
    "ligature": "\ufb01sh",
    "deprecated accents": "a\u0340\u0341",
    "a lone accent": "\u0301",
    "accents out of order": "e\u0301\u0323",
    "corrected ideographs": "\U0002f868\U0002f874\U0002f91f\U0002f95f\U0002f9bf",
    "Hangul": "\u1112\u1161\u11ab",
    "a character that is none": "\ufdd0\uffff",
    "long": "ä€" * 600,
}

_characters = st.one_of(
    st.sampled_from(sorted({character for text in ODD.values() for character in text})),
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    st.sampled_from("ab1 '\"\\=,"),
)
texts = st.text(_characters, min_size=1, max_size=8)


@pytest.fixture(scope="module")
def passwords(janitor: JanitorProcess) -> Iterator[PrivateServer]:
    """A server with a role for each method, whose members log in by it."""
    postgres = PrivatePostgres(prefer=private_kinds(), janitor=janitor, hba=HBA)
    postgres.start()
    server = PrivateServer(postgres)
    for method in METHODS:
        server.query(f'CREATE ROLE "by_{method}"')
    yield server
    server.close()


@pytest.fixture(scope="module")
def connection(passwords: PrivateServer) -> Iterator[psycopg2.extensions.connection]:
    connection = psycopg2.connect(passwords.dsn())
    connection.autocommit = True
    yield connection
    connection.close()


@pytest.mark.parametrize("password", ODD.values(), ids=ODD)
def test_odd_passwords_are_prepared_as_by_libpq(
    connection: psycopg2.extensions.connection, password: str
) -> None:
    check_prepared(connection, password)


@COMPARE
@given(texts)
def test_passwords_are_prepared_as_by_libpq(
    connection: psycopg2.extensions.connection, password: str
) -> None:
    check_prepared(connection, password)


def check_prepared(connection: psycopg2.extensions.connection, password: str) -> None:
    """Compare with the verifier that libpq makes in this process."""
    verifier = encrypt_password(password, "any", connection, "scram-sha-256")
    _, made, keys = verifier.split("$")
    iterations, salt = made.split(":")
    salted = hashlib.pbkdf2_hmac("sha256", prepare(password), base64.b64decode(salt), int(iterations))
    assert hmac.digest(salted, b"Server Key", "sha256") == base64.b64decode(keys.partition(":")[2])


def libpq_connects(dsn: str) -> bool:
    try:
        psycopg2.connect(dsn).close()
    except psycopg2.OperationalError as exc:
        assert "password authentication failed" in str(exc)  # noqa: PT017
        return False
    return True


def pg8000_connects(dsn: str) -> bool:
    try:
        connect_to(dsn).close()
    except ConnectionFailed as exc:
        assert exc.sqlstate == "28P01"  # noqa: PT017
        return False
    return True


def check_log_in(
    connection: psycopg2.extensions.connection, server: PrivateServer, method: str, role: str, password: str
) -> None:
    """Compare who gets in: with the verifier that the server makes of *password*, and with libpq's own."""
    kind = "md5" if method == "md5" else "scram-sha-256"
    encrypted = encrypt_password(password, role, connection, kind)
    relatives = {
        password,
        unicodedata.normalize("NFKC", password),
        "".join(password.split()),
        password.replace("\u00ad", "").replace("\u00a0", " "),
        password + "x",
    }
    with connection.cursor() as cursor:
        cursor.execute(f"SET password_encryption = '{kind}'")
        for stored in (password, encrypted):
            name = sql.Identifier(role)
            cursor.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} IN ROLE {}").format(
                    name, sql.Literal(stored), sql.Identifier(f"by_{method}")
                )
            )
            try:
                for said in relatives - {""}:
                    dsn = server.dsn(user=role, password=said)
                    connects = libpq_connects(dsn)
                    assert pg8000_connects(dsn) is connects
                    assert connects or said != password
            finally:
                cursor.execute(sql.SQL("DROP ROLE {}").format(name))


@pytest.mark.sweep
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("password", ODD.values(), ids=ODD)
def test_odd_passwords_log_in_where_libpq_does(
    connection: psycopg2.extensions.connection, passwords: PrivateServer, password: str, method: str
) -> None:
    check_log_in(connection, passwords, method, f"r{secrets.token_hex(4)}", password)


@pytest.mark.sweep
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("role", [name for name in ODD if name != "long"])
def test_odd_roles_log_in_where_libpq_does(
    connection: psycopg2.extensions.connection, passwords: PrivateServer, role: str, method: str
) -> None:
    check_log_in(connection, passwords, method, ODD[role], "s3cret")


@pytest.mark.sweep
@CONNECT
@given(st.sampled_from(METHODS), texts, texts)
@example("scram-sha-256", "n=,r=x", "=2C,")
def test_roles_and_passwords_log_in_where_libpq_does(
    connection: psycopg2.extensions.connection,
    passwords: PrivateServer,
    method: str,
    role: str,
    password: str,
) -> None:
    check_log_in(connection, passwords, method, f"r{role}", password)
