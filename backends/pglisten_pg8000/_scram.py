"""SCRAM-SHA-256 (RFC 5802, RFC 7677) as libpq speaks it: fe-auth-scram.c and fe-auth.c of PostgreSQL.

pg8000's own client refuses passwords that SASLprep refuses. It binds to the channel only if the socket is the
standard library's ``SSLSocket``. In a process that is not monkey-patched, gevent's is another class.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import Any, NamedTuple, cast

from asn1crypto import x509  # type: ignore[import-untyped]

from ._failure import StartupFailed
from ._saslprep import prepare

__all__ = ["MAX_ITERATIONS", "Keys", "ScramClient"]

MAX_ITERATIONS = 10_000_000
"""Most SCRAM iterations that the server may demand: seconds of one core, 2,400 times PostgreSQL's default.

The hash runs in a thread that cannot be stopped. With libpq's limit, 2**31 - 1, it would run many minutes."""

_BOUND, _UNBOUND = "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"

_NONCE_SIZE = 18
"""Bytes of the client's nonce, before base64 (``SCRAM_RAW_NONCE_LEN`` in PostgreSQL)."""


class Keys(NamedTuple):
    """A role's keys (RFC 5802, 3), which replace its password; ``b""`` for a key that is not known."""

    client: bytes = b""
    server: bytes = b""

    def __repr__(self) -> str:
        return "<Keys>"


class ScramClient:
    """The client's side of one exchange. Its methods stand for the messages of RFC 5802, 3, in this order.

    All except `client_final` may raise `StartupFailed`. The object keeps no password, so no traceback shows
    it.
    """

    def __init__(self, offered: list[str], *, channel_binding: str, certificate: bytes | None) -> None:
        """Choose one of the mechanisms *offered*.

        *channel_binding* is libpq's keyword; *certificate* is the server's in DER, ``None`` without TLS.
        """
        self.mechanism = _choose(offered, channel_binding, is_tls=certificate is not None)
        self.is_finished = False
        """Whether the server has proved that it knows the password."""
        self._nonce = base64.b64encode(secrets.token_bytes(_NONCE_SIZE))
        if self.is_bound:
            assert certificate is not None, "bound to nothing"
            self._header, self._binding = b"p=tls-server-end-point,,", _endpoint(certificate)
        else:
            # "y" tells the server that this client could bind. The server then notices if an attacker removed
            # its offer on the way.
            able = certificate is not None and channel_binding != "disable"
            self._header, self._binding = b"y,," if able else b"n,,", b""
        # Without a user name, as from libpq: the server uses the one of the start-up message.
        self._first_bare = b"n=,r=" + self._nonce
        self._challenge = self._salt = self._combined_nonce = self._signature = b""
        self._iterations = 0

    @property
    def is_bound(self) -> bool:
        """Whether the exchange is bound to the TLS channel."""
        return self.mechanism == _BOUND

    def client_first(self) -> bytes:
        """Return the client's first message."""
        return self._header + self._first_bare

    def read_server_first(self, message: bytes) -> None:
        """Read the server's first message. Ignore attributes after the iterations (RFC 5802, 5.1)."""
        nonce, salt, iterations = _attributes(message, b"r", b"s", b"i")
        if self._challenge or not nonce.startswith(self._nonce):
            raise StartupFailed("the server broke the protocol: its SCRAM nonce does not continue ours")
        if not iterations.isdigit() or not 1 <= int(iterations) <= MAX_ITERATIONS:
            raise StartupFailed(
                f"the server wants the password hashed {iterations.decode('ascii', 'replace')} times, "
                f"and 1 to {MAX_ITERATIONS} are possible: set the password anew, with fewer scram_iterations"
            )
        self._challenge, self._combined_nonce, self._salt = message, nonce, _decode(salt)
        self._iterations = int(iterations)

    def client_final(self, password: str, keys: Keys | None = None) -> bytes:
        """Return the client's final message. Hashing may take seconds: call this in a thread.

        *keys* stand for the ones that *password* makes.
        """
        client_key, server_key = keys or Keys()
        if not (client_key and server_key):
            salted = hashlib.pbkdf2_hmac("sha256", prepare(password), self._salt, self._iterations)
            client_key = client_key or hmac.digest(salted, b"Client Key", "sha256")
            server_key = server_key or hmac.digest(salted, b"Server Key", "sha256")
        unproven = b"c=%b,r=%b" % (base64.b64encode(self._header + self._binding), self._combined_nonce)
        text = b",".join((self._first_bare, self._challenge, unproven))
        signature = hmac.digest(hashlib.sha256(client_key).digest(), text, "sha256")
        proof = bytes(one ^ other for one, other in zip(client_key, signature, strict=True))
        self._signature = hmac.digest(server_key, text, "sha256")
        return unproven + b",p=" + base64.b64encode(proof)

    def read_server_final(self, message: bytes) -> None:
        """Read the server's final message, in which it proves that it knows the password."""
        if message.startswith(b"e="):
            raise StartupFailed(
                f"the server ended the SCRAM exchange: {message[2:].decode('utf-8', 'replace')}"
            )
        (signature,) = _attributes(message, b"v")
        if not self._signature or not hmac.compare_digest(_decode(signature), self._signature):
            raise StartupFailed(
                "the server failed to prove that it knows the password: is it the right server?"
            )
        self.is_finished = True


def _choose(offered: list[str], channel_binding: str, *, is_tls: bool) -> str:
    if channel_binding == "require" and not is_tls:
        raise StartupFailed("channel_binding=require needs TLS, which is not in use")
    if _BOUND in offered and not is_tls:
        # The server has TLS with another party on the way. It would refuse the exchange in any case.
        raise StartupFailed(f"the server offers {_BOUND} without TLS: was TLS removed on the way here?")
    if _BOUND in offered and channel_binding != "disable":
        return _BOUND
    if channel_binding == "require":
        raise StartupFailed(f"channel_binding=require, and the server does not offer {_BOUND}")
    if _UNBOUND not in offered:
        raise StartupFailed(f"the server offers no SASL mechanism that is known here: {', '.join(offered)}")
    return _UNBOUND


def _attributes(message: bytes, *names: bytes) -> list[bytes]:
    """Return the values of the first attributes of *message*, which must be *names* in this order."""
    found = [attribute.partition(b"=") for attribute in message.split(b",")[: len(names)]]
    if [name for name, equals, _ in found if equals] != list(names) or b"\0" in message:
        expected = " ".join(name.decode() + "=" for name in names)
        raise StartupFailed(f"the server broke the protocol with a malformed SCRAM message: no {expected}")
    return [value for _, _, value in found]


def _decode(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as exc:
        raise StartupFailed("the server broke the protocol: a SCRAM message is not valid base64") from exc


def _endpoint(certificate: bytes) -> bytes:
    """Return the certificate's hash by its own signature's algorithm (RFC 5929, 4.1)."""
    algorithm = cast("Any", x509.Certificate).load(certificate)["signature_algorithm"]
    try:
        if algorithm.signature_algo in {"ed25519", "ed448"}:
            raise ValueError("these have no hash of their own")
        name = str(algorithm.hash_algo)
        return hashlib.new("sha256" if name in {"md5", "sha1"} else name, certificate).digest()
    except ValueError as exc:
        # RFC 5929 leaves it undefined; neither libpq nor the server finds a hash.
        raise StartupFailed(
            f"channel binding is not defined for a certificate signed by {algorithm['algorithm'].native}: "
            "set channel_binding=disable"
        ) from exc
