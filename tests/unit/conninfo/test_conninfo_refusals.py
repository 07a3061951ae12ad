"""Refusals of ConnInfo and their messages, which never contain a password."""

from __future__ import annotations

import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pglisten._conninfo import ConnInfo
from pglisten.errors import ConfigurationError

KEY = "A" * 43 + "="


def refusal(dsn: object, /, **environ: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        ConnInfo.parse(dsn, environ)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("dsn", "message"),
    [
        (None, 'the DSN is of type NoneType: write a string, or "" to use only the PG* variables'),
        (b"host=db", 'the DSN is of type bytes: write a string, or "" to use only the PG* variables'),
        ("host=d\0b", "the DSN contains a NUL character"),
        ("host=d\ud800b", "the DSN contains characters that UTF-8 cannot encode"),
        ("app", "the DSN is neither a URI (postgresql://user@host/dbname) nor a list of keyword=value"),
        ("mysql://db/app", "the DSN is neither a URI"),
        ("user='app", "the DSN has a quoted value without its closing quote"),
        ("user=app web", "the DSN has a word without = after the value of user"),
        ("=x", "the DSN has text before a = that is not a libpq keyword"),
        ("postgresql://[::1/app", "the DSN's URI has a wrong IPv6 address"),
        ("postgresql://db/app?user", "the DSN's URI has a parameter that is not keyword=value"),
        ("postgresql://db/app?user=a=b", "the DSN's URI has a parameter that is not keyword=value"),
        ("postgresql://db/%zz", "the dbname in the DSN's URI has a wrong percent-encoding"),
        ("postgresql://%00@db", "the user in the DSN's URI has a wrong percent-encoding"),
        ("postgresql://db/?options=%ff", "the options in the DSN's URI is not UTF-8"),
    ],
)
def test_what_is_no_connection_string_is_refused_with_what_to_write(dsn: object, message: str) -> None:
    assert refusal(dsn).startswith(message)


@pytest.mark.parametrize(
    ("dsn", "ending"),
    [
        ("hots=db", "hots: did you mean host?"),
        ("ssl_mode=require", "ssl_mode: did you mean sslmode?"),
        ("database=app", "database: did you mean dbname?"),
        ("Host=db", "Host: did you mean host?"),
        ("postgresql://db/app?username=x", "username: did you mean user?"),
        ("postgresql://db/app?ssl=false", "ssl: did you mean sslmode?"),
        ("qqqqqqq=1", 'qqqqqqq: see "Parameter Key Words" in PostgreSQL\'s documentation of libpq'),
    ],
)
def test_an_unknown_keyword_is_named_with_the_nearest_there_is(dsn: str, ending: str) -> None:
    assert refusal(dsn) == f"the DSN has an unknown keyword, {ending}"


@pytest.mark.parametrize(
    ("dsn", "beginning"),
    [
        ("port=0", "port is 0: write a port number between 1 and 65535"),
        ("port=65536", "port is 65536"),
        ("postgresql://app:12345678/db", "port is a number out of range: write a port number"),
        ("port=http", "port is not an integer"),
        ("connect_timeout=1.5", "connect_timeout is not an integer: write whole seconds, 0 for no limit"),
        ("connect_timeout=''", "connect_timeout is not an integer"),
        ("connect_timeout=99999999999", "connect_timeout is not an integer"),
        ("keepalives=yes", "keepalives is not an integer: write 1, or 0 for none"),
        ("keepalives_idle=0", "keepalives_idle is 0: write seconds between 1 and 32767"),
        ("keepalives_interval=32768", "keepalives_interval is 32768"),
        ("keepalives_count=128", "keepalives_count is 128: write a number between 1 and 127"),
        ("tcp_user_timeout=x", "tcp_user_timeout is not an integer"),
        (
            "sslmode=verify",
            "sslmode is 'verify': write disable, allow, prefer, require, verify-ca or verify-full",
        ),
        ("sslmode=REQUIRE", "sslmode is 'REQUIRE'"),
        ("sslsni=yes", "sslsni is 'yes': write 0 or 1"),
        ("channel_binding=maybe", "channel_binding is 'maybe': write disable, prefer or require"),
        ("sslcertmode=prefer", "sslcertmode is 'prefer'"),
        ("gssencmode=allow", "gssencmode is 'allow'"),
        ("sslnegotiation=tls", "sslnegotiation is 'tls'"),
        ("ssl_min_protocol_version=1.3", "ssl_min_protocol_version is '1.3': write TLSv1, TLSv1.1"),
        ("min_protocol_version=3.1", "min_protocol_version is '3.1': write 3.0, 3.2 or latest"),
        ("max_protocol_version=''", "max_protocol_version is '': write 3.0, 3.2 or latest"),
        ("scram_client_key=YWJj", "scram_client_key is no key: write its 32 bytes in base64"),
        ("scram_server_key=''", "scram_server_key is no key"),
        ("require_auth=scram", "require_auth is 'scram'"),
        ("require_auth=md5,!password", "require_auth is 'md5,!password'"),
        ("require_auth=md5,md5", "require_auth is 'md5,md5'"),
        ("hostaddr=db", "hostaddr is 'db': write a numeric IPv4 or IPv6 address; a name goes into host"),
        ("host=app@db", "host contains an @"),
        ("host='d b'", "host contains blanks or control characters"),
        (f"host=/{'x' * 107}", "host is a directory whose Unix socket has a path of 122 bytes, over the 107"),
        (f"sslmode={'x' * 50}", f"sslmode is '{'x' * 40}...'"),
        ("sslmode='a\nb'", "sslmode is 'a\\nb'"),
    ],
)
def test_a_wrong_value_is_refused_with_those_that_are_right(dsn: str, beginning: str) -> None:
    assert refusal(dsn).startswith(beginning)


