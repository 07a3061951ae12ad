"""A server with another language and encoding: SQLSTATE and message are read all the same."""

from __future__ import annotations

import random
import socket
from typing import NamedTuple

import psycopg2
import pytest

from pglisten import ConnectionFailed, ConnectionLost, ListenerConnection, ServerError
from pglisten.backend import server_text
from pglisten_libpq.reasons import explain
from pglisten_psycopg2._libpq import LibpqAccess
from pglisten_psycopg2._wait import wait
from support.fixtures.listeners import MakeConnection
from support.fixtures.servers import Server
from support.servers.wrong_server import GOOD, READY, Script, Then, message, wrong_server

TIMEOUT = 20.0
"""Seconds for steps that take milliseconds."""

ROUNDS = 500


class Language(NamedTuple):
    encoding: str
    severity: str
    first: str
    second: str


LANGUAGES = (
    Language("koi8-r", "ВАЖНО", 'пользователь "app" не прошёл проверку', "подлинности (по паролю)"),
    Language("cp1251", "ВАЖНО", 'пользователь "app" не прошёл проверку', "подлинности (по паролю)"),
    Language("iso8859-5", "КРИТИЧНО", "Рё: ошибка", "ё"),
    Language("euc-kr", "치명적오류", '사용자 "app"의 password 인증을 실패했습니다', "다시 시도하십시오"),
    Language("euc-jp", "致命的エラー", 'ユーザー"app"のパスワード認証に失敗しました', "再試行"),
    Language("gb18030", "致命错误", '用户 "app" Password 认证失败', "请重试 \u20ac"),
    # The second byte of these characters is ASCII's backslash.
    Language("big5", "致命錯誤", "許功蓋", "餐"),
    Language("iso8859-9", "ÖLÜMCÜL (FATAL)", '"app" için şifre ğüşöç', "yeniden deneyin"),
    Language("latin1", "FATAL", "Passwort-Authentifizierung für »app« fehlgeschlagen", "é"),
    Language("utf-8", "ВАЖНО", 'пользователь "app" не прошёл проверку', "подлинности (по паролю)"),
)


def said(
    language: Language, sqlstate: str, severity: str = "FATAL", kind: bytes = b"E", *, old: bool = False
) -> bytes:
    """Return an ErrorResponse as PostgreSQL sends it; *old* servers send no severity in English."""
    encode = language.encoding
    fields = {
        "S": language.severity.encode(encode),
        **({} if old else {"V": severity.encode()}),
        "C": sqlstate.encode(),
        "M": f"{language.first}\n{language.second}".encode(encode),
        "D": b"12345: a detail\nof two lines",
        "H": language.second.encode(encode),
        "F": b"auth.c",
        "L": b"326",
        "R": b"auth_failed",
    }
    return message(kind, b"".join(key.encode() + value + b"\0" for key, value in fields.items()) + b"\0")


def told(language: Language, between: str = " ") -> str:
    """Return the message in the form that errors show."""
    return server_text(f"{language.first}{between}{language.second}".encode(language.encoding))


@pytest.fixture(params=LANGUAGES, ids=lambda language: language.encoding)
def language(request: pytest.FixtureRequest) -> Language:
    found: Language = request.param
    return found


@pytest.mark.parametrize("old", [False, True], ids=["new server", "old server"])
def test_a_wrong_password_is_tried_on_one_host_alone(
    backend_name: str, language: Language, *, old: bool
) -> None:
    refusal = Script(startup=(said(language, "28P01", old=old), Then.CLOSE))
    with wrong_server(refusal) as first, wrong_server(refusal) as second:
        dsn = f"host=127.0.0.1,127.0.0.1 port={first.port},{second.port} user=app password=x dbname=app"
        with pytest.raises(ConnectionFailed) as caught:
            ListenerConnection(dsn, backend=backend_name, connect_timeout=TIMEOUT)
        assert second.connections == 0
        assert caught.value.sqlstate == "28P01"
        text = f"127.0.0.1:{first.port}/app: {told(language)} (remedy: check user and password ("
        assert str(caught.value).startswith(text)


def test_a_refused_query_has_all_fields(backend_name: str, language: Language) -> None:
    answer = (said(language, "42601", "ERROR") + READY,)
    with wrong_server(Script(answers=(answer,))) as server:
        connection = ListenerConnection(server.dsn(), backend=backend_name, connect_timeout=TIMEOUT)
        with pytest.raises(ServerError) as caught:
            connection.execute("SELECT 1", timeout=TIMEOUT)
        connection.close()
    error = caught.value
    assert (error.severity, error.sqlstate, error.detail) == (
        "ERROR",
        "42601",
        "12345: a detail\nof two lines",
    )
    if language.encoding == "utf-8":
        assert (error.message, error.hint) == (told(language, "\n"), language.second)


