"""The SCRAM exchange against a server that does its part, or gets it wrong."""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa

from pglisten_pg8000._failure import StartupFailed
from pglisten_pg8000._scram import MAX_ITERATIONS, Exchange

BOUND, UNBOUND = "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"
SALT = b"W22ZaJ0SNY7soEsUEjb6gQ=="


def certificate(key: object, algorithm: object = None, **options: object) -> bytes:
    now = datetime.datetime.now(datetime.timezone.utc)
    name = x509.Name([])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())  # type: ignore[attr-defined]
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, algorithm, **options)  # type: ignore[arg-type]
    )
    return made.public_bytes(serialization.Encoding.DER)


ELLIPTIC = certificate(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())


def begin(
    *offered: str, channel_binding: str = "prefer", certificate: bytes | None = None
) -> tuple[Exchange, bytes]:
    """An exchange, and the client's nonce."""
    exchange = Exchange(list(offered), channel_binding=channel_binding, certificate=certificate)
    return exchange, exchange.first().rpartition(b"r=")[2]


def answer(nonce: bytes, rest: bytes = b"") -> bytes:
    return b"r=%bserver,s=%b,i=4096%b" % (nonce, SALT, rest)


def signature(password: bytes, exchange: Exchange, challenge: bytes, final: bytes) -> bytes:
    """What the server answers to *final*, which it checks first (RFC 5802, 3)."""
    unproven, _, proof = final.rpartition(b",p=")
    bare = exchange.first().split(b",", 2)[2]
    text = b",".join((bare, challenge, unproven))
    salted = hashlib.pbkdf2_hmac("sha256", password, base64.b64decode(SALT), 4096)
    key = hmac.digest(salted, b"Client Key", "sha256")
    signed = hmac.digest(hashlib.sha256(key).digest(), text, "sha256")
    assert base64.b64decode(proof) == bytes(a ^ b for a, b in zip(key, signed, strict=True))
    return b"v=" + base64.b64encode(hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), text, "sha256"))


def test_each_proves_the_password_to_the_other() -> None:
    exchange, nonce = begin(UNBOUND)
    exchange.read_challenge(challenge := answer(nonce))
    outcome = signature(b"pencil", exchange, challenge, exchange.final("pencil"))
    assert not exchange.is_finished
    exchange.read_outcome(outcome)
    assert exchange.is_finished


def test_extensions_of_later_versions_are_ignored() -> None:
    exchange, nonce = begin(UNBOUND)
    exchange.read_challenge(challenge := answer(nonce, b",x=later"))
    exchange.read_outcome(signature(b"pencil", exchange, challenge, exchange.final("pencil")) + b",x=later")


def test_each_exchange_has_its_own_nonce_and_names_no_user() -> None:
    nonces = set()
    for _ in range(20):
        exchange, nonce = begin(UNBOUND)
        assert exchange.first() == b"n,,n=,r=" + nonce
        assert len(base64.b64decode(nonce)) == 18
        nonces.add(nonce)
    assert len(nonces) == 20


@pytest.mark.parametrize(
    ("offered", "binding", "tls", "mechanism", "header"),
    [
        ([UNBOUND], "disable", False, UNBOUND, b"n,,"),
        ([UNBOUND], "prefer", False, UNBOUND, b"n,,"),
        ([UNBOUND], "disable", True, UNBOUND, b"n,,"),
        ([UNBOUND], "prefer", True, UNBOUND, b"y,,"),
        ([UNBOUND, BOUND], "prefer", True, BOUND, b"p=tls-server-end-point,,"),
        ([BOUND, UNBOUND], "require", True, BOUND, b"p=tls-server-end-point,,"),
        ([BOUND, UNBOUND], "disable", True, UNBOUND, b"n,,"),
    ],
)
def test_the_mechanism_and_what_the_server_is_told_of_it(
    offered: list[str], binding: str, tls: bool, mechanism: str, header: bytes
) -> None:
    exchange, nonce = begin(*offered, channel_binding=binding, certificate=ELLIPTIC if tls else None)
    assert exchange.mechanism == mechanism
    assert exchange.is_bound is (mechanism == BOUND)
    assert exchange.first() == header + b"n=,r=" + nonce
    exchange.read_challenge(answer(nonce))
    bound = hashlib.sha256(ELLIPTIC).digest() if mechanism == BOUND else b""
    assert exchange.final("pencil").startswith(b"c=" + base64.b64encode(header + bound) + b",r=" + nonce)


@pytest.mark.parametrize(
    ("offered", "binding", "tls", "complaint"),
    [
        ([UNBOUND], "require", False, "needs TLS"),
        ([UNBOUND], "require", True, "does not offer SCRAM-SHA-256-PLUS"),
        ([BOUND, UNBOUND], "prefer", False, "without TLS"),
        ([BOUND], "disable", True, "no SASL mechanism"),
        (["OAUTHBEARER"], "prefer", True, "no SASL mechanism that is known here: OAUTHBEARER"),
        ([], "prefer", False, "no SASL mechanism"),
    ],
)
def test_what_cannot_be_chosen_is_told(offered: list[str], binding: str, tls: bool, complaint: str) -> None:
    with pytest.raises(StartupFailed, match=complaint):
        begin(*offered, channel_binding=binding, certificate=ELLIPTIC if tls else None)


