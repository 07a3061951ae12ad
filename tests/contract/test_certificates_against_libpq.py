"""Certificates and hosts, compared with libpq itself under ``sslmode=verify-full``.

The server does the handshake alone: a client that gets an answer has accepted the certificate.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterator, Sequence

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.libpq import Libpq
from support.servers.certificates import Authority
from support.servers.handshakes import Clients, HandshakeServer

COMPARE = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])

AUTHORITY = Authority("an authority of ours")
KEY = ec.generate_private_key(ec.SECP256R1())
KEY_PEM = KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
).decode()

CommonName = str | tuple[str, _ASN1Type]


def dns(*names: str) -> list[x509.GeneralName]:
    return [x509.DNSName(name) for name in names]


def ip(*addresses: str) -> list[x509.GeneralName]:
    """Addresses; a network gives an address of twice the length, which is none."""
    networks = [
        ipaddress.ip_network(text) if "/" in text else ipaddress.ip_address(text) for text in addresses
    ]
    return [x509.IPAddress(network) for network in networks]


def certificate(common_names: Sequence[CommonName], alternatives: Sequence[x509.GeneralName]) -> str:
    now = datetime.datetime.now(datetime.timezone.utc)
    attributes = [
        x509.NameAttribute(NameOID.COMMON_NAME, name)
        if isinstance(name, str)
        else x509.NameAttribute(NameOID.COMMON_NAME, name[0], name[1])
        for name in common_names
    ]
    issuer = AUTHORITY.pair
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "pglisten"), *attributes]))
        .issuer_name(issuer.certificate.subject)
        .public_key(KEY.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False
        )
    )
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    signed = builder.sign(issuer.key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode() + KEY_PEM


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clients]:
    Libpq()  # leaves the tests out where libpq is too old: it looked at no IP addresses before version 15
    folder = tmp_path_factory.mktemp("handshakes")
    with HandshakeServer(folder) as server:
        yield Clients(server, AUTHORITY.pem, folder)


NUL = "db.example.com\0.example.org"
DB, LOOPBACK = "db.example.com", "127.0.0.1"


@pytest.mark.parametrize(
    ("common_names", "alternatives", "host", "accepted"),
    [
        # Names
        ([DB], [], DB, True),
        ([DB], [], "DB.Example.COM", True),
        ([DB], [], "db.example.com.", False),
        (["db.example.com."], [], DB, False),
        ([], [], DB, False),
        ([], dns(DB), DB, True),
        ([DB], dns("other.example.com"), DB, False),
        ([DB], ip("10.0.0.1"), DB, True),
        ([DB], [x509.RFC822Name("root@example.com")], DB, True),
        ([], dns("a.example.com", "b.example.com", DB), DB, True),
        ([DB, "other.example.com"], [], DB, True),
        (["other.example.com", DB], [], DB, False),
        # Wildcards
        ([], dns("*.example.com"), DB, True),
        (["*.example.com"], [], DB, True),
        ([], dns("*.EXAMPLE.com"), DB, True),
        ([], dns("*.example.com"), "db_1.example.com", True),
        ([], dns("*.example.com"), "xn--bcher-kva.example.com", True),
        ([], dns("*.example.com"), "a.db.example.com", False),
        ([], dns("*.example.com"), "example.com", False),
        ([], dns("*.example.com"), "*.example.com", True),
        ([], dns("*.com"), "example.com", True),
        ([], dns("*"), "localhost", False),
        ([], dns("*."), "db.", False),
        ([], dns("d*.example.com"), DB, False),
        ([], dns("*b.example.com"), DB, False),
        ([], dns("db.*.com"), DB, False),
        ([], dns("*.*.com"), DB, False),
        ([], dns("*.0.0.1"), LOOPBACK, True),
        # Addresses
        ([LOOPBACK], [], LOOPBACK, True),
        ([], dns(LOOPBACK), LOOPBACK, True),
        ([], ip(LOOPBACK), LOOPBACK, True),
        ([], ip(LOOPBACK), "127.1", True),
        ([], ip(LOOPBACK), "2130706433", True),
        ([LOOPBACK], dns("other.example.com"), LOOPBACK, True),
        ([LOOPBACK], ip("10.0.0.1"), LOOPBACK, False),
        ([LOOPBACK], [], "127.1", False),
        ([], ip("::1"), "::1", True),
        ([], ip("::1"), "0:0::0:1", True),
        (["::1"], [], "::1", True),
        ([], ip("::ffff:127.0.0.1"), LOOPBACK, False),
        ([], ip(LOOPBACK), "::ffff:127.0.0.1", False),
        ([], ip("127.0.0.0/8"), LOOPBACK, False),
        ([], [*ip(LOOPBACK), *ip("127.0.0.0/8")], LOOPBACK, True),
        ([], [*ip("127.0.0.0/8"), *dns(DB)], DB, False),
        # NUL, and other types of string
        ([NUL], [], DB, False),
        ([], dns(NUL), DB, False),
        ([], dns(NUL, DB), DB, False),
        ([], dns(DB, NUL), DB, True),
        ([(DB, _ASN1Type.PrintableString)], [], DB, True),
        ([(DB, _ASN1Type.IA5String)], [], DB, True),
        ([(DB, _ASN1Type.T61String)], [], DB, True),
        ([(DB, _ASN1Type.BMPString)], [], DB, False),
        # International names are compared as they are written
        (["bücher.example"], [], "bücher.example", True),
        (["BÜCHER.example"], [], "bücher.example", False),
        ([], dns("xn--bcher-kva.example"), "bücher.example", False),
        ([], dns("xn--bcher-kva.example"), "xn--bcher-kva.example", True),
        # What is no name of a host, and is compared all the same
        ([], dns("a..b"), "a..b", True),
        ([], dns("x" * 64 + ".example"), "x" * 64 + ".example", True),
        ([], dns("*.example.com"), "..example.com", True),
        ([], dns(".".join(["x" * 60] * 5)), ".".join(["x" * 60] * 5), False),
    ],
)
def test_a_certificate_is_accepted_as_by_libpq(
    clients: Clients,
    common_names: list[CommonName],
    alternatives: list[x509.GeneralName],
    host: str,
    accepted: bool,
) -> None:
    assert bool(clients.agree(certificate(common_names, alternatives), host)) is not accepted


_HOSTS = [
    *(DB, "DB.example.com", "db.example.com.", "a.db.example.com", "db_1.example.com", "example.com", "com"),
    *(
        "localhost",
        LOOPBACK,
        "127.1",
        "0x7f.1",
        "2130706433",
        "127.0.0.1.",
        "10.0.0.1",
        "1.2.3",
    ),
    *("::1", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1", "::127.0.0.1", "fe80::1%lo", "[::1]"),
    *(
        "bücher.example",
        "xn--bcher-kva.example",
        "*.example.com",
        "*.com",
        "a*.com",
        "..com",
    ),
]
_NAMES = [
    *_HOSTS,
    *("*", "*.", "*.*", "*.*.com", "*.example.*", "*.EXAMPLE.com", "d*.example.com", "*b.example.com"),
    *(
        "db.*.com",
        "**.example.com",
        "*.0.0.1",
        "*.1",
        "*.db.example.com",
        NUL,
        "\0",
        " db.example.com",
        "*.bücher",
    ),
]
_dns = st.sampled_from([name for name in _NAMES if name.isascii()]).map(x509.DNSName)
_ip = st.sampled_from(ip(LOOPBACK, "10.0.0.1", "::1", "::ffff:127.0.0.1", "127.0.0.0/8", "::/64"))
_others = st.sampled_from(
    [x509.RFC822Name("root@example.com"), x509.UniformResourceIdentifier("https://db.example.com/")]
)


@pytest.mark.sweep
@COMPARE
@given(
    st.lists(st.sampled_from(_NAMES), max_size=2),
    st.lists(st.one_of(_dns, _dns, _ip, _others), max_size=3),
    st.sampled_from(_HOSTS),
)
def test_certificates_are_accepted_as_by_libpq(
    clients: Clients, common_names: list[str], alternatives: list[x509.GeneralName], host: str
) -> None:
    clients.agree(certificate(common_names, alternatives), host)


@pytest.mark.parametrize("sslsni", ["0", "1"])
@pytest.mark.parametrize(
    "host", [DB, LOOPBACK, "127.1", "1.2.3.4.", "0x7f.1", "::1", "db_1.example.com", "DB."]
)
def test_the_name_that_is_sent_is_libpqs(clients: Clients, host: str, sslsni: str) -> None:
    clients.agree(certificate([DB], []), host, sslsni=sslsni)
    names = clients.server.names
    assert names[0] == names[1]
    assert (names[0] is None) == (sslsni == "0" or host in (LOOPBACK, "127.1", "1.2.3.4.", "::1"))


def test_an_international_name_is_sent_in_ascii(clients: Clients) -> None:
    clients.server.use(certificate(["bücher.example"], []))
    assert not clients.pg8000("bücher.example")
    assert clients.server.names == ["xn--bcher-kva.example"]


@pytest.mark.parametrize("sslmode", ["prefer", "require", "verify-ca"])
def test_only_verify_full_compares_names(clients: Clients, sslmode: str) -> None:
    assert not clients.agree(certificate([], dns("other.example.com")), DB, sslmode=sslmode)
