"""The grammar of connection strings, compared with libpq's own parser on generated text.

Where the two differ, they do on purpose:

* an ``@`` left over in the host, the port, the path or before an unknown parameter of a URI is
  refused: libpq takes a piece of the password for a host there;
* a value that is not UTF-8 once decoded is refused, even one that a later setting overrides;
* a blank in a URI is text, as in libpq 17 and in SQLAlchemy's URLs, whose passwords may have blanks. libpq 18
  removes blanks around a value, and refuses them inside.
"""

from __future__ import annotations

import psycopg2
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from psycopg2.extensions import libpq_version, parse_dsn

from pglisten._conninfo import dsn as _dsn
from pglisten._conninfo.keywords import KEYWORDS
from pglisten.errors import ConfigurationError

COMPARE = settings(max_examples=300, deadline=None)
"""No deadline: other work on the machine must not make a comparison fail."""

# The libpq may be older than the libpq 18 that the table follows.
NOT_IN_EVERY_LIBPQ = {
    *("sslnegotiation", "gssdelegation", "require_auth", "sslcertmode", "load_balance_hosts"),
    *(
        "min_protocol_version",
        "max_protocol_version",
        "sslkeylogfile",
        "scram_client_key",
        "scram_server_key",
    ),
    *("oauth_issuer", "oauth_client_id", "oauth_client_secret", "oauth_scope"),
}

KNOWN = sorted(KEYWORDS.keys() - NOT_IN_EVERY_LIBPQ)
TEXT = st.text(st.sampled_from("ab1é\u0085\u3000 \t\v\n='\"\\@:/?&%#,[]+-._"), max_size=8)
KEYWORD = st.sampled_from([*KNOWN, "ssl", "requiressl", "usr", "", "Host", "HOST"])
PERCENT = st.sampled_from(["%20", "%2F", "%2f", "%40", "%c3%a9", "%00", "%", "%4", "%zz", "%25", "%3A"])
ENCODED = st.lists(st.one_of(TEXT, PERCENT), max_size=3).map("".join)


def quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


BLANK = st.sampled_from(["", "", " ", "\t ", "\n", "\v\f\r"])
PAIR = st.builds(
    "{}{}={}{}{}".format, KEYWORD, BLANK, BLANK, st.one_of(TEXT, TEXT.map(quoted)), st.sampled_from([" ", ""])
)
PAIRS = st.builds("{}{}".format, BLANK, st.lists(PAIR, max_size=4).map("".join))

NETLOC = st.builds(
    "{}{}".format,
    st.one_of(ENCODED, ENCODED.map("[{}]".format), st.just("[::1]"), st.just("db")),
    st.one_of(st.just(""), ENCODED.map(":{}".format), st.just(":5433")),
)
PARAMETER = st.one_of(
    st.builds("{}={}".format, KEYWORD, ENCODED),
    st.just("ssl=true"),
    st.builds("%75ser={}".format, ENCODED),
    TEXT,
)
URI = st.builds(
    "{}{}{}{}{}".format,
    st.sampled_from(["postgresql://", "postgres://", "postgresql:/", "POSTGRESQL://", " postgres://"]),
    st.one_of(
        st.just(""),
        ENCODED.map("{}@".format),
        st.builds("{}:{}@".format, ENCODED, ENCODED),
        st.just("app:s@"),
    ),
    st.lists(NETLOC, max_size=4).map(",".join),
    st.one_of(st.just(""), ENCODED.map("/{}".format)),
    st.one_of(st.just(""), st.lists(PARAMETER, max_size=3).map(lambda some: "?" + "&".join(some))),
)


def libpq(dsn: str) -> dict[str, str] | None:
    """What libpq makes of it; ``None`` if it, or its text in Python, refuses."""
    try:
        return dict(parse_dsn(dsn))
    except (psycopg2.ProgrammingError, UnicodeDecodeError):
        return None


def has_another_meaning(dsn: str) -> bool:
    return libpq_version() >= 180000 and "://" in dsn and " " in dsn


def ours(dsn: str) -> dict[str, str] | None:
    try:
        return _dsn.parse_dsn(dsn)
    except ConfigurationError:
        return None


def test_this_libpq_is_recent_enough_to_compare_with() -> None:
    assert libpq_version() >= 120000


@COMPARE
@given(PAIRS)
@example("")
@example("  ")
@example("app")
@example("host=a\\")
@example("user='a\\")
@example("user='a'host=b")
@example("user='a'b")
@example("host= port=1")
@example("host='' user=''")
@example("requiressl=1 host=x")
@example("requiressl=0")
@example("user=a user=b")
@example("host\v=\vx")
@example("user=a\\ b password='it\\'s'")
def test_key_value_strings_mean_what_libpq_takes_them_for(dsn: str) -> None:
    assert ours(dsn) == libpq(dsn)


@COMPARE
@given(URI)
@example("postgresql://")
@example("postgresql://app:s%40x@db:5433/app?connect_timeout=5")
@example("postgresql://%2Frun%2Fpg/app")
@example("postgresql:///app?host=/run/pg")
@example("postgresql://[::1]:5433/app?ssl=true")
@example("postgresql://[::1/app")
@example("postgresql://[]/app")
@example("postgresql://[::1]x/app")
@example("postgresql://a:1,b:2/app")
@example("postgresql://a,b/app")
@example("postgresql://:1,:2,[::1]:,%2Frun%2Fpg:3/app")
@example("postgresql://a%2Cb:1%2C2/app?host=c,d")
@example("postgresql://u@,,/")
@example("postgresql://u:@h/")
@example("postgresql://:p@h")
@example("postgresql://h?&")
@example("postgresql://h?user=a&")
@example("postgresql://h?user=a=b")
@example("postgresql://h/a/b#c?user=c%3Dd")
@example("postgresql://u?x@h/")
@example("postgresql://h?ssl=true&user=a@b")
@example("postgresql://h/%00")
@example("postgresql://h/%ff")
@example("postgresql:// u : p @ h : 1 , i / d ? sslmode = require ")
@example("postgresql://u:a b@h")
@example("postgresql://h/a\tb")
def test_uris_mean_what_libpq_takes_them_for(dsn: str) -> None:
    assume(not has_another_meaning(dsn))
    mine = ours(dsn)
    if mine is not None or "@" not in dsn:
        assert mine == libpq(dsn)
    elif libpq(dsn) is not None:
        assert refused_for_an_at(dsn)


def refused_for_an_at(dsn: str) -> bool:
    try:
        _dsn.parse_dsn(dsn)
    except ConfigurationError as error:
        return "has an @ in or after the host" in str(error)
    return False


@COMPARE
@given(st.text(max_size=30))
def test_any_text_at_all_means_what_libpq_takes_it_for(dsn: str) -> None:
    assume(not has_another_meaning(dsn))
    if "\0" not in dsn:  # psycopg2 raises ValueError then, and ConnInfo refuses before the grammar
        assert ours(dsn) == libpq(dsn)


@given(
    st.dictionaries(st.sampled_from(KNOWN), st.text(st.characters(exclude_characters="\0", codec="utf-8")))
)
@COMPARE
def test_every_value_survives_the_quoting_of_psycopg2(values: dict[str, str]) -> None:
    dsn = psycopg2.extensions.make_dsn(**values)
    assert ours(dsn) == values == libpq(dsn)
