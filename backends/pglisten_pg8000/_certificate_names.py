"""Check whether a certificate belongs to a host, by the rules of libpq 17 for ``sslmode=verify-full``.

The rules are in fe-secure-common.c and fe-secure-openssl.c of PostgreSQL, and differ from those of ``ssl``:

* A DNS name of the subjectAltName matches a host of the same text, even if the host is an address. ASCII
  letters match in either case, other bytes only themselves: an international host name is compared as UTF-8.
* ``*.`` at the start of a name stands for one label of any characters. There is no other wildcard.
* An IP address of the subjectAltName matches every notation of that address (``127.1``, ``::0:1``).
* The first common name of the subject counts as a DNS name if the subjectAltName has no name of the host's
  kind: no DNS name if the host is a name, no IP address if it is an address. Further common names never
  count.
* A name that contains NUL refuses the certificate, and so does an address that has neither 4 nor 16 bytes. A
  match before it takes precedence.

The TLS handshake checks the certificate itself, its authority and its dates.
"""

from __future__ import annotations

import socket  # Only functions that convert text.
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

from asn1crypto import parser, x509  # type: ignore[import-untyped]

__all__ = ["is_address", "mismatch"]

_DNS, _IP = "dns_name", "ip_address"
"""Kinds of names in a subjectAltName, as asn1crypto calls them. Other kinds are ignored."""

_COMMON_NAME = bytes.fromhex("0603550403")
"""The type of a common name, 2.5.4.3, in DER."""

_FAMILIES = {4: socket.AF_INET, 16: socket.AF_INET6}
"""Address family by the length of an address in bytes."""


class _Name(NamedTuple):
    kind: str
    value: bytes


def mismatch(certificate: bytes, host: str) -> str | None:
    """Return why *certificate*, in DER, does not belong to *host*; ``None`` if it does.

    Raises `ValueError` if the certificate cannot be read.
    """
    if not host:
        return "sslmode=verify-full needs a host to compare with the server's certificate: set host"
    seen: list[str] = []
    for name in _names(certificate, _IP if is_address(host) else _DNS):
        if b"\0" in name.value and name.kind == _DNS:
            return "the server's certificate has a name that contains NUL"
        if name.kind == _IP and len(name.value) not in _FAMILIES:
            return f"the server's certificate has an IP address of {len(name.value)} bytes"
        if (
            _is_same_address(name.value, host)
            if name.kind == _IP
            else _is_same_name(name.value, host.encode())
        ):
            return None
        seen.append(_text(name))
    if not seen:
        return "the server's certificate has no host name"
    more = f" (and {len(seen) - 1} other name{'s' if len(seen) > 2 else ''})" if len(seen) > 1 else ""
    return f"server certificate for {seen[0]!r}{more} does not match host name {host!r}"


def is_address(host: str) -> bool:
    """Return whether *host* is an IP address, in any notation that the C library reads."""
    return _ipv4(host) is not None or _ipv6(host) is not None


def _names(certificate: bytes, wanted: str) -> Iterator[_Name]:
    """Yield the names to compare, in order; the common name only if no other is of the kind *wanted*."""
    parsed = cast("Any", x509.Certificate).load(certificate)["tbs_certificate"]
    kinds: set[str] = set()
    for extension in parsed["extensions"]:
        if extension["extn_id"].native == "subject_alt_name":
            for name in extension["extn_value"].parsed:
                if name.name in {_DNS, _IP}:
                    kinds.add(name.name)
                    yield _Name(name.name, name.chosen.contents)
    if wanted not in kinds:
        for relative in parsed["subject"].chosen:
            for attribute in relative:
                if attribute.contents.startswith(_COMMON_NAME):
                    # Take its bytes: the value may be of any string type, and is compared byte by byte.
                    value = cast("Any", parser).parse(attribute.contents[len(_COMMON_NAME) :])[4]
                    yield _Name(_DNS, value)
                    return


def _is_same_name(name: bytes, host: bytes) -> bool:
    name, host = name.lower(), host.lower()  # bytes.lower() changes only ASCII letters.
    if name == host:
        return True
    # The wildcard stands for `extra` + 1 bytes; libpq looks for a dot among the first `extra`.
    extra = len(host) - len(name)
    wildcard = name.startswith(b"*.") and len(name) >= 3
    return wildcard and extra >= 0 and host.endswith(name[1:]) and b"." not in host[:extra]


def _is_same_address(address: bytes, host: str) -> bool:
    return address == (_ipv4(host) if len(address) == 4 else _ipv6(host))


def _ipv4(host: str) -> bytes | None:
    try:
        return socket.inet_aton(host)
    except (OSError, ValueError):
        return None


def _ipv6(host: str) -> bytes | None:
    try:
        return socket.inet_pton(socket.AF_INET6, host)
    except (OSError, ValueError):
        return None


def _text(name: _Name) -> str:
    if name.kind == _IP:
        return socket.inet_ntop(_FAMILIES[len(name.value)], name.value)
    return name.value.decode("utf-8", "backslashreplace")
