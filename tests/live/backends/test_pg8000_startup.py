"""The pg8000 backend's start-up: TLS with libpq's meaning, and authentication."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import TracebackType

import pg8000
import pytest

import pglisten_pg8000
from pglisten.errors import ConnectionFailed
from pglisten_pg8000 import _tls
from support.fixtures.pg8000_sessions import (
    connect_to,
)
from support.fixtures.tls import PASSWORD, PLAIN_ONLY, TLS_ONLY, TlsServer

SSL_REQUEST = (80877103).to_bytes(4, "big")
PROTOCOL = b"\0\3\0\0"


def is_tls(dsn: str) -> bool:
    with closing(connect_to(dsn)) as session:
        return session._transport.is_tls


class TestSslmode:
    @pytest.mark.parametrize(
        ("sslmode", "tls"), [("disable", False), ("allow", False), ("prefer", True), ("require", True)]
    )
    def test_without_a_root_certificate(self, tls_server: TlsServer, sslmode: str, tls: bool) -> None:
        assert is_tls(tls_server.login("trust", sslmode=sslmode)) is tls

    def test_a_server_that_demands_tls_gets_it_if_the_mode_allows(self, tls_server: TlsServer) -> None:
        for user, willing, tls in ((TLS_ONLY, "allow", True), (PLAIN_ONLY, "prefer", False)):
            assert is_tls(tls_server.dsn(user=user, password=PASSWORD, sslmode=willing)) is tls
        for user, unwilling in ((TLS_ONLY, "disable"), (PLAIN_ONLY, "require")):
            with pytest.raises(ConnectionFailed) as caught:
                connect_to(tls_server.dsn(user=user, password=PASSWORD, sslmode=unwilling))
            assert caught.value.sqlstate == "28000"

    def test_the_error_has_both_refusals_with_tls_first(self, tls_server: TlsServer) -> None:
        with pytest.raises(ConnectionFailed, match=r"SSL encryption; .* no encryption") as caught:
            connect_to(tls_server.dsn(user="nobody_knows", sslmode="prefer"))
        assert caught.value.sqlstate == "28000"

    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
    @pytest.mark.parametrize("sslmode", ["require", "verify-ca", "verify-full"])
    def test_the_right_authority_and_name_are_accepted(
        self, tls_server: TlsServer, sslmode: str, host: str
    ) -> None:
        place = {"host": host, "hostaddr": "127.0.0.1"}
        assert is_tls(tls_server.login("trust", sslmode=sslmode, sslrootcert=tls_server.ca, **place))

    @pytest.mark.parametrize("sslmode", ["require", "verify-ca", "verify-full"])
    def test_another_authority_is_refused_also_by_require(self, tls_server: TlsServer, sslmode: str) -> None:
        with pytest.raises(ConnectionFailed, match="certificate"):
            connect_to(tls_server.login("trust", sslmode=sslmode, sslrootcert=tls_server.wrong_ca))

    def test_another_authority_makes_prefer_go_on_without_tls(self, tls_server: TlsServer) -> None:
        assert not is_tls(tls_server.login("trust", sslmode="prefer", sslrootcert=tls_server.wrong_ca))

    def test_another_name_is_refused_by_verify_full_alone(self, tls_server: TlsServer) -> None:
        place = {"host": "db.example.org", "hostaddr": "127.0.0.1", "sslrootcert": tls_server.ca}
        assert is_tls(tls_server.login("trust", sslmode="verify-ca", **place))
        with pytest.raises(ConnectionFailed, match=r"db\.example\.org"):
            connect_to(tls_server.login("trust", sslmode="verify-full", **place))

    def test_another_address_is_refused_by_verify_full(self, tls_server: TlsServer) -> None:
        place = {"host": "127.0.0.2", "hostaddr": "127.0.0.1", "sslrootcert": tls_server.ca}
        with pytest.raises(ConnectionFailed, match=r"127\.0\.0\.2"):
            connect_to(tls_server.login("trust", sslmode="verify-full", **place))

    def test_a_revoked_certificate_is_refused(self, tls_server: TlsServer) -> None:
        verified = {"sslmode": "verify-full", "sslrootcert": tls_server.ca, "host": "localhost"}
        assert is_tls(tls_server.login("trust", sslcrl=tls_server.crl, **verified))
        with pytest.raises(ConnectionFailed, match="revoked"):
            connect_to(tls_server.login("trust", sslcrl=tls_server.revoking_crl, **verified))

    def test_the_systems_authorities_do_not_know_ours(self, tls_server: TlsServer) -> None:
        with pytest.raises(ConnectionFailed, match="certificate"):
            connect_to(tls_server.login("trust", sslrootcert="system", host="localhost"))

    def test_a_unix_socket_is_never_encrypted(self, tls_server: TlsServer) -> None:
        assert not is_tls(tls_server.login("trust", host=tls_server.socket_directory, sslmode="require"))

    def test_the_newest_version_allowed_is_used(self, tls_server: TlsServer) -> None:
        dsn = tls_server.login("trust", sslmode="require", ssl_max_protocol_version="TLSv1.2")
        with closing(connect_to(dsn)) as session:
            assert session._transport._tls is not None
            assert session._transport._tls.version() == "TLSv1.2"


class TestClientCertificates:
    def test_it_logs_in(self, tls_server: TlsServer) -> None:
        pair = {"sslcert": tls_server.client_cert, "sslkey": tls_server.client_key}
        assert is_tls(tls_server.login("cert", sslmode="require", **pair))

    def test_an_encrypted_key_needs_its_password(self, tls_server: TlsServer) -> None:
        pair = {"sslcert": tls_server.client_cert, "sslkey": tls_server.encrypted_key, "sslmode": "require"}
        assert is_tls(tls_server.login("cert", sslpassword="secret", **pair))
        with pytest.raises(
            ConnectionFailed, match=r"the private key is encrypted, .*is not its password"
        ) as caught:
            connect_to(tls_server.login("cert", **pair, sslpassword="guess"))
        assert "guess" not in str(caught.value)

    def test_the_password_of_a_key_that_belongs_to_another_certificate_is_not_to_blame(
        self, tls_server: TlsServer
    ) -> None:
        pair = {"sslcert": tls_server.stranger_cert, "sslkey": tls_server.encrypted_key}
        with pytest.raises(ConnectionFailed, match="KEY_VALUES_MISMATCH"):
            connect_to(tls_server.login("cert", sslpassword="secret", sslmode="require", **pair))

    @pytest.mark.parametrize("damaged", ["sslcert", "sslkey"])
    def test_a_file_that_is_no_pem_is_named_and_said_to_be_none(
        self, tls_server: TlsServer, tmp_path: Path, damaged: str
    ) -> None:
        file = tmp_path / "damaged"
        file.write_bytes(b"neither a certificate nor a key")
        file.chmod(0o600)
        pair = {"sslcert": tls_server.client_cert, "sslkey": tls_server.client_key, damaged: str(file)}
        with pytest.raises(ConnectionFailed, match=f"cannot use .*{file}.*: this is not PEM"):
            connect_to(tls_server.login("cert", sslmode="require", **pair))

    def test_one_of_another_authority_is_refused(self, tls_server: TlsServer) -> None:
        pair = {"sslcert": tls_server.stranger_cert, "sslkey": tls_server.stranger_key}
        with pytest.raises(ConnectionFailed):
            connect_to(tls_server.login("cert", sslmode="require", **pair))

    def test_a_key_open_to_others_is_refused(self, tls_server: TlsServer, tmp_path: Path) -> None:
        key = tmp_path / "open.key"
        key.write_bytes(Path(tls_server.client_key).read_bytes())
        key.chmod(0o644)
        pair = {"sslcert": tls_server.client_cert, "sslkey": str(key), "sslmode": "prefer"}
        with pytest.raises(ConnectionFailed, match="open to others"):
            connect_to(tls_server.login("cert", **pair))

    @pytest.mark.parametrize(
        ("owner", "mode", "fine"), [(0, 0o640, True), (0, 0o660, False), (1, 0o640, False)]
    )
    def test_a_keys_permissions_are_judged_by_its_owner(
        self, tmp_path: Path, owner: int, mode: int, fine: bool
    ) -> None:
        if os.geteuid() != 0:
            pytest.skip("only root gives files away")
        key = tmp_path / "some.key"
        key.touch()
        key.chmod(mode)
        os.chown(key, owner, 0)
        if fine:
            _tls._check_permissions(str(key))
        else:
            with pytest.raises(ValueError, match="open to others"):
                _tls._check_permissions(str(key))


class TestLoggingIn:
    @pytest.mark.parametrize("unix", [False, True])
    @pytest.mark.parametrize("method", ["scram-sha-256", "md5", "password", "trust"])
    def test_every_method(self, tls_server: TlsServer, method: str, unix: bool) -> None:
        connect_to(
            tls_server.login(method, **({"host": tls_server.socket_directory} if unix else {}))
        ).close()

    @pytest.mark.parametrize("method", ["scram-sha-256", "md5", "password"])
    def test_a_missing_password_fails_before_anything_is_sent(
        self, tls_server: TlsServer, method: str
    ) -> None:
        with pytest.raises(ConnectionFailed, match="wants a password") as caught:
            connect_to(tls_server.login(method, password=None))
        assert caught.value.sqlstate is None

    @pytest.mark.parametrize("binding", ["disable", "prefer", "require"])
    @pytest.mark.parametrize("sslmode", ["disable", "require"])
    def test_scram_with_every_channel_binding(
        self, tls_server: TlsServer, binding: str, sslmode: str
    ) -> None:
        dsn = tls_server.login("scram-sha-256", sslmode=sslmode, channel_binding=binding)
        if (binding, sslmode) == ("require", "disable"):
            with pytest.raises(ConnectionFailed, match="needs TLS"):
                connect_to(dsn)
        else:
            connect_to(dsn).close()

    @pytest.mark.parametrize("method", ["md5", "password", "trust"])
    def test_demanded_channel_binding_refuses_every_other_method(
        self, tls_server: TlsServer, method: str
    ) -> None:
        with pytest.raises(ConnectionFailed, match="channel_binding=require"):
            connect_to(tls_server.login(method, sslmode="require", channel_binding="require"))

    @pytest.mark.parametrize("method", ["scram-sha-256", "md5", "password"])
    def test_a_failure_keeps_no_frame_that_knows_the_password(
        self, tls_server: TlsServer, method: str
    ) -> None:
        with pytest.raises(ConnectionFailed) as caught:
            connect_to(tls_server.login(method, password="s3cret"))
        assert caught.value.sqlstate == "28P01"
        error: BaseException | None = caught.value
        while error is not None:
            assert "s3cret" not in f"{error}{''.join(frames_inside(error.__traceback__))}"
            error = error.__cause__ or error.__context__


def frames_inside(traceback: TracebackType | None) -> Iterator[str]:
    folders = tuple(os.path.dirname(str(package.__file__)) for package in (pglisten_pg8000, pg8000))
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename.startswith(folders):
            yield f"{traceback.tb_frame.f_locals}"
        traceback = traceback.tb_next
