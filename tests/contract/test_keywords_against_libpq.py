"""libpq's keywords, and the values that it takes for the newest of them, compared with libpq itself."""

from __future__ import annotations

import pytest

from pglisten._conninfo import ConnInfo
from pglisten._conninfo.keywords import KEYWORDS, SECRETS
from pglisten.errors import ConfigurationError
from pglisten_libpq import settings as _settings
from pglisten_libpq.settings import EXPLICIT_DEFAULTS
from support.libpq import Libpq, environment

NEW_IN_18 = {
    *(
        "min_protocol_version",
        "max_protocol_version",
        "sslkeylogfile",
        "scram_client_key",
        "scram_server_key",
    ),
    *("oauth_issuer", "oauth_client_id", "oauth_client_secret", "oauth_scope"),
}


def test_the_keywords_and_their_variables_are_those_of_libpq_18(each_libpq: Libpq) -> None:
    theirs = {keyword: entry.variable for keyword, entry in each_libpq.keywords().items()}
    # Read, it could only lead to a session that payloads end.
    assert theirs.pop("client_encoding") == "PGCLIENTENCODING"
    ours = {name: entry.variable for name, entry in KEYWORDS.items() if name != "client_encoding"}
    if each_libpq.version < 180000:
        ours = {name: variable for name, variable in ours.items() if name not in NEW_IN_18}
    # An older one has some of them, and a newer one all and others.
    assert theirs.items() <= ours.items() or each_libpq.version >= 190000
    assert ours.items() <= theirs.items() or each_libpq.version < 170000


def test_what_libpq_hides_of_a_setting_is_hidden_here(each_libpq: Libpq) -> None:
    # "*" for a password; "D" for what is of no use to the dialogs of a program, the keys of SCRAM among them.
    hidden = {keyword for keyword, entry in each_libpq.keywords().items() if entry.shown == "*"}
    assert (hidden | {"scram_client_key", "scram_server_key", "oauth_client_secret"}) == SECRETS


def test_what_libpq_gets_for_an_unset_keyword_is_its_own_default(each_libpq: Libpq) -> None:
    ours = {"gssencmode", "passfile"}
    for keyword, entry in each_libpq.keywords().items():
        if entry.default and keyword in EXPLICIT_DEFAULTS.keys() - ours:
            assert EXPLICIT_DEFAULTS[keyword] == entry.default


PROTOCOLS = [
    f"{name}_protocol_version={value}" for name in ("min", "max") for value in ("3.0", "3.2", "latest")
]
KEY = "A" * 43 + "="


@pytest.mark.parametrize(
    "dsn",
    [
        *PROTOCOLS,
        *(f"{first} {second}" for first in PROTOCOLS for second in PROTOCOLS),
        *("min_protocol_version=''", "max_protocol_version=''", "min_protocol_version=3.1"),
        *("max_protocol_version=LATEST", "max_protocol_version=3", "sslkeylogfile=''", "sslkeylogfile=/x"),
        *(
            f"scram_client_key='{key}' scram_server_key={KEY}"
            for key in (KEY, "", "A", "YWJj", f" {KEY}", "é")
        ),
        *(f"scram_server_key={key}" for key in (KEY, f"{KEY[:-2]}==", KEY[:-1], f"{KEY[:-2]}B=")),
        *(
            "oauth_issuer='' oauth_client_id='' oauth_client_secret='' oauth_scope=''",
            "oauth_issuer=https://x",
        ),
    ],
)
def test_the_values_that_libpq_18_refuses_are_refused(libpq_18: Libpq, dsn: str) -> None:
    text = f"host=/no/such/directory {dsn}"
    with environment({"HOME": "/no/such/directory"}):
        complaint = libpq_18.read(text).error
    taken = complaint.startswith("connection to server")
    try:
        ConnInfo.parse(text, {})
    except ConfigurationError:
        assert not taken
    else:
        assert taken, complaint


@pytest.mark.parametrize(
    ("dsn", "oldest", "newest"),
    [
        ("", "3.0", "3.0"),
        ("min_protocol_version=3.0", "3.0", "3.0"),
        ("min_protocol_version=3.2", "3.2", "latest"),
        ("min_protocol_version=latest", "latest", "latest"),
        ("max_protocol_version=3.2", "3.0", "3.2"),
        ("min_protocol_version=3.2 max_protocol_version=3.2", "3.2", "3.2"),
    ],
)
def test_the_protocols_version_is_explicit_for_a_libpq_that_knows_it(
    dsn: str, oldest: str, newest: str
) -> None:
    found = _settings.settings(ConnInfo.parse(dsn, {}), lambda keyword: True)
    assert (found["min_protocol_version"], found["max_protocol_version"]) == (oldest, newest)
    older = _settings.settings(ConnInfo.parse("", {}), lambda keyword: not keyword.endswith("_version"))
    assert "max_protocol_version" not in older
