"""Where settings come from, compared with libpq itself: DSN, service, ``PG*`` variables, defaults, hosts.

Where the two differ, they do on purpose:

* a variable that is set and empty counts as unset, but for ``PGSERVICE``, which libpq looks up by itself;
* a value that is wrong for its keyword is refused at once, libpq refuses some when it comes to use them;
* an LDAP entry in a service file is refused;
* without ``PGSYSCONFDIR``, several directories of usual builds are looked into.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from psycopg2.extensions import make_dsn

from pglisten._conninfo import ConnInfo
from pglisten._conninfo.dsn import keyword_string
from pglisten._conninfo.keywords import KEYWORDS
from pglisten.errors import ConfigurationError
from pglisten_libpq import settings as _settings
from pglisten_psycopg2._backend import _is_known
from support.libpq import Libpq, environment

COMPARE = settings(max_examples=300, deadline=None)

NOWHERE = "/no/such/directory"
"""A host that libpq tries, in vain, without waiting."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("settings")


def both(libpq: Libpq, dsn: str, environ: Mapping[str, str]) -> tuple[ConnInfo | None, dict[str, str] | None]:
    """What the two make of it; ``None`` where one refuses."""
    try:
        ours = ConnInfo.parse(dsn, environ)
    except ConfigurationError:
        ours = None
    with environment(environ):
        values, _, complaint = libpq.read(dsn)
    return ours, values if complaint.startswith("connection to server") else None


def agree(libpq: Libpq, dsn: str, environ: Mapping[str, str]) -> None:
    ours, theirs = both(libpq, dsn, environ)
    assert (ours is None) == (theirs is None), (ours, theirs)
    if ours is not None and theirs is not None:
        mine = {keyword: ours[keyword] or default for keyword, default in DEFAULTS.items()}
        assert mine == {keyword: theirs[keyword] for keyword in DEFAULTS}


# What is compared ------------------------------------------------------------------------------------

DEFAULTS = {
    **dict.fromkeys(("user", "dbname", "password", "application_name", "options", "sslrootcert"), ""),
    "sslmode": "prefer",
    "target_session_attrs": "any",
    "load_balance_hosts": "disable",
}
"""The keywords, and what libpq has where nothing is said of them."""


# The sources -----------------------------------------------------------------------------------------

VALUE = st.text(st.sampled_from("abé '\\=#[]"), max_size=6).map(str.strip)
# Not in the DSN as text, for it goes through the grammar, which has a test of its own.
TEXTS = st.dictionaries(st.sampled_from(["user", "dbname", "password", "application_name", "options"]), VALUE)
CHOICES = st.fixed_dictionaries(
    {},
    optional={
        "sslmode": st.sampled_from(["disable", "require", "verify-full"]),
        "sslrootcert": st.sampled_from(["system", "/dev/null"]),
        "target_session_attrs": st.sampled_from(["any", "primary", "standby"]),
        "load_balance_hosts": st.sampled_from(["disable", "random"]),
    },
)
SETTINGS = st.builds(dict[str, str].__or__, TEXTS, CHOICES)


@COMPARE
@given(SETTINGS, SETTINGS, SETTINGS, st.sampled_from(["", "in the DSN", "in PGSERVICE", "in both"]))
def test_the_same_source_wins(
    libpq: Libpq,
    folder: Path,
    given: dict[str, str],
    service: dict[str, str],
    variables: dict[str, str],
    named: str,
) -> None:
    file = folder / "pg_service.conf"
    lines = [f"{keyword}={value}\n" for keyword, value in service.items()]
    file.write_text("".join(["[shop]\n", *lines]), encoding="utf-8")
    environ = {
        **{str(KEYWORDS[keyword].variable): value for keyword, value in variables.items() if value},
        "HOME": str(folder),
        "PGSERVICEFILE": str(file),
    }
    if named in {"in PGSERVICE", "in both"}:
        environ["PGSERVICE"] = "shop" if named == "in PGSERVICE" else "not defined"
    service_in_dsn = {"service": "shop"} if named in {"in the DSN", "in both"} else {}
    agree(libpq, make_dsn(host=NOWHERE, **service_in_dsn, **given), environ)


LINE = st.one_of(
    st.sampled_from(
        ["[shop]", "[shop] x", "[shopping]", "[other]", "[]", "[shop", " [shop]\t", "", " ", "#", " # user=c"]
    ),
    st.builds("{}={}".format, st.sampled_from(["user", "dbname", "options", "user ", " user", "x"]), VALUE),
    st.sampled_from(["user", "service=other", "user=a\vb", "\fuser=\fa", "user==a=", "=a", "requiressl=1"]),
    st.integers(1010, 1030).map(lambda size: "dbname=" + "x" * size),
)


@COMPARE
@given(st.lists(LINE, max_size=8), st.sampled_from(["\n", "\r\n"]), st.booleans())
@example(["[shop]", "user=a", "user=b", "[other]", "user=c"], "\n", True)
@example(["\v[shop]", "\fuser=a\v", "\f#nonsense"], "\n", True)
@example(["[other]", "nonsense", "[shop]", "user=a"], "\n", False)
@example(["[shop]", "user=a", "[shop]", "nonsense"], "\n", True)
@example(["[shop]", "options=" + "x" * (1022 - 9)], "\n", True)
@example(["[shop]", "options=" + "x" * (1022 - 8)], "\n", True)
@example(["[shop]", "options=" + "x" * (1023 - 8)], "\n", False)
def test_a_service_file_means_what_libpq_takes_it_for(
    libpq: Libpq, folder: Path, lines: list[str], end: str, ended: bool
) -> None:
    file = folder / "any_service.conf"
    file.write_bytes((end.join(lines) + (end if ended else "")).encode())
    environ = {"HOME": str(folder), "PGSERVICEFILE": str(file), "PGSYSCONFDIR": NOWHERE}
    agree(libpq, f"service=shop host={NOWHERE}", environ)


