"""The codec of a session over psycopg2: text as everywhere, and psycopg2's own mapping as it was."""

from __future__ import annotations

import encodings.utf_8
import sys
from collections.abc import Iterator
from types import FrameType

import pytest
from psycopg2 import extensions

from pglisten.errors import ConnectionFailed
from pglisten_psycopg2._session import Psycopg2Session
from pglisten_servers import Server
from psycopg2_sessions import Connect, Psycopg2Fixtures, received

TEXT = "Größe 😀 \u20ac"


class TestTheCodec(Psycopg2Fixtures):
    @pytest.fixture(autouse=True)
    def _mapping(self) -> Iterator[None]:
        before = dict(extensions.encodings)
        yield
        assert extensions.encodings == before

    def test_text_is_decoded_without_a_function_in_python(self, connect: Connect, server: Server) -> None:
        assert encodings.utf_8.__file__ not in _files_that_run(connect(), server)

    def test_a_failed_attempt_leaves_the_mapping_as_it_was(self, connect: Connect) -> None:
        with pytest.raises(ConnectionFailed):
            connect(dbname="there is none")

    def test_a_codec_that_the_application_has_chosen_is_taken(
        self, connect: Connect, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patched:
            # Another name for the usual one, which is not what it is then.
            patched.setitem(extensions.encodings, "UTF8", "u8")
            session = connect()
            assert extensions.encodings["UTF8"] == "u8"
        assert encodings.utf_8.__file__ in _files_that_run(session, server)


def _files_that_run(session: Psycopg2Session, server: Server) -> set[str]:
    """Return where the functions in Python are that run while *session* takes a notification."""
    session.execute("LISTEN x", 20)
    server.notify("x", TEXT)
    files: set[str] = set()

    def note(frame: FrameType, _: str, __: object) -> None:
        files.add(frame.f_code.co_filename)

    sys.setprofile(note)
    try:
        (item,) = received(session, 1)
    finally:
        sys.setprofile(None)
    assert item[1:] == ("x", TEXT)
    assert files
    return files