@pytest.mark.parametrize(
    ("challenge", "complaint"),
    [
        (b"", "malformed"),
        (b"r={}x,s=c2FsdA==", "malformed"),
        (b"r={}x,i=4096,s=c2FsdA==", "malformed"),
        (b"m=must,r={}x,s=c2FsdA==,i=4096", "malformed"),
        (b"r={}x,s,i=4096", "malformed"),
        (b"r={}x,s=c2FsdA==,i=4096\0", "malformed"),
        (b"r=x,s=c2FsdA==,i=4096", "nonce"),
        (b"r=x{},s=c2FsdA==,i=4096", "nonce"),
        (b"r={}x,s=c2FsdA,i=4096", "base64"),
        (b"r={}x,s=c2 FsdA==,i=4096", "base64"),
        (b"r={}x,s=\xff,i=4096", "base64"),
        (b"r={}x,s=c2FsdA==,i=0", "hashed 0 times"),
        (b"r={}x,s=c2FsdA==,i=-1", "hashed -1 times"),
        (b"r={}x,s=c2FsdA==,i=", "hashed  ?times"),
        (b"r={}x,s=c2FsdA==,i=\xb2", "hashed"),
        (b"r={}x,s=c2FsdA==,i=%d" % (MAX_ITERATIONS + 1), "1 to 10000000 are possible"),
        (b"r={}x,s=c2FsdA==,i=" + b"9" * 1900, "1 to 10000000 are possible|hashed 9999"),
    ],
)
def test_a_malformed_challenge_is_refused(challenge: bytes, complaint: str) -> None:
    exchange, nonce = begin(UNBOUND)
    with pytest.raises(StartupFailed, match=complaint):
        exchange.read_challenge(challenge.replace(b"{}", nonce))


def test_there_is_one_challenge() -> None:
    exchange, nonce = begin(UNBOUND)
    exchange.read_challenge(answer(nonce))
    with pytest.raises(StartupFailed, match="broke the protocol"):
        exchange.read_challenge(answer(nonce))


@pytest.mark.parametrize(
    ("outcome", "complaint"),
    [
        (b"", "malformed"),
        (b"x=AAAA", "malformed"),
        (b"v=AAAA", "failed to prove"),
        (b"v=", "failed to prove"),
        (b"v=" + base64.b64encode(bytes(32)), "failed to prove"),
        (b"v=?", "base64"),
        (b"e=other-error", "other-error"),
    ],
)
def test_a_server_that_does_not_know_the_password_is_refused(outcome: bytes, complaint: str) -> None:
    exchange, nonce = begin(UNBOUND)
    exchange.read_challenge(answer(nonce))
    exchange.final("pencil")
    with pytest.raises(StartupFailed, match=complaint):
        exchange.read_outcome(outcome)
    assert not exchange.is_finished


def test_an_outcome_before_the_challenge_is_refused() -> None:
    exchange, _ = begin(UNBOUND)
    for outcome in (b"v=", b"v=" + base64.b64encode(bytes(32))):
        with pytest.raises(StartupFailed, match="failed to prove"):
            exchange.read_outcome(outcome)


RSA = rsa.generate_private_key(65537, 2048)


@pytest.mark.parametrize(
    ("made", "hashed"),
    [
        (certificate(ec.generate_private_key(ec.SECP384R1()), hashes.SHA384()), "sha384"),
        (certificate(RSA, hashes.SHA512()), "sha512"),
        (certificate(RSA, hashes.SHA224()), "sha224"),
        (
            certificate(RSA, hashes.SHA384(), rsa_padding=padding.PSS(padding.MGF1(hashes.SHA384()), 48)),
            "sha384",
        ),
    ],
    ids=["ecdsa", "rsa", "sha224", "pss"],
)
def test_the_certificate_is_hashed_by_its_signatures_algorithm(made: bytes, hashed: str) -> None:
    exchange, nonce = begin(BOUND, certificate=made)
    exchange.read_challenge(answer(nonce))
    bound = b"p=tls-server-end-point,," + hashlib.new(hashed, made).digest()
    assert exchange.final("pencil").startswith(b"c=" + base64.b64encode(bound) + b",")


@pytest.mark.parametrize("algorithm", [ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey])
def test_a_signature_without_a_hash_binds_nothing(algorithm: type) -> None:
    made = certificate(algorithm.generate())  # type: ignore[attr-defined]
    with pytest.raises(StartupFailed, match="set channel_binding=disable"):
        begin(BOUND, UNBOUND, certificate=made)
    assert not begin(BOUND, UNBOUND, channel_binding="disable", certificate=made)[0].is_bound
