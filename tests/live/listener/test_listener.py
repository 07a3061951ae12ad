"""What a listener promises while nothing goes wrong, and what happens around one lost connection."""

from __future__ import annotations

import gevent
import pytest
from gevent.event import Event

import pglisten
from pglisten import Listener, ListenerEvent, Notification
from support.fixtures.listeners import Events, MakeListener, fence
from support.fixtures.servers import Server


def test_a_notification_comes_with_channel_payload_and_the_senders_pid(
    listener: Listener, server: Server
) -> None:
    listener.listen("one", timeout=20)
    server.notify("one", "something")
    item = listener.get(timeout=20)
    assert item is not None
    assert (item.channel, item.payload) == ("one", "something")
    assert item.pid != listener.stats().server_pid
    listener.notify("one")
    assert listener.get(timeout=20) == Notification(listener.stats().server_pid or 0, "one", "")


def test_after_unlisten_nothing_more_comes(listener: Listener, server: Server) -> None:
    listener.listen("other", timeout=20)
    listener.listen("gone", timeout=20)
    listener.unlisten("gone", timeout=20)
    server.notify("gone", "x")
    fence(listener, "other")
    assert listener.channels == {"other"}


def test_after_unlisten_all_nothing_more_comes_and_channels_can_be_listened_to_again(
    listener: Listener, server: Server
) -> None:
    for channel in ("a", "b", "c"):
        listener.listen(channel, timeout=20)
    listener.unlisten_all(timeout=20)
    assert listener.channels == frozenset()
    for channel in ("a", "b", "c"):
        server.notify(channel, "lost")
    listener.listen("b", timeout=20)
    fence(listener, "b")


def test_what_came_before_unlisten_is_still_delivered(listener: Listener, server: Server) -> None:
    listener.listen("early", timeout=20)
    server.notify("early", "before")
    listener.unlisten("early", timeout=20)
    item = listener.get(timeout=20)
    assert item is not None
    assert item.payload == "before"


def test_a_channel_in_the_set_is_refused_at_once_even_while_its_listen_waits(
    make_listener: MakeListener,
) -> None:
    with make_listener("host=127.0.0.1 port=1 user=app") as listener:
        waiting = gevent.spawn(listener.listen, "x")
        gevent.idle()
        with pytest.raises(pglisten.ChannelAlreadyOpen):
            listener.listen("x")
        assert listener.channels == {"x"}
        listener.unlisten("x")
        with pytest.raises(pglisten.ChannelNotOpen):
            waiting.get(timeout=20)
        with pytest.raises(pglisten.ChannelNotOpen):
            listener.unlisten("x")
        assert listener.channels == frozenset()


def test_a_listen_that_runs_out_of_time_leaves_nothing_behind(make_listener: MakeListener) -> None:
    with make_listener("host=127.0.0.1 port=1 user=app") as listener:
        with pytest.raises(pglisten.OperationTimeout):
            listener.listen("x", timeout=0.01)
        assert listener.channels == frozenset()


def test_wait_connected_names_the_last_failure(make_listener: MakeListener) -> None:
    events = Events()
    with make_listener("host=127.0.0.1 port=1 user=app", event_callback=events) as listener:
        events.wait_for("CONNECTION_ATTEMPT_FAILED")
        with pytest.raises(pglisten.OperationTimeout) as caught:
            listener.wait_connected(timeout=0.01)
        assert isinstance(caught.value.__cause__, pglisten.ConnectionFailed)


def test_without_a_connection_notify_and_ping_say_so(make_listener: MakeListener) -> None:
    with make_listener("host=127.0.0.1 port=1 user=app") as listener:
        with pytest.raises(pglisten.NotConnected):
            listener.notify("x", "y")
        with pytest.raises(pglisten.NotConnected):
            listener.ping()


def test_ping_is_a_round_trip_in_seconds(listener: Listener) -> None:
    assert 0 < listener.ping(timeout=20) < 20
    assert listener.stats().last_ping is not None


def test_names_and_payloads_pass_unchanged(listener: Listener) -> None:
    for channel in ('we"ird', "$$; --", "ключ", "Case", "x" * 63):
        listener.listen(channel, timeout=20)
        for payload in ("it's", "back\\slash", "naïve ☃ 𝄞", "line\nbreak", "x" * 7999):
            listener.notify(channel, payload, timeout=20)
            item = listener.get(timeout=20)
            assert item is not None
            assert (item.channel, item.payload) == (channel, payload)


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 64, "é" * 32, "\ud800"])
def test_a_bad_name_is_refused_before_anything_is_stored(listener: Listener, name: str) -> None:
    for call in (listener.listen, listener.unlisten, listener.notify):
        with pytest.raises(pglisten.InvalidChannelName):
            call(name)
    assert listener.channels == frozenset()
    listener.ping(timeout=20)


def test_a_payload_too_long_is_refused_before_anything_is_sent(listener: Listener) -> None:
    listener.listen("x", timeout=20)
    with pytest.raises(pglisten.PayloadTooLong):
        listener.notify("x", "y" * 8000)
    fence(listener, "x")