@pytest.mark.parametrize(
    ("dsn", "beginning"),
    [
        ("sslmode=require sslrootcert=system", "sslmode=require is too weak for sslrootcert=system"),
        ("sslmode=prefer sslnegotiation=direct", "sslmode=prefer is too weak for sslnegotiation=direct"),
        ("ssl_max_protocol_version=TLSv1.1", "ssl_max_protocol_version=TLSv1.1 is older than"),
        (
            "ssl_min_protocol_version=TLSv1.3 ssl_max_protocol_version=tlsv1.2",
            "ssl_max_protocol_version=tlsv1.2 is older than ssl_min_protocol_version=TLSv1.3",
        ),
        (
            "min_protocol_version=latest max_protocol_version=3.0",
            "max_protocol_version=3.0 is older than min_protocol_version=latest",
        ),
        (f"scram_client_key={KEY}", "scram_client_key is set without scram_server_key"),
    ],
)
def test_values_that_contradict_one_another_are_refused(dsn: str, beginning: str) -> None:
    assert refusal(dsn).startswith(beginning)


def test_a_replication_connection_is_refused_for_it_cannot_listen() -> None:
    assert refusal("replication=database").startswith(
        "replication is set: a replication connection cannot LISTEN"
    )


def test_a_mistake_in_the_environment_is_reported_under_the_variables_name() -> None:
    assert refusal("", PGPORT="x").startswith("PGPORT is not an integer")
    assert refusal("", PGUSER="\udcff").startswith("PGUSER contains characters that UTF-8 cannot encode")


def test_a_setting_that_another_one_hides_is_not_looked_at() -> None:
    assert ConnInfo.parse("port=5433", {"PGPORT": "x"}).port == 5433


MARK = "hunter"
AROUND = st.text(st.sampled_from(" ='\\@:/?&%#,[]\t1a"), max_size=5)


@given(
    st.builds(f"{{}}{MARK}{{}}".format, AROUND, AROUND),
    st.sampled_from(
        [
            "postgresql://app:{}@db/shop",
            "postgresql://app:{}@db:5432/shop?sslmode=prefer",
            "postgresql:///shop?password={}&user=app",
            "postgresql://db/shop?sslpassword={}",
            "host=db password={} user=app",
            "host=db password='{}' user=app",
            "sslpassword={}",
            "oauth_client_secret={}",
            "oauth_client_secret='{}' scram_server_key='{}'",
            "postgresql://db/shop?scram_client_key={}&user=app",
            "scram_client_key={} usr=app",
            "password={} usr=app",
        ]
    ),
)
def test_a_password_written_wrongly_gets_into_no_message_and_no_repr(password: str, form: str) -> None:
    assert MARK not in shown(form.replace("{}", password))


def shown(dsn: str) -> str:
    """Return every text that a DSN, right or wrong, can appear in."""
    try:
        info = ConnInfo.parse(dsn, {})
    except ConfigurationError as error:
        # Include the causes: a UnicodeDecodeError would show the bytes.
        return "".join(traceback.format_exception(error))
    return f"{info!r} {info} {info.description} {info.host} {info.dbname}"


def test_a_conninfo_keeps_its_password_out_of_vars() -> None:
    info = ConnInfo.parse("password=hunter2 sslpassword=hunter2", {})
    assert not hasattr(info, "__dict__")
    assert "hunter2" not in repr(info)
    assert (info.password, info["sslpassword"]) == ("hunter2", "hunter2")
