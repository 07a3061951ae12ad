"""The SCRAM exchange with a correct server and with wrong ones."""

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
from pglisten_pg8000._scram import MAX_ITERATIONS, ScramClient

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
) -> tuple[ScramClient, bytes]:
    """Return a client and its nonce."""
    client = ScramClient(list(offered), channel_binding=channel_binding, certificate=certificate)
    return client, client.client_first().rpartition(b"r=")[2]


def answer(nonce: bytes, rest: bytes = b"") -> bytes:
    return b"r=%bserver,s=%b,i=4096%b" % (nonce, SALT, rest)


def signature(password: bytes, client: ScramClient, challenge: bytes, final: bytes) -> bytes:
    """Return the server's reply to *final*, after a check of the proof (RFC 5802, 3)."""
    unproven, _, proof = final.rpartition(b",p=")
    bare = client.client_first().split(b",", 2)[2]
    text = b",".join((bare, challenge, unproven))
    salted = hashlib.pbkdf2_hmac("sha256", password, base64.b64decode(SALT), 4096)
    key = hmac.digest(salted, b"Client Key", "sha256")
    signed = hmac.digest(hashlib.sha256(key).digest(), text, "sha256")
    assert base64.b64decode(proof) == bytes(a ^ b for a, b in zip(key, signed, strict=True))
    return b"v=" + base64.b64encode(hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), text, "sha256"))


def test_client_and_server_prove_the_password_to_each_other() -> None:
    client, nonce = begin(UNBOUND)
    client.read_server_first(challenge := answer(nonce))
    server_final = signature(b"pencil", client, challenge, client.client_final("pencil"))
    assert not client.is_finished
    client.read_server_final(server_final)
    assert client.is_finished


def test_extensions_of_later_versions_are_ignored() -> None:
    client, nonce = begin(UNBOUND)
    client.read_server_first(challenge := answer(nonce, b",x=later"))
    client.read_server_final(
        signature(b"pencil", client, challenge, client.client_final("pencil")) + b",x=later"
    )


def test_each_exchange_has_its_own_nonce_and_names_no_user() -> None:
    nonces = set()
    for _ in range(20):
        client, nonce = begin(UNBOUND)
        assert client.client_first() == b"n,,n=,r=" + nonce
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
def test_the_mechanism_and_the_header_that_announces_it(
    offered: list[str], binding: str, tls: bool, mechanism: str, header: bytes
) -> None:
    client, nonce = begin(*offered, channel_binding=binding, certificate=ELLIPTIC if tls else None)
    assert client.mechanism == mechanism
    assert client.is_bound is (mechanism == BOUND)
    assert client.client_first() == header + b"n=,r=" + nonce
    client.read_server_first(answer(nonce))
    bound = hashlib.sha256(ELLIPTIC).digest() if mechanism == BOUND else b""
    assert client.client_final("pencil").startswith(b"c=" + base64.b64encode(header + bound) + b",r=" + nonce)


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
def test_an_impossible_choice_of_mechanism_is_refused(
    offered: list[str], binding: str, tls: bool, complaint: str
) -> None:
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
    client, nonce = begin(UNBOUND)
    with pytest.raises(StartupFailed, match=complaint):
        client.read_server_first(challenge.replace(b"{}", nonce))


def test_a_second_challenge_is_refused() -> None:
    client, nonce = begin(UNBOUND)
    client.read_server_first(answer(nonce))
    with pytest.raises(StartupFailed, match="broke the protocol"):
        client.read_server_first(answer(nonce))


@pytest.mark.parametrize(
    ("server_final", "complaint"),
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
def test_a_server_that_does_not_know_the_password_is_refused(server_final: bytes, complaint: str) -> None:
    client, nonce = begin(UNBOUND)
    client.read_server_first(answer(nonce))
    client.client_final("pencil")
    with pytest.raises(StartupFailed, match=complaint):
        client.read_server_final(server_final)
    assert not client.is_finished


def test_a_final_message_before_the_challenge_is_refused() -> None:
    client, _ = begin(UNBOUND)
    for server_final in (b"v=", b"v=" + base64.b64encode(bytes(32))):
        with pytest.raises(StartupFailed, match="failed to prove"):
            client.read_server_final(server_final)


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
    client, nonce = begin(BOUND, certificate=made)
    client.read_server_first(answer(nonce))
    bound = b"p=tls-server-end-point,," + hashlib.new(hashed, made).digest()
    assert client.client_final("pencil").startswith(b"c=" + base64.b64encode(bound) + b",")


@pytest.mark.parametrize("algorithm", [ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey])
def test_a_signature_without_a_hash_binds_nothing(algorithm: type) -> None:
    made = certificate(algorithm.generate())  # type: ignore[attr-defined]
    with pytest.raises(StartupFailed, match="set channel_binding=disable"):
        begin(BOUND, UNBOUND, certificate=made)
    assert not begin(BOUND, UNBOUND, channel_binding="disable", certificate=made)[0].is_bound