@pytest.mark.parametrize(
    "defined_in", [[], ["own"], ["system"], ["named"], ["own", "system"], ["named", "system"]]
)
@pytest.mark.parametrize(
    "variables", [{}, {"PGSERVICEFILE"}, {"PGSYSCONFDIR"}, {"PGSERVICEFILE", "PGSYSCONFDIR"}]
)
@pytest.mark.parametrize("existing", [{"own", "system", "named"}, {"system"}, {"own"}, {"named"}])
def test_the_service_is_sought_in_the_same_files(
    libpq: Libpq, tmp_path: Path, defined_in: list[str], variables: set[str], existing: set[str]
) -> None:
    files = {
        "own": tmp_path / ".pg_service.conf",
        "system": tmp_path / "etc" / "pg_service.conf",
        "named": tmp_path / "named.conf",
    }
    (tmp_path / "etc").mkdir()
    for name in existing:
        files[name].write_text(f"[{'shop' if name in defined_in else 'other'}]\nuser={name}\n")
    places = {"PGSERVICEFILE": str(files["named"]), "PGSYSCONFDIR": str(tmp_path / "etc")}
    agree(
        libpq,
        f"service=shop host={NOWHERE}",
        {"HOME": str(tmp_path), **{name: places[name] for name in variables}},
    )


@pytest.mark.parametrize(
    "environ",
    [
        {"PGSERVICE": ""},
        {"PGSERVICE": "shop", "PGSERVICEFILE": ""},
        {"PGSERVICE": "shop", "PGSYSCONFDIR": ""},
        {"PGREQUIRESSL": "1"},
        {"PGREQUIRESSL": "1", "PGSSLMODE": "disable"},
        {"PGREQUIRESSL": "0"},
    ],
)
def test_odd_variables_mean_the_same(libpq: Libpq, environ: dict[str, str]) -> None:
    agree(libpq, f"host={NOWHERE}", {"HOME": NOWHERE, **environ})


def test_an_empty_service_in_the_dsn_is_refused_by_both(libpq: Libpq) -> None:
    assert both(libpq, f"service='' host={NOWHERE}", {"HOME": NOWHERE}) == (None, None)


# Hosts -----------------------------------------------------------------------------------------------


def lists(*elements: str) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(["", *elements]), max_size=4).map(",".join)


@COMPARE
@given(lists(NOWHERE, "@none"), lists("127.0.0.1"), lists("5433", "1"))
@example(",", "", "5433,")
@example("", ",", "")
@example("", "", "1,5433")
@example(f"{NOWHERE},", "", "1")
def test_lists_of_hosts_fit_together_where_libpq_finds_so(
    libpq: Libpq, host: str, hostaddr: str, port: str
) -> None:
    agree(libpq, make_dsn(host=host, hostaddr=hostaddr, port=port, user="a"), {"HOME": NOWHERE})


# psycopg2 --------------------------------------------------------------------------------------------

HOSTILE = {
    str(entry.variable): {"PGPORT": "6000", "PGSSLMODE": "require", "PGSSLSNI": "0"}.get(
        str(entry.variable), "hostile"
    )
    for entry in KEYWORDS.values()
    if entry.variable not in {None, "PGSERVICE"}
}


def test_libpq_adds_nothing_of_its_own_to_what_it_gets(each_libpq: Libpq, folder: Path) -> None:
    conninfo = ConnInfo.parse(f"host={NOWHERE} user=app", {})
    known = each_libpq.keywords()
    dsn = keyword_string(_settings.settings(conninfo, known.__contains__))
    with environment({"HOME": NOWHERE}):
        alone = each_libpq.read(dsn)
    assert alone.error.startswith("connection to server")
    file = folder / "hostile_service.conf"
    # libpq takes "" for a wrong key and a wrong issuer. Only the service that the core has read can set them.
    of_services = {name for name in known if name.startswith(("oauth_", "scram_"))}
    hostile = known.keys() - of_services - {"service"}
    file.write_text("[shop]\n" + "".join(f"{keyword}=hostile\n" for keyword in sorted(hostile)))
    for variables in (HOSTILE, {"PGSERVICE": "shop", "PGSERVICEFILE": str(file)}):
        with environment({"HOME": NOWHERE, **variables}):
            found = each_libpq.read(dsn)
        # libpq 18 remembers the service's name.
        found.values["service"] = alone.values["service"]
        assert found == alone


def test_a_service_is_handed_on_only_where_libpq_would_look_for_another(folder: Path) -> None:
    file = folder / "two_services.conf"
    file.write_text("[shop]\nuser=app\n[other]\nuser=other\n")
    environ = {"PGSERVICEFILE": str(file), "HOME": NOWHERE}
    conninfo = ConnInfo.parse(f"service=shop host={NOWHERE}", environ)
    with environment(environ):
        assert "service" not in _settings.settings(conninfo, _is_known)
    with environment({**environ, "PGSERVICE": "other"}):
        assert _settings.settings(conninfo, _is_known)["service"] == "shop"