@pytest.mark.parametrize("kind", [b"E", b"N"], ids=["error", "notice"])
def test_the_end_of_a_session_in_a_query_has_its_reason(
    backend_name: str, language: Language, kind: bytes
) -> None:
    # The server reports a crash in a WARNING.
    severity = "FATAL" if kind == b"E" else "WARNING"
    with wrong_server(Script(answers=((said(language, "57P01", severity, kind), Then.CLOSE),))) as server:
        connection = ListenerConnection(server.dsn(), backend=backend_name, connect_timeout=TIMEOUT)
        with pytest.raises(ConnectionLost) as caught:
            connection.execute("SELECT 1", timeout=TIMEOUT)
        connection.close()
    assert (str(caught.value), caught.value.sqlstate) == (told(language), "57P01")


def test_the_end_of_an_idle_session_has_its_reason(backend_name: str, language: Language) -> None:
    with wrong_server(GOOD) as server:
        connection = ListenerConnection(server.dsn(), backend=backend_name, connect_timeout=TIMEOUT)
        server.say(said(language, "57P01"))
        server.open[0].shutdown(socket.SHUT_WR)
        with pytest.raises(ConnectionLost) as caught:
            connection.get(timeout=TIMEOUT)
        connection.close()
    assert (str(caught.value), caught.value.sqlstate) == (told(language), "57P01")


def test_a_loss_after_a_refused_query_has_its_own_reason(
    server: Server, make_connection: MakeConnection
) -> None:
    connection = make_connection()
    with pytest.raises(ServerError, match="syntax error"):
        connection.execute("SELEC 'größer'", timeout=TIMEOUT)
    assert connection.server_pid is not None
    server.terminate(connection.server_pid)
    with pytest.raises(ConnectionLost) as caught:
        connection.get(timeout=TIMEOUT)
    assert str(caught.value) == "terminating connection due to administrator command"
    assert caught.value.sqlstate == "57P01"


def test_a_loss_without_a_word_after_a_refused_query_is_not_blamed_on_it(
    backend_name: str, language: Language
) -> None:
    with wrong_server(Script(answers=((said(language, "42601", "ERROR") + READY,),))) as server:
        connection = ListenerConnection(server.dsn(), backend=backend_name, connect_timeout=TIMEOUT)
        with pytest.raises(ServerError):
            connection.execute("SELECT 1", timeout=TIMEOUT)
        server.open[0].shutdown(socket.SHUT_WR)
        with pytest.raises(ConnectionLost) as caught:
            connection.get(timeout=TIMEOUT)
        connection.close()
    assert str(caught.value) == "server closed the connection unexpectedly"
    assert caught.value.sqlstate is None


WORDS = (
    "app",
    "ERROR:",
    "FATAL:",
    "28P01:",
    '"::1",',
    "port",
    "failed:",
    ":",
    "12345",
    "ошибка",
    "  ",
    "\t",
    "\n",
)


def _text(rng: random.Random) -> str:
    """Return a text that resembles the words that libpq puts around it, and begins with a word."""
    return "no" + "".join(rng.choice((" ", "")) + rng.choice(WORDS) for _ in range(rng.randrange(12)))


def test_what_is_read_from_libpqs_text_is_what_libpq_has_in_its_fields() -> None:
    rng = random.Random(20)
    cases: list[tuple[bytes, str, str]] = []
    for _ in range(ROUNDS):
        encoding = rng.choice(("utf-8", "koi8-r", "cp1251"))
        sqlstate = "".join(rng.choice("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(4)) + rng.choice(
            "0123456789"
        )
        text = _text(rng)
        fields = {
            "S": rng.choice(("FATAL", "ВАЖНО", "ОШИБКА (FATAL)")).encode(encoding),
            "V": b"ERROR",
            "C": sqlstate.encode(),
            "M": text.encode(encoding),
            "D": _text(rng).encode(encoding),
            "H": _text(rng).encode(encoding),
            "F": b"auth.c",
            "L": b"1",
            "R": b"f",
        }
        left_out = rng.choice(("", "D", "H", "DH", "FLR"))
        body = b"".join(key.encode() + value + b"\0" for key, value in fields.items() if key not in left_out)
        cases.append((message(b"E", body + b"\0"), sqlstate, server_text(text.encode(encoding))))
    answers = tuple((case + READY,) for case, _, _ in cases)
    with wrong_server(Script(answers=answers)) as server:
        conn = psycopg2.connect(server.dsn(), async_=True)
        libpq = LibpqAccess(conn)
        wait(conn)
        for _, sqlstate, text in cases:
            cursor = conn.cursor()  # Kept, because psycopg2 needs the cursor until the answer arrives.
            cursor.execute("SELECT 1")
            error = wait(conn)
            assert error is not None
            of_libpq, diag = libpq.reason(error), error.diag
            assert explain(of_libpq) == (" ".join(text.split()), sqlstate), of_libpq
            assert diag.sqlstate == sqlstate
            if "\N{REPLACEMENT CHARACTER}" not in (primary := diag.message_primary or ""):
                assert primary == text
        libpq.close()
        conn.close()
