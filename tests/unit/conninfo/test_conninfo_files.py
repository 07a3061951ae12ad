"""Certificates and keys: named files must exist, and libpq's default files are used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pglisten._conninfo import ConnInfo
from pglisten.errors import ConfigurationError


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".postgresql").mkdir()
    return tmp_path


def parse(home: Path, dsn: str) -> ConnInfo:
    return ConnInfo.parse(dsn, {"HOME": str(home)})


def put(home: Path, name: str) -> str:
    path = home / ".postgresql" / name
    path.touch()
    return str(path)


@pytest.mark.parametrize("keyword", ["sslrootcert", "sslcert", "sslkey", "sslcrl", "sslcrldir"])
def test_a_tls_file_that_is_named_has_to_exist(home: Path, keyword: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{keyword} \(or PG{keyword.upper()}\) names '/no/such'"):
        parse(home, f"host=db {keyword}=/no/such")
    assert parse(home, f"host=db {keyword}='{home}'")[keyword] == str(home)


def test_without_tls_nobody_looks_for_its_files(home: Path) -> None:
    parse(home, "host=db sslmode=disable sslcert=/no/such")
    parse(home, "host=/run/pg sslmode=verify-full sslcert=/no/such")


@pytest.mark.parametrize("sslmode", ["verify-ca", "verify-full"])
def test_verification_needs_a_root_certificate(home: Path, sslmode: str) -> None:
    with pytest.raises(
        ConfigurationError, match=rf"^sslmode={sslmode} needs a root certificate: set sslroot"
    ):
        parse(home, f"host=db sslmode={sslmode}")
    root = put(home, "root.crt")
    assert parse(home, f"host=db sslmode={sslmode}").tls_file("sslrootcert") == root


def test_the_systems_roots_need_no_file_and_mean_verify_full(home: Path) -> None:
    info = parse(home, "host=db sslrootcert=system")
    assert (info.sslmode, info.effective_sslmode, info.tls_file("sslrootcert")) == (
        "verify-full",
        "verify-full",
        "system",
    )


def test_require_means_verify_ca_where_there_is_a_root_certificate(home: Path) -> None:
    assert parse(home, "host=db sslmode=require").effective_sslmode == "require"
    put(home, "root.crt")
    info = parse(home, "host=db sslmode=require")
    assert (info.sslmode, info.effective_sslmode) == ("require", "verify-ca")
    assert info.at("127.0.0.1").effective_sslmode == "verify-ca"
    assert parse(home, "host=db").effective_sslmode == "prefer"


def test_a_unix_socket_has_no_tls(home: Path) -> None:
    assert parse(home, "host=/run/pg sslmode=require").effective_sslmode == "disable"


def test_a_default_client_certificate_comes_with_its_key(home: Path) -> None:
    key = put(home, "postgresql.key")
    assert parse(home, "host=db").tls_file("sslkey") == ""
    certificate = put(home, "postgresql.crt")
    info = parse(home, "host=db")
    assert (info.tls_file("sslcert"), info.tls_file("sslkey")) == (certificate, key)


def test_sslcertmode_disable_sends_no_certificate(home: Path) -> None:
    certificate, key = put(home, "postgresql.crt"), put(home, "postgresql.key")
    info = parse(home, f"host=db sslcertmode=disable sslcert='{certificate}' sslkey='{key}'")
    assert (info.tls_file("sslcert"), info.tls_file("sslkey")) == ("", "")


def test_the_default_revocation_list_steps_back_for_a_directory_of_them(home: Path) -> None:
    revoked = put(home, "root.crl")
    assert parse(home, "host=db").tls_file("sslcrl") == revoked
    assert parse(home, f"host=db sslcrldir='{home}'").tls_file("sslcrl") == ""


def test_without_a_home_directory_there_are_no_default_files() -> None:
    assert ConnInfo({"host": "db"}).tls_file("sslrootcert") == ""


PKCS8 = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIH...\n-----END ENCRYPTED PRIVATE KEY-----\n"
TRADITIONAL = (
    b"-----BEGIN EC PRIVATE KEY-----\r\nProc-Type: 4,ENCRYPTED\r\nDEK-Info: AES-256-CBC,AB\r\n\r\nMIH...\r\n"
)
PLAIN = b"-----BEGIN PRIVATE KEY-----\nMIH...\n-----END PRIVATE KEY-----\n"
CERTIFICATE = b"-----BEGIN CERTIFICATE-----\nMIH...\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize("before", [b"", CERTIFICATE, b"Bag Attributes\n"])
@pytest.mark.parametrize(
    ("key", "encrypted"),
    [
        (PKCS8, True),
        (TRADITIONAL, True),
        (PLAIN, False),
        (PLAIN + PKCS8, False),
        (b"\x30\x81", False),
        (b"", False),
    ],
)
def test_an_encrypted_key_needs_sslpassword(
    home: Path, before: bytes, key: bytes, *, encrypted: bool
) -> None:
    put(home, "postgresql.crt")
    path = put(home, "postgresql.key")
    Path(path).write_bytes(before + key)
    if encrypted:
        with pytest.raises(
            ConfigurationError, match=f"^the private key '{path}' is encrypted: set sslpassword"
        ):
            parse(home, "host=db")
    else:
        parse(home, "host=db")
    for unused in ("sslpassword=x", "sslmode=disable", "sslcertmode=disable", "host=/run/pg"):
        parse(home, f"host=db {unused}")


def test_a_key_without_a_certificate_is_not_looked_at(home: Path) -> None:
    Path(put(home, "postgresql.key")).write_bytes(PKCS8)
    parse(home, "host=db")


def test_what_is_no_regular_file_is_not_read_for_a_key(home: Path) -> None:
    put(home, "postgresql.crt")
    os.mkfifo(home / ".postgresql" / "postgresql.key")
    parse(home, "host=db")
