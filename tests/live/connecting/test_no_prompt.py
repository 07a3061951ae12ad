"""An encrypted key is an error at once, also with a terminal on which OpenSSL could ask for its password.

The programs have a terminal of their own, at which no answer is ever typed: a prompt would hang them.
"""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat

from support.fixtures.environment import require_terminals
from support.fixtures.tls import TlsServer

LIMIT = 30.0
"""Seconds for a command that takes less than one, unless a prompt waits for an answer."""

ON_A_TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"

CONNECT = """
import sys
import pglisten
backend, dsn = sys.argv[1:]
try:
    pglisten.ListenerConnection(dsn, backend=backend, connect_timeout=10).close()
except pglisten.Error as error:
    print(type(error).__name__, error)
else:
    print("connected")
"""

REPLACED = """
import os, sys
from pglisten._connection.connect import dial
from pglisten._connection.target import Target
from pglisten.errors import ConnectionFailed
name, dsn, key, encrypted = sys.argv[1:]
target = Target(dsn, name, None)
backend, (conninfo, _) = target.backend, target.current()
os.replace(encrypted, key)
for attempt in (dial, lambda backend, conninfo, timeout: backend.connect(conninfo, timeout)):
    try:
        attempt(backend, conninfo.at("127.0.0.1"), 10)
    except ConnectionFailed as error:
        print("failed:", error)
"""

LIBPQ = """
import sys, psycopg2
try:
    psycopg2.connect(sys.argv[1])
except psycopg2.Error as error:
    print(error)
"""


