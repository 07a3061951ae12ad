"""The settings of a ConnInfo: the DSN takes precedence over the environment, and this over defaults."""

from __future__ import annotations

import os
import pwd
import re
from pathlib import Path

import pytest

from pglisten._conninfo import ConnInfo
from pglisten._conninfo import hosts as _hosts
from pglisten._conninfo import sources as _sources
from pglisten._conninfo.keywords import KEYWORDS
from pglisten._conninfo.servicefile import SYSTEM_DIRECTORIES
from pglisten.errors import ConfigurationError

OS_USER = pwd.getpwuid(os.geteuid()).pw_name


def parse(dsn: str = "", /, **environ: str) -> ConnInfo:
    return ConnInfo.parse(dsn, environ)


def refusal(dsn: str = "", /, **environ: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        ConnInfo.parse(dsn, environ)
    return str(caught.value)


# Sources ---------------------------------------------------------------------------------------------


def test_an_empty_dsn_is_the_local_server_and_the_user_of_the_system() -> None:
    info = parse()
    assert (info.user, info.dbname, info.port, info.password) == (OS_USER, OS_USER, 5432, None)
    assert (info.hostaddr, info.sslmode, info.is_unix) == ("", "prefer", True)


def test_the_dsn_comes_before_the_environment() -> None:
    info = parse("host=db user=app", PGHOST="other", PGUSER="other", PGDATABASE="shop", PGPORT="6000")
    assert (info.host, info.user, info.dbname, info.port) == ("db", "app", "shop", 6000)


def test_the_database_is_named_like_the_user_by_default() -> None:
    assert parse("user=app").dbname == "app"
    assert parse(PGUSER="web").dbname == "web"


def test_an_empty_value_in_the_dsn_hides_the_variable() -> None:
    info = parse(
        "user=app dbname='' port='' options='' password=''", PGDATABASE="x", PGPORT="1", PGOPTIONS="-c x=1"
    )
    assert (info.dbname, info.port, info["options"], info.password) == ("app", 5432, "", None)
    # Without an empty value, libpq would read PGOPTIONS itself.
    assert info.values()["options"] == ""


def test_an_empty_choice_in_the_dsn_does_not_weaken_what_the_environment_asks_for() -> None:
    assert refusal("sslmode=''", PGSSLMODE="verify-full").startswith("sslmode is ''")


def test_an_empty_variable_counts_as_unset() -> None:
    info = parse(PGHOST="", PGPORT="", PGUSER="", PGSSLMODE="", PGCONNECT_TIMEOUT="")
    assert (info.is_unix, info.port, info.user, info.sslmode) == (True, 5432, OS_USER, "prefer")
    assert not info.has_connect_timeout


@pytest.mark.parametrize(
    ("variable", "keyword", "value"),
    [
        ("PGHOST", "host", "db"),
        ("PGHOSTADDR", "hostaddr", "::1"),
        ("PGPORT", "port", "6543"),
        ("PGDATABASE", "dbname", "shop"),
        ("PGUSER", "user", "app"),
        ("PGPASSWORD", "password", "secret"),
        ("PGOPTIONS", "options", "-c geqo=off"),
        ("PGAPPNAME", "application_name", "web"),
        ("PGSSLMODE", "sslmode", "require"),
        ("PGSSLCERTMODE", "sslcertmode", "disable"),
        ("PGSSLSNI", "sslsni", "0"),
        ("PGSSLCOMPRESSION", "sslcompression", "0"),
        ("PGSSLMINPROTOCOLVERSION", "ssl_min_protocol_version", "TLSv1.3"),
        ("PGSSLMAXPROTOCOLVERSION", "ssl_max_protocol_version", "TLSv1.3"),
        ("PGSSLNEGOTIATION", "sslnegotiation", "postgres"),
        ("PGCHANNELBINDING", "channel_binding", "require"),
        ("PGREQUIREAUTH", "require_auth", "!password,!md5"),
        ("PGREQUIREPEER", "requirepeer", "postgres"),
        ("PGCONNECT_TIMEOUT", "connect_timeout", "3"),
        ("PGTARGETSESSIONATTRS", "target_session_attrs", "any"),
        ("PGLOADBALANCEHOSTS", "load_balance_hosts", "disable"),
        ("PGGSSENCMODE", "gssencmode", "disable"),
        ("PGGSSDELEGATION", "gssdelegation", "1"),
        ("PGKRBSRVNAME", "krbsrvname", "postgres"),
        ("PGGSSLIB", "gsslib", "gssapi"),
    ],
)
def test_a_variable_of_libpq_sets_its_keyword(variable: str, keyword: str, value: str) -> None:
    info = ConnInfo.parse("", {variable: value})
    assert info[keyword] == value
    assert info.values()[keyword] == value


def test_the_variables_that_name_tls_files_are_read(tmp_path: Path) -> None:
    names = {
        "PGSSLROOTCERT": "sslrootcert",
        "PGSSLCERT": "sslcert",
        "PGSSLKEY": "sslkey",
        "PGSSLCRL": "sslcrl",
    }
    for variable, keyword in {**names, "PGSSLCRLDIR": "sslcrldir"}.items():
        assert ConnInfo.parse("host=db", {variable: str(tmp_path)})[keyword] == str(tmp_path)


def test_pgrequiressl_means_sslmode_require_unless_a_mode_is_given() -> None:
    assert parse(PGREQUIRESSL="1").sslmode == "require"
    assert parse(PGREQUIRESSL="0").sslmode == "prefer"
    assert parse(PGREQUIRESSL="1", PGSSLMODE="disable").sslmode == "disable"


def test_client_encoding_is_left_to_the_backend() -> None:
    for encoding in ("UTF8", "utf-8", "auto", ""):
        assert "client_encoding" not in parse(f"client_encoding='{encoding}'").values()
    assert "client_encoding" not in parse(PGCLIENTENCODING="LATIN1").values()
    assert refusal("client_encoding=LATIN1") == "client_encoding is 'LATIN1': it is always UTF8, leave it out"


def test_a_user_without_a_name_in_the_system_has_to_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sources, "_account", lambda: None)
    assert "set user or PGUSER" in refusal()
    info = ConnInfo.parse("host=db user=app sslmode=require", {})
    assert (info.user, info.tls_file("sslrootcert")) == ("app", "")


