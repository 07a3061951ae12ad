"""Several hosts in one connection string."""

from __future__ import annotations

import pytest

from pglisten._connection.target import Target
from pglisten._conninfo import ConnInfo
from pglisten._conninfo import hosts as _hosts
from pglisten.backend import Backend, Session
from pglisten.errors import ConfigurationError


def parse(dsn: str, /, **environ: str) -> ConnInfo:
    return ConnInfo.parse(dsn, environ)


def places(dsn: str, /, **environ: str) -> list[tuple[str, str, int]]:
    return [(one.host, one.hostaddr, one.port) for one in parse(dsn, **environ).targets()]


@pytest.fixture
def default_host(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(_hosts, "SOCKET_DIRECTORIES", ("/no/such", "/default"))
    return "/default"


def test_there_is_a_target_for_each_host_in_the_order_given() -> None:
    assert places("host=b,a,c port=1,2,3") == [("b", "", 1), ("a", "", 2), ("c", "", 3)]
    assert places("postgresql://b:1,a:2,c:3/app") == [("b", "", 1), ("a", "", 2), ("c", "", 3)]
    assert places("", PGHOST="b,a", PGPORT="1,2") == [("b", "", 1), ("a", "", 2)]


def test_one_host_is_its_own_target() -> None:
    info = parse("host=db")
    assert info.targets() == (info,)


def test_one_port_holds_for_all_hosts() -> None:
    assert places("host=a,b port=6000") == [("a", "", 6000), ("b", "", 6000)]


def test_an_empty_port_is_the_default_one() -> None:
    assert places("host=a,b port=,6000") == [("a", "", 5432), ("b", "", 6000)]
    assert places("postgresql://a,b:6000/app") == [("a", "", 5432), ("b", "", 6000)]
    assert places("host=a,b") == [("a", "", 5432), ("b", "", 5432)]


def test_an_empty_host_is_the_default_socket(default_host: str) -> None:
    assert places("host=,a") == [(default_host, "", 5432), ("a", "", 5432)]
    assert places("postgresql://:1,:2/app") == [(default_host, "", 1), (default_host, "", 2)]
    assert places("hostaddr=,127.0.0.1") == [(default_host, "", 5432), ("", "127.0.0.1", 5432)]


def test_each_host_may_have_an_address() -> None:
    assert places("host=a,b hostaddr=127.0.0.1,::1") == [("a", "127.0.0.1", 5432), ("b", "::1", 5432)]
    assert places("host=a,b hostaddr=,::1") == [("a", "", 5432), ("b", "::1", 5432)]
    assert places("hostaddr=127.0.0.1,::1") == [("", "127.0.0.1", 5432), ("", "::1", 5432)]


def test_unix_sockets_and_names_may_be_mixed() -> None:
    socket, name = parse("host=/run/pg,db sslmode=require").targets()
    assert (socket.is_unix, socket.socket_path, socket.effective_sslmode) == (
        True,
        "/run/pg/.s.PGSQL.5432",
        "disable",
    )
    assert (name.is_unix, name.effective_sslmode) == (False, "require")


def test_a_target_has_everything_else_of_the_whole() -> None:
    whole = parse("host=a,b user=app password=s target_session_attrs=primary load_balance_hosts=random")
    for target in whole.targets():
        assert (target.user, target.password, target.dbname) == ("app", "s", "app")
        assert (target.target_session_attrs, target.load_balance) == ("primary", True)


def test_what_is_handed_on_can_be_read_again() -> None:
    whole = parse("host=a,b hostaddr=,::1 port=,6000 user=app")
    again = ConnInfo(whole.values())
    assert [one.description for one in again.targets()] == ["a:5432/app", "b:6000/app"]
    assert [one.values() for one in again.targets()] == [one.values() for one in whole.targets()]


def test_the_description_names_all_hosts_and_that_of_a_target_its_own() -> None:
    info = parse("host=a,/run/pg,b hostaddr=,,::1 port=1,2,3 dbname=app")
    assert info.description == "a:1,/run/pg:2,b:3/app"
    assert [one.description for one in info.targets()] == ["a:1/app", "/run/pg:2/app", "b:3/app"]
    assert repr(parse("hostaddr=127.0.0.1,::1 user=u")) == (
        "<ConnInfo u@127.0.0.1:5432,[::1]:5432/u sslmode=prefer>"
    )


@pytest.mark.parametrize(
    ("dsn", "message"),
    [
        ("host=a,b hostaddr=::1", "host and hostaddr differ in length, 2 and 1: give each host its address"),
        ("host=a hostaddr=::1,::2", "host and hostaddr differ in length, 1 and 2"),
        (
            "host=a,b port=1,2,3",
            "port and hosts differ in length, 3 and 2: give one port for all, or one for each",
        ),
        ("host=a port=1,2", "port and hosts differ in length, 2 and 1:"),
        ("postgresql://a,b:1,c/?port=1,2", "port and hosts differ in length, 2 and 3:"),
        ("host=a,b port=1,x", "port is not an integer"),
        ("host=a,b port=1,65536", "port is 65536"),
        ("host=a,b@c", "host contains an @"),
        ("host='a, b'", "host contains blanks"),
        ("hostaddr=::1,db", "hostaddr is 'db': write a numeric"),
        (f"host=a,/{'x' * 107}", "host is a directory whose Unix socket has a path of 122 bytes"),
    ],
)
def test_lists_that_do_not_fit_together_are_refused(dsn: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(dsn)
    assert str(caught.value).startswith(message)


def test_certificates_are_looked_for_if_any_of_the_hosts_may_speak_tls() -> None:
    assert parse("host=/a,/b sslmode=require sslcert=/no/such")["host"] == "/a,/b"
    with pytest.raises(ConfigurationError, match=r"^sslcert"):
        parse("host=/a,b sslmode=require sslcert=/no/such")


def test_the_first_server_will_do_unless_another_is_asked_for() -> None:
    assert parse("").target_session_attrs == "any"
    assert parse("", PGTARGETSESSIONATTRS="standby").target_session_attrs == "standby"
    for wanted in ("any", "read-write", "read-only", "primary", "standby", "prefer-standby"):
        assert parse(f"target_session_attrs={wanted}").target_session_attrs == wanted


def test_hosts_are_tried_in_their_order_unless_random_is_asked_for() -> None:
    assert not parse("").load_balance
    assert not parse("load_balance_hosts=disable", PGLOADBALANCEHOSTS="random").load_balance
    assert parse("", PGLOADBALANCEHOSTS="random").load_balance


def test_a_backend_is_asked_about_each_host() -> None:
    asked: list[str] = []

    class Asked(Backend):
        name = "asked"

        def check(self, conninfo: ConnInfo) -> None:
            asked.append(conninfo.host)

        def connect(self, conninfo: ConnInfo, timeout: float | None) -> Session:
            raise NotImplementedError

    Target("host=a,b", Asked(), None)
    assert asked == ["a", "b"]
