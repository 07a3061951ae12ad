"""Names in certificates: the message for a mismatch, and bytes that are no certificate."""

from __future__ import annotations

import datetime
import ipaddress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pglisten_pg8000._certificate_names import is_address, mismatch

KEY = ec.generate_private_key(ec.SECP256R1())


def certificate(common_name: str | None, *names: str) -> bytes:
    now = datetime.datetime.now(datetime.timezone.utc)
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else []
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(subject))
        .issuer_name(x509.Name([]))
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now)
    )
    if names:
        alternatives = [
            x509.IPAddress(ipaddress.ip_network(name) if "/" in name else ipaddress.ip_address(name))
            if name[0].isdigit()
            else x509.DNSName(name)
            for name in names
        ]
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize(
    ("made", "host", "why"),
    [
        (certificate("a"), "b", "server certificate for 'a' does not match host name 'b'"),
        (certificate("a", "c"), "b", "server certificate for 'c' does not match host name 'b'"),
        (certificate(None, "a", "c"), "b", "'a' (and 1 other name) does not match host name 'b'"),
        (certificate("a", "c", "10.0.0.1"), "1.1.1.1", "'c' (and 1 other name) does not match"),
        (certificate("a", "10.0.0.1"), "b", "'10.0.0.1' (and 1 other name) does not match"),
        (certificate("a", "10.0.0.1", "c", "d"), "b", "'10.0.0.1' (and 2 other names) does not match"),
        (certificate("a\n\x1b[31m"), "b", r"'a\n\x1b[31m' does not match"),
        (certificate(None), "b", "has no host name"),
        (certificate("b\0"), "b", "a name that contains NUL"),
        (certificate(None, "10.0.0.0/8"), "10.0.0.0", "an IP address of 8 bytes"),
        (certificate("a"), "", "set host"),
    ],
)
def test_a_mismatch_names_what_does_not_match(made: bytes, host: str, why: str) -> None:
    found = mismatch(made, host)
    assert found is not None
    assert why in found


@pytest.mark.parametrize("names", [("a",), ("a", "b"), ("b", "a", "10.0.0.1")])
def test_a_match_returns_none(names: tuple[str, ...]) -> None:
    assert mismatch(certificate("c", *names), "A") is None


@pytest.mark.parametrize("broken", [b"", b"\x30\x03\x02\x01\x01", certificate("a", "b")[:-60], b"\xff" * 40])
def test_bytes_that_are_no_certificate_raise(broken: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message is the parser's
        mismatch(broken, "a")


@pytest.mark.parametrize(
    ("host", "address"),
    [
        *(
            (text, True)
            for text in ("127.0.0.1", "127.1", "1", "0x7f000001", "017700000001", "::1", "::1.2.3.4")
        ),
        *(
            (text, False)
            for text in ("", "a", "127.0.0.1.", "256.0.0.1", "[::1]", "fe80::1%lo", "1.2.3.4.5", "é")
        ),
    ],
)
def test_addresses_are_read_as_the_c_library_does(host: str, address: bool) -> None:
    assert is_address(host) is address
