"""What `Session.receive` promises while the session lives."""

from __future__ import annotations

import time

import gevent
import pytest

from ...backend import ConnInfo, Notification, Session
from ...errors import ServerError
from ._fixtures import Connect, ContractFixtures
from ._observing import (
    PATIENCE,
    answer,
    background,
    drain,
    listen,
    notify,
    wait_for_notifications,
    wait_readable,
)

__all__ = ["NotificationContract"]

_TEXTS = [
    "é",
    "żółw 🐢 שלום",
    "\u0661\u0662",  # digits that are not ASCII's
    "\N{ZERO WIDTH JOINER}\N{COMBINING ACUTE ACCENT}",
    "\U0010ffff",
    "quotes \" \"\" ' ''",
    "back\\slash \\' \\x41 %s {} $1",
    " spaces\tand\nlines\r\n ",
    "UPPER and lower",
    "; --",
]


class NotificationContract(ContractFixtures):
    """Notifications arrive complete, unchanged and in order, and `receive` never waits."""

    def test_a_notification_has_the_senders_pid_the_channel_and_the_payload(
        self, session: Session, other: Session, channel: str
    ) -> None:
        listen(session, channel)
        notify(other, channel, "hello")
        received = wait_for_notifications(session, 1)
        assert received == [Notification(other.pid, channel, "hello")]
        assert [type(field) for field in received[0]] == [int, str, str]

    def test_without_a_payload_it_is_empty(self, session: Session, other: Session, channel: str) -> None:
        listen(session, channel)
        other.execute(f"NOTIFY {channel}", PATIENCE)
        assert wait_for_notifications(session, 1) == [Notification(other.pid, channel, "")]

    def test_receive_does_not_wait(self, session: Session, channel: str) -> None:
        listen(session, channel)
        # A turn of the hub would raise it, and nothing else here switches to the hub.
        with gevent.Timeout(0):
            assert [session.receive() for _ in range(100)] == [[]] * 100

    def test_what_a_session_sends_itself_is_there_after_its_query(
        self, session: Session, channel: str
    ) -> None:
        session.execute(
            f"LISTEN {channel}; NOTIFY {channel}, 'a'; SELECT pg_notify('{channel}', 'b')", PATIENCE
        )
        # Not waited for: it came with the reply, and the descriptor may never be readable again.
        assert drain(session) == [Notification(session.pid, channel, payload) for payload in "ab"]

    def test_what_arrives_during_a_query_is_received(
        self, session: Session, other: Session, channel: str
    ) -> None:
        listen(session, channel)
        query = background(session.execute, "SELECT pg_sleep(0.3)", PATIENCE)
        gevent.sleep(0)  # the hub's turn in which it starts
        notify(other, channel, "meanwhile")
        query.get(timeout=PATIENCE)
        assert wait_for_notifications(session, 1) == [Notification(other.pid, channel, "meanwhile")]

    def test_what_comes_before_a_servers_error_is_received(
        self, session: Session, other: Session, channel: str
    ) -> None:
        listen(session, channel)
        notify(other, channel, "before")
        wait_readable(session)
        with pytest.raises(ServerError):
            session.execute("SELEC", PATIENCE)
        assert drain(session) == [Notification(other.pid, channel, "before")]

    def test_order_is_the_order_of_commits(
        self, session: Session, other: Session, connect: Connect, channel: str
    ) -> None:
        third = connect()
        listen(session, channel)
        for number in range(20):
            notify(third if number % 3 else other, channel, str(number))
        received = wait_for_notifications(session, 20)
        assert [notification.payload for notification in received] == [str(number) for number in range(20)]

    def test_the_same_twice_in_a_query_comes_once(
        self, session: Session, other: Session, channel: str
    ) -> None:
        listen(session, channel)
        notify(other, channel, "a", "b", "a")
        notify(other, channel, "a")
        received = wait_for_notifications(session, 3)
        assert [notification.payload for notification in received] == ["a", "b", "a"]

    @pytest.mark.parametrize("count", [101, 300, 5_000])
    def test_a_burst_arrives_complete_and_in_order(
        self, session: Session, other: Session, channel: str, count: int
    ) -> None:
        payloads = [str(number) for number in range(count)]
        listen(session, channel)
        notify(other, channel, *payloads)  # all is on the way before the session receives
        assert [notification.payload for notification in wait_for_notifications(session, count)] == payloads
        notify(other, channel, "fence")
        assert [notification.payload for notification in wait_for_notifications(session, 1)] == ["fence"]

    def test_a_burst_during_a_query_arrives_complete(
        self, session: Session, other: Session, channel: str
    ) -> None:
        payloads = [str(number) for number in range(2_000)]
        listen(session, channel)
        query = background(session.execute, "SELECT pg_sleep(0.3)", PATIENCE)
        notify(other, channel, *payloads)
        query.get(timeout=PATIENCE)
        assert [notification.payload for notification in wait_for_notifications(session, 2_000)] == payloads

    def test_one_receive_in_a_burst_holds_up_the_hub_for_less_than_100_ms(
        self, session: Session, other: Session, channel: str
    ) -> None:
        listen(session, channel)
        for start in range(0, 20_000, 5_000):
            notify(other, channel, *(f"{number:060}" for number in range(start, start + 5_000)))
        received, longest = 0, 0.0
        while received < 20_000:
            wait_readable(session)
            more: int | None = None
            while more != 0:
                started = time.perf_counter()
                more = len(session.receive())
                longest = max(longest, time.perf_counter() - started)
                received += more
        assert longest < 0.1

    @pytest.mark.parametrize("text", _TEXTS)
    def test_any_text_passes_as_channel_and_payload(
        self, session: Session, other: Session, channel: str, text: str
    ) -> None:
        name = (channel[-4:] + text).encode()[:63].decode(errors="ignore")
        listen(session, name)
        notify(other, name, text * 3)
        assert wait_for_notifications(session, 1) == [Notification(other.pid, name, text * 3)]

    def test_channels_that_differ_in_case_are_different(
        self, session: Session, other: Session, channel: str
    ) -> None:
        listen(session, channel.upper())
        notify(other, channel, "lower")
        notify(other, channel.upper(), "upper")
        assert wait_for_notifications(session, 1) == [Notification(other.pid, channel.upper(), "upper")]

    @pytest.mark.parametrize("size", [7_998, 7_999])
    @pytest.mark.parametrize("character", ["x", "é"])
    def test_a_payload_of_7999_bytes_passes(
        self, session: Session, other: Session, channel: str, character: str, size: int
    ) -> None:
        payload = (character * size).encode()[:size].decode(errors="ignore").ljust(1)
        listen(session, channel)
        notify(other, channel, payload)
        assert wait_for_notifications(session, 1) == [Notification(other.pid, channel, payload)]

    def test_a_payload_of_8000_bytes_is_refused_by_the_server(self, session: Session, channel: str) -> None:
        with pytest.raises(ServerError) as caught:
            notify(session, channel, "x" * 8_000)
        assert caught.value.sqlstate == "22023"
        assert "xxx" not in str(caught.value)

    def test_a_channel_of_63_bytes_passes(self, session: Session, other: Session, channel: str) -> None:
        name = channel.ljust(63, "z")
        listen(session, name)
        notify(other, name, "longest")
        assert wait_for_notifications(session, 1) == [Notification(other.pid, name, "longest")]

    def test_listen_cuts_a_name_to_63_bytes_and_pg_notify_refuses_it(
        self, session: Session, channel: str
    ) -> None:
        longer = channel.ljust(64, "z")
        session.execute(f'LISTEN "{longer}"', PATIENCE)
        with pytest.raises(ServerError) as caught:
            session.execute(f"SELECT pg_notify('{longer}', '')", PATIENCE)
        assert caught.value.sqlstate == "22023"
        notify(session, longer[:63], "cut")
        assert drain(session) == [Notification(session.pid, longer[:63], "cut")]

    def test_after_unlisten_nothing_comes(self, session: Session, other: Session, channel: str) -> None:
        listen(session, channel, f"{channel}_fence")
        session.execute(f"UNLISTEN {channel}", PATIENCE)
        notify(other, channel, "unheard")
        notify(other, f"{channel}_fence", "fence")
        assert [notification.payload for notification in wait_for_notifications(session, 1)] == ["fence"]

    def test_the_encoding_is_utf8_whatever_the_environment_says(
        self, dsn: str, connect: Connect, channel: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
        session = connect(ConnInfo.parse(dsn, {"PGCLIENTENCODING": "LATIN1"}))
        assert answer(session, "current_setting('client_encoding')") == "UTF8"
        listen(session, channel)
        notify(session, channel, "€ and é")  # one that LATIN1 lacks, one that it has
        assert drain(session) == [Notification(session.pid, channel, "€ and é")]