def test_the_documents_name_every_keyword_and_every_variable() -> None:
    text = (Path(__file__).parents[3] / "docs" / "backends.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`(\w+)`", text))
    for keyword, entry in KEYWORDS.items():
        assert {keyword, entry.variable or keyword} <= names
    for directory in SYSTEM_DIRECTORIES:
        assert f"`{directory}`" in text


# Hosts and ports --------------------------------------------------------------------------------------


def test_the_socket_directory_is_debians_if_there_is_one_and_postgresqls_own_if_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(_hosts, "SOCKET_DIRECTORIES", (str(tmp_path), "/tmp"))
    assert parse().host == str(tmp_path)
    monkeypatch.setattr(_hosts, "SOCKET_DIRECTORIES", (str(tmp_path / "none"), "/tmp"))
    assert parse().host == "/tmp"


def test_a_host_that_is_a_directory_is_a_unix_socket() -> None:
    info = parse("host=/run/pg port=6000 dbname=app")
    assert info.is_unix
    assert info.socket_path == "/run/pg/.s.PGSQL.6000"
    assert info.description == "/run/pg:6000/app"


def test_a_host_with_an_at_in_front_is_a_socket_of_the_abstract_namespace() -> None:
    assert parse("host=@pg").is_unix
    assert parse("host=@pg").socket_path == "\0pg/.s.PGSQL.5432"


def test_a_hostaddr_makes_it_tcp_whatever_the_host_is() -> None:
    assert not parse("host=/run/pg hostaddr=127.0.0.1").is_unix
    only_address = parse("hostaddr=127.0.0.1 dbname=app")
    assert (only_address.host, only_address.is_unix) == ("", False)
    assert only_address.description == "127.0.0.1:5432/app"


def test_at_gives_a_copy_that_leads_to_the_address() -> None:
    info = parse("host=db user=app password=secret", HOME="/home/app")
    there = info.at("192.0.2.7")
    assert (there.host, there.hostaddr, there.password) == ("db", "192.0.2.7", "secret")
    assert info.hostaddr == ""
    assert repr(there) == "<ConnInfo app@db:5432/app hostaddr=192.0.2.7 sslmode=prefer>"


def test_an_ipv6_address_is_described_in_brackets() -> None:
    assert parse("postgresql://app@[::1]:5433/shop").description == "[::1]:5433/shop"


def test_a_description_stays_on_one_line() -> None:
    assert parse("host=db dbname='a\nb' user='\té'").description == "db:5432/a\\nb"
    assert repr(parse("host=db dbname=x user='\té'")) == "<ConnInfo \\té@db:5432/x sslmode=prefer>"


def test_values_are_a_copy() -> None:
    info = parse("host=db")
    info.values()["host"] = "elsewhere"
    assert info.host == "db"


def test_the_port_is_handed_on_without_blanks_and_sign() -> None:
    assert parse("port=' +6000 '").values()["port"] == "6000"


# Times and numbers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"), [("5", 5.0), ("1", 1.0), (" +7 ", 7.0), ("0", None), ("-3", None)]
)
def test_connect_timeout_is_seconds_and_zero_or_less_is_no_limit(text: str, seconds: float | None) -> None:
    info = parse(f"connect_timeout='{text}'")
    assert info.connect_timeout == seconds
    assert info.has_connect_timeout


def test_where_nothing_is_said_of_connect_timeout_one_can_tell() -> None:
    assert parse().connect_timeout is None
    assert not parse().has_connect_timeout


def test_keepalives_have_defaults_of_our_own() -> None:
    info = parse()
    assert info.keepalives
    assert (info.keepalives_idle, info.keepalives_interval, info.keepalives_count) == (30, 10, 3)
    assert info.tcp_user_timeout == 60_000
    assert not {keyword for keyword in info.values() if "keepalive" in keyword or "tcp" in keyword}


def test_keepalives_are_as_the_dsn_says() -> None:
    info = parse("keepalives_idle=1 keepalives_interval=2 keepalives_count=4 tcp_user_timeout=5")
    assert (info.keepalives_idle, info.keepalives_interval, info.keepalives_count) == (1, 2, 4)
    assert info.tcp_user_timeout == 5
    assert not parse("keepalives=0").keepalives
    assert parse("tcp_user_timeout=-1").tcp_user_timeout == 0


def test_the_user_timeout_leaves_keepalive_the_time_that_the_dsn_gives_it() -> None:
    # On Linux it replaces the number of probes, also on idle connections.
    assert parse("keepalives_idle=1 keepalives_interval=2 keepalives_count=4").tcp_user_timeout == 9000


def test_made_by_hand_it_has_the_same_defaults() -> None:
    info = ConnInfo({"host": "db", "dbname": "app"})
    assert (info.port, info.sslmode, info.keepalives_idle, info["options"]) == (5432, "prefer", 30, "")
