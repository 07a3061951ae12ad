"""SCRAM-SHA-256 with libpq's meaning of ``channel_binding``, over scramp, which pg8000 brings along.

pg8000's own binds to the channel only if the socket is the standard library's ``SSLSocket``, which
gevent's is not in a process that is not monkey-patched, and it has no way to demand it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, cast

from asn1crypto import x509  # type: ignore[import-untyped]

from ._failure import StartupFailed

if TYPE_CHECKING:

    class ScramClient:
        """What is used of scramp's: a call for each message of RFC 5802, and each raises ScramException."""

        mechanism_name: str

        def __init__(
            self,
            mechanisms: list[str],
            username: str,
            password: str,
            channel_binding: tuple[str, bytes] | None = None,
        ) -> None: ...
        def get_client_first(self) -> str: ...
        def set_server_first(self, message: str) -> None: ...
        def get_client_final(self) -> str:
            """Hash the password as often as the server demands, ten million times at most."""
            raise NotImplementedError

        def set_server_final(self, message: str) -> None: ...

else:
    from scramp import ScramClient

__all__ = ["ScramClient", "begin", "is_bound"]

_BOUND, _UNBOUND = "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"


def begin(
    offered: list[str], user: str, password: str, *, channel_binding: str, certificate: bytes | None
) -> ScramClient:
    """Return the client's side of an exchange with one of the mechanisms *offered*.

    *channel_binding* is libpq's keyword; *certificate* is the server's in DER, ``None`` without TLS.
    """
    if channel_binding == "require" and certificate is None:
        raise StartupFailed("channel_binding=require needs TLS, which is not in use")
    # Told that we could have bound, the server notices if somebody took the offer out on its way here.
    binding = None
    if certificate is not None and channel_binding != "disable":
        binding = ("tls-server-end-point", _endpoint(certificate))
    if binding and _BOUND in offered:
        return ScramClient([_BOUND], user, password, binding)
    if channel_binding == "require":
        raise StartupFailed("channel_binding=require, and the server does not offer SCRAM-SHA-256-PLUS")
    if _UNBOUND in offered:
        return ScramClient([_UNBOUND], user, password, binding)
    raise StartupFailed(f"the server offers no SASL mechanism that is known here: {', '.join(offered)}")


def is_bound(client: ScramClient) -> bool:
    """Tell whether the exchange is bound to the TLS channel."""
    return client.mechanism_name == _BOUND


def _endpoint(certificate: bytes) -> bytes:
    """Return the certificate's hash by its own signature's algorithm (RFC 5929, 4.1)."""
    parsed = cast("Any", x509.Certificate).load(certificate)
    algorithm = str(parsed.hash_algo)
    return hashlib.new("sha256" if algorithm in {"md5", "sha1"} else algorithm, certificate).digest()