def on_a_terminal(*command: str, **variables: str) -> str:
    """Run *command* with a terminal and return its output; a command that waits fails the test."""
    require_terminals()
    done = subprocess.run(
        [sys.executable, "-c", ON_A_TERMINAL, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env={**os.environ, **variables},
        timeout=LIMIT,
        check=False,
    )
    said = done.stdout.decode().replace("\r\n", "\n")
    assert "pass phrase" not in said
    return said


def python(program: str, *arguments: str, **variables: str) -> str:
    return on_a_terminal(sys.executable, "-c", program, *arguments, **variables)


KINDS = {"PKCS #8": PrivateFormat.PKCS8, "traditional": PrivateFormat.TraditionalOpenSSL}


@pytest.fixture(params=KINDS)
def encrypted(request: pytest.FixtureRequest, tls_server: TlsServer, tmp_path: Path) -> str:
    """Return the path of ``cert_user``'s key, encrypted; its password is ``secret``."""
    key = serialization.load_pem_private_key(Path(tls_server.client_key).read_bytes(), None)
    password = serialization.BestAvailableEncryption(b"secret")
    return put(tmp_path / "encrypted.key", key.private_bytes(Encoding.PEM, KINDS[request.param], password))


def put(path: Path, data: bytes) -> str:
    path.parent.mkdir(exist_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(data)
    return str(path)


def in_the_dsn(server: TlsServer, key: str, home: Path) -> tuple[dict[str, str], dict[str, str]]:
    return {"sslcert": server.client_cert, "sslkey": key}, {}


def in_the_environment(server: TlsServer, key: str, home: Path) -> tuple[dict[str, str], dict[str, str]]:
    return {}, {"PGSSLCERT": server.client_cert, "PGSSLKEY": key}


def at_home(server: TlsServer, key: str, home: Path) -> tuple[dict[str, str], dict[str, str]]:
    put(home / ".postgresql" / "postgresql.crt", Path(server.client_cert).read_bytes())
    put(home / ".postgresql" / "postgresql.key", Path(key).read_bytes())
    return {}, {"HOME": str(home)}


def in_a_service(server: TlsServer, key: str, home: Path) -> tuple[dict[str, str], dict[str, str]]:
    file = put(home / "services", f"[app]\nsslcert={server.client_cert}\nsslkey={key}\n".encode())
    return {}, {"PGSERVICEFILE": file, "PGSERVICE": "app"}


Where = Callable[[TlsServer, str, Path], tuple[dict[str, str], dict[str, str]]]


@pytest.mark.pairwise
@pytest.mark.sweep
@pytest.mark.parametrize("where", [in_the_dsn, in_the_environment, at_home, in_a_service])
@pytest.mark.parametrize("sslmode", ["verify-full", "prefer"])
def test_an_encrypted_key_without_sslpassword_is_refused_at_once(
    tls_server: TlsServer, encrypted: str, tmp_path: Path, backend_name: str, where: Where, sslmode: str
) -> None:
    keywords, variables = where(tls_server, encrypted, tmp_path)
    dsn = tls_server.login("cert", sslmode=sslmode, sslrootcert=tls_server.ca, **keywords)
    said = python(CONNECT, backend_name, dsn, **variables)
    assert said.startswith("ConfigurationError the private key ")
    assert said.endswith(" is encrypted: set sslpassword, or sslkey to another key\n")
    assert python(CONNECT, backend_name, f"{dsn} sslpassword=secret", **variables) == "connected\n"


def test_a_key_that_is_replaced_by_an_encrypted_one_is_a_failed_attempt(
    tls_server: TlsServer, encrypted: str, tmp_path: Path, backend_name: str
) -> None:
    key = put(tmp_path / "client.key", Path(tls_server.client_key).read_bytes())
    pair = {"sslcert": tls_server.client_cert, "sslkey": key}
    dsn = tls_server.login("cert", sslmode="verify-full", sslrootcert=tls_server.ca, **pair)
    said = python(REPLACED, backend_name, dsn, key, encrypted)
    first, second = (line for line in said.splitlines() if line.startswith("failed: "))
    assert first.endswith(
        f": the private key '{key}' is encrypted: set sslpassword, or sslkey to another key"
    )
    # Even if the key is replaced after the last check.
    assert key in second


def test_a_wrong_sslpassword_is_a_failed_attempt(
    tls_server: TlsServer, encrypted: str, backend_name: str
) -> None:
    check_wrong_password(tls_server, encrypted, backend_name)


def test_a_wrong_sslpassword_may_decrypt_to_something(
    tls_server: TlsServer, tmp_path: Path, backend_name: str
) -> None:
    # One of 256 wrong passwords gives bytes that end with a correct padding, as this one always does.
    salt = bytes(range(16))
    secret = hashlib.md5(b"a guess" + salt[:8]).digest()
    encryptor = Cipher(AES128(secret), CBC(salt)).encryptor()
    body = base64.encodebytes(encryptor.update(b"no key at all\3\3\3") + encryptor.finalize()).decode()
    text = f"Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,{salt.hex().upper()}\n\n{body}"
    key = f"-----BEGIN RSA PRIVATE KEY-----\n{text}-----END RSA PRIVATE KEY-----\n".encode()
    check_wrong_password(tls_server, put(tmp_path / "client.key", key), backend_name)


def check_wrong_password(server: TlsServer, key: str, backend_name: str) -> None:
    pair = {"sslcert": server.client_cert, "sslkey": key, "sslpassword": "a guess"}
    dsn = server.login("cert", sslmode="verify-full", sslrootcert=server.ca, **pair)
    said = python(CONNECT, backend_name, dsn).splitlines()[-1]
    assert said.startswith("ConnectionFailed ")
    assert key in said
    assert "a guess" not in said
    if backend_name == "pg8000":
        assert said.endswith(": the private key is encrypted, and sslpassword is not its password")
    else:
        _, _, of_libpq = python(LIBPQ, dsn).strip().partition(" failed: ")
        assert of_libpq
        remedy = "correct sslpassword, or sslkey: it is no key that this password opens"
        assert said.endswith(f": {of_libpq} (remedy: {remedy})")


def test_an_encrypted_certificate_asks_for_no_password(
    tls_server: TlsServer, tmp_path: Path, backend_name: str
) -> None:
    body = base64.encodebytes(bytes(48)).decode()
    text = f"Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,{'AB' * 16}\n\n{body}"
    certificate = f"-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n".encode()
    pair = {"sslcert": put(tmp_path / "encrypted.crt", certificate), "sslkey": tls_server.client_key}
    dsn = tls_server.login("cert", sslmode="verify-full", sslrootcert=tls_server.ca, **pair)
    said = python(CONNECT, backend_name, dsn).splitlines()[-1]
    assert said.startswith("ConnectionFailed ")
    assert pair["sslcert"] in said


@pytest.mark.parametrize("command", ["doctor", "listen", "notify"])
def test_the_command_line_asks_for_no_password(
    tls_server: TlsServer, backend_name: str, command: str
) -> None:
    pair = {"sslcert": tls_server.client_cert, "sslkey": tls_server.encrypted_key}
    dsn = tls_server.login("cert", sslmode="verify-full", sslrootcert=tls_server.ca, **pair)
    channel = {"doctor": [], "listen": ["c"], "notify": ["c", "x"]}[command]
    options = ["--dsn", dsn, "--backend", backend_name]
    said = on_a_terminal(sys.executable, "-m", "pglisten", command, *options, *channel)
    assert "is encrypted: set sslpassword" in " ".join(said.split())