def test_the_order_of_events_and_of_the_stream_around_a_loss(
    make_listener: MakeListener, server: Server
) -> None:
    events = Events()
    with make_listener(
        min_reconnect_interval=0.02, max_reconnect_interval=3600.0, jitter=0.0, event_callback=events
    ) as listener:
        listener.listen("x", timeout=20)
        server.notify("x", "old")
        listener.ping(timeout=20)
        old = listener.stats().server_pid
        assert old is not None
        server.terminate(old)
        events.wait_for("CONNECTED", "DISCONNECTED", "RECONNECTED")
        listener.wait_connected(20)
        server.notify("x", "new")
        items = [listener.get(timeout=20) for _ in range(3)]
        assert [None if item is None else item.payload for item in items] == ["old", None, "new"]
        fence(listener, "x")
        assert listener.stats().server_pid != old
        assert listener.stats().reconnects == 1
        assert events[0] == (ListenerEvent.CONNECTED, None)
        error = events[1][1]
        assert isinstance(error, pglisten.ConnectionLost)
        assert error.sqlstate == "57P01"
        assert events[2] == (ListenerEvent.RECONNECTED, None)
        listener.close()
        assert events.names == ["CONNECTED", "DISCONNECTED", "RECONNECTED", "DISCONNECTED"]
        assert isinstance(events[-1][1], pglisten.ListenerClosed)


def test_a_listen_on_an_ended_connection_returns_with_the_next_ones_acknowledgement(
    make_listener: MakeListener, server: Server
) -> None:
    with make_listener(min_reconnect_interval=0.02, jitter=0.0) as listener:
        listener.wait_connected(20)
        for number in range(20):
            pid = listener.stats().server_pid
            assert pid is not None
            server.terminate(pid)
            listener.listen(f"c{number}", timeout=20)
            server.notify(f"c{number}", "heard")
            with gevent.Timeout(20):
                while (item := listener.get()) is None:
                    pass
            assert (item.channel, item.payload) == (f"c{number}", "heard")
            listener.wait_connected(20)


def test_the_marker_comes_after_the_callback_which_may_call_the_listener(
    make_listener: MakeListener, server: Server
) -> None:
    go, reconnected = Event(), Event()

    def callback(event: ListenerEvent, error: Exception | None) -> None:
        if event is ListenerEvent.DISCONNECTED and not listener.closed:
            listener.listen("from the callback", timeout=20)
        if event is ListenerEvent.RECONNECTED:
            listener.ping(timeout=20)
            listener.notify("from the callback", "x", timeout=20)
            reconnected.set()
            go.wait(20)
            raise ValueError("logged, and nothing else")

    with make_listener(min_reconnect_interval=0.02, event_callback=callback) as listener:
        listener.wait_connected(20)
        server.terminate(listener.stats().server_pid or 0)
        consumer = gevent.spawn(lambda: [listener.get(), listener.get()])
        assert reconnected.wait(20)
        listener.ping(timeout=20)
        assert not consumer.ready()
        go.set()
        gap, item = consumer.get(timeout=20)
        assert gap is None
        assert item.channel == "from the callback"
        assert listener.channels == {"from the callback"}


def test_closing_wakes_every_caller_and_leaves_what_is_queued(listener: Listener) -> None:
    listener.listen("x", timeout=20)
    for number in range(3):
        listener.notify("x", str(number), timeout=20)
    listener.close()
    listener.close()
    assert [item.payload for item in listener if item is not None] == ["0", "1", "2"]
    with pytest.raises(pglisten.ListenerClosed):
        listener.get()
    for call in (
        listener.ping,
        listener.unlisten_all,
        lambda: listener.listen("y"),
        lambda: listener.notify("y"),
    ):
        with pytest.raises(pglisten.ListenerClosed):
            call()
    with pytest.raises(pglisten.ListenerClosed):
        listener.wait_connected()
    assert listener.closed
    assert not listener.connected


def test_several_consumers_share_the_stream(listener: Listener) -> None:
    listener.listen("x", timeout=20)
    got: list[str] = []
    consumers = [
        gevent.spawn(lambda: got.extend(item.payload for item in listener if item)) for _ in range(3)
    ]
    for number in range(30):
        listener.notify("x", str(number), timeout=20)
    listener.ping(timeout=20)
    gevent.idle()
    listener.close()
    gevent.joinall(consumers, timeout=20, raise_error=True)
    assert sorted(got, key=int) == [str(number) for number in range(30)]


def test_repr_shows_state_backend_and_channels_and_never_a_password(make_listener: MakeListener) -> None:
    with make_listener() as listener:
        listener.listen("x", timeout=20)
        pid = listener.stats().server_pid
        assert (
            repr(listener) == f"<Listener connected backend={listener.backend} channels=1 server_pid={pid}>"
        )
    assert repr(listener) == f"<Listener closed backend={listener.backend} channels=1>"


def test_the_figures_add_up(make_listener: MakeListener) -> None:
    with make_listener() as listener:
        listener.listen("x", timeout=20)
        for number in range(5):
            listener.notify("x", str(number), timeout=20)
        listener.get(timeout=20)
        stats = listener.stats()
        assert (stats.received, stats.delivered, stats.queue_depth, stats.dropped) == (5, 1, 4, 0)
        assert (stats.reconnects, stats.failed_attempts, stats.last_error) == (0, 0, None)
        assert stats.connected_since is not None
