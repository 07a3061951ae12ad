from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pglisten
from pglisten._completion import Completion
from pglisten._connection.channels import ChannelTable
from pglisten._connection.plan import BATCH, Plan
from pglisten._sql import UNLISTEN_ALL
from pglisten.errors import ServerError


class Waiter(Completion):
    @property
    def error(self) -> Exception | None:
        return self._error  # The same object, where callers get a copy.

    @property
    def well(self) -> bool:
        return self.done and self.error is None


def _table(*channels: str) -> tuple[ChannelTable, dict[str, Waiter]]:
    table = ChannelTable()
    waiters = {channel: Waiter() for channel in channels}
    for channel, waiter in waiters.items():
        table.listen(channel, waiter)
    return table, waiters


def _apply(table: ChannelTable) -> list[Plan]:
    plans = []
    while plan := table.plan():
        plans.append(plan)
        table.applied(plan)
    table.catch_up()
    return plans


REFUSAL = ServerError("no such character", sqlstate="22P05")


def test_a_claim_is_acknowledged_when_the_whole_connection_has_caught_up() -> None:
    table, waiters = _table("a", "b")
    plan = table.plan()
    assert plan == Plan(("a", "b"), ())
    table.applied(plan)
    assert not waiters["a"].done
    table.catch_up()
    assert waiters["a"].well
    assert waiters["b"].well


def test_on_a_settled_connection_each_claim_is_acknowledged_with_its_answer() -> None:
    table, _ = _table("a")
    _apply(table)
    table.listen("b", late := Waiter())
    plan = table.plan()
    assert plan == Plan(("b",), ())
    assert not late.done
    table.applied(plan)
    assert late.well


def test_a_channel_in_the_set_is_refused_at_once_acknowledged_or_not() -> None:
    table, _ = _table("a")
    with pytest.raises(pglisten.ChannelAlreadyOpen):
        table.listen("a", Waiter())
    _apply(table)
    with pytest.raises(pglisten.ChannelAlreadyOpen):
        table.listen("a", Waiter())


def test_a_thousand_channels_are_one_query() -> None:
    table, _ = _table(*(f"c{n}" for n in range(BATCH)))
    assert len(_apply(table)) == 1


def test_leaving_without_a_connection_is_done_at_once() -> None:
    table, waiters = _table("a")
    table.unlisten("a", departure := Waiter())
    assert departure.well
    assert isinstance(waiters["a"].error, pglisten.ChannelNotOpen)
    assert table.plan() is None


def test_leaving_with_a_connection_waits_for_the_answer_or_for_its_end() -> None:
    table, _ = _table("a", "b")
    _apply(table)
    table.unlisten("a", first := Waiter())
    plan = table.plan()
    assert plan == Plan((), ("a",))
    assert not first.done
    table.applied(plan)
    assert first.well
    table.unlisten("b", second := Waiter())
    table.disconnected()
    assert second.well


def test_leaving_what_is_not_in_the_set_is_an_error() -> None:
    with pytest.raises(pglisten.ChannelNotOpen):
        ChannelTable().unlisten("a", Waiter())


def test_emptying_the_set_is_one_query_whatever_its_size() -> None:
    table, _ = _table(*(f"c{n}" for n in range(3 * BATCH)))
    _apply(table)
    table.unlisten_all(departure := Waiter())
    plan = table.plan()
    assert plan is not None
    assert plan.sql == UNLISTEN_ALL
    assert not departure.done
    table.applied(plan)
    assert departure.well
    assert table.plan() is None


def test_emptying_an_empty_set_is_done_at_once() -> None:
    ChannelTable().unlisten_all(departure := Waiter())
    assert departure.well


def test_a_listen_abandoned_in_flight_is_undone_and_what_it_brings_is_discarded() -> None:
    table, waiters = _table("a")
    plan = table.plan()
    assert plan is not None
    table.abandon_listen("a", waiters["a"])
    assert table.abandoned == {"a"}
    table.applied(plan)
    undo = table.plan()
    assert undo is not None
    assert undo.unlisten == ("a",)
    assert table.abandoned == {"a"}
    table.applied(undo)
    assert table.abandoned == {"a"}  # What came in between may still be unread.
    table.drained()
    assert table.abandoned == set()
    assert table.plan() is None


def test_a_listen_abandoned_before_it_was_sent_is_never_sent() -> None:
    table, waiters = _table("a")
    table.abandon_listen("a", waiters["a"])
    assert table.plan() is None


def test_a_channel_claimed_again_while_its_unlisten_is_under_way_is_listened_to_again() -> None:
    table, _ = _table("a")
    _apply(table)
    table.unlisten("a", Waiter())
    plan = table.plan()
    assert plan is not None
    table.listen("a", again := Waiter())
    table.applied(plan)
    assert not again.done
    following = table.plan()
    assert following == Plan(("a",), ())
    table.applied(following)
    assert again.well


def test_a_channel_claimed_again_before_its_unlisten_was_sent_costs_nothing() -> None:
    table, _ = _table("a")
    _apply(table)
    table.unlisten("a", departure := Waiter())
    table.listen("a", again := Waiter())
    assert again.well
    assert departure.well
    assert table.plan() is None


def test_what_a_departed_caller_gives_up_is_not_taken_from_the_next() -> None:
    table, waiters = _table("a")
    table.unlisten("a", Waiter())
    table.listen("a", Waiter())
    table.abandon_listen("a", waiters["a"])
    assert table.names == {"a"}


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_one_refused_channel_keeps_no_other_out(size: int) -> None:
    table, waiters = _table(*(f"c{n}" for n in range(size)))
    bad = f"c{size // 2}"
    refused, queries = [], 0
    while plan := table.plan():
        queries += 1
        if bad in plan.listen:
            refused += table.refused(plan, REFUSAL)
        else:
            table.applied(plan)
    table.catch_up()
    assert refused == [bad]
    assert waiters.pop(bad).error is REFUSAL
    assert all(waiter.well for waiter in waiters.values())
    assert bad not in table
    assert queries <= 2 * size.bit_length() + 1


def test_a_temporary_error_does_not_remove_a_channel_that_was_open() -> None:
    table, _ = _table("a")
    plan = table.plan()
    assert plan is not None
    passing = ServerError("cancelled", sqlstate="57014")
    assert table.to_blame(plan, passing)
    table.applied(plan)
    table.catch_up()
    table.disconnected()
    again = table.plan()
    assert again is not None
    assert not table.to_blame(again, passing)
    assert table.to_blame(again, REFUSAL)


def test_everything_is_listened_to_again_on_the_next_connection() -> None:
    table, _ = _table("a", "b")
    _apply(table)
    table.disconnected()
    assert table.plan() == Plan(("a", "b"), ())


def test_at_the_end_every_waiting_caller_gets_the_error() -> None:
    table, waiters = _table("a", "b")
    plan = table.plan()
    assert plan is not None
    table.applied(plan)
    table.unlisten("b", departure := Waiter())
    closed = pglisten.ListenerClosed("closed")
    table.fail(closed)
    assert waiters["a"].error is closed
    assert departure.error is closed


@given(st.integers(0, 10_000), st.integers(1, 6))
def test_in_any_order_of_calls_losses_and_refusals_the_server_ends_up_with_what_is_wanted(
    seed: int, names: int
) -> None:
    dice = random.Random(seed)
    table, server, plan = ChannelTable(), set[str](), None
    channels = [f"c{n}" for n in range(names)]
    refused = {"c5"}
    waiters: list[tuple[str, Waiter]] = []
    departures: list[Waiter] = []

    def answer(plan: Plan) -> None:
        if refused & set(plan.listen):
            table.refused(plan, REFUSAL)
            return
        server.difference_update(server if plan.everything else plan.unlisten)
        server.update(plan.listen)
        table.applied(plan)

    for _ in range(60):
        channel = dice.choice(channels)
        match dice.randrange(8):
            case 0 | 1:
                if channel not in table:
                    waiters.append((channel, Waiter()))
                    table.listen(*waiters[-1])
            case 2:
                if channel in table:
                    departures.append(Waiter())
                    table.unlisten(channel, departures[-1])
            case 3:
                if waiters:
                    table.abandon_listen(*dice.choice(waiters))
            case 4:
                if dice.random() < 0.3:
                    departures.append(Waiter())
                    table.unlisten_all(departures[-1])
            case 5:
                if dice.random() < 0.3:
                    server.clear()
                    plan = None
                    table.disconnected()
            case _:
                if plan is not None:
                    answer(plan)
                    plan = None
                else:
                    plan = table.plan()
                    if plan is None and not table.caught_up:
                        table.catch_up()
    if plan is not None:
        answer(plan)
    while plan := table.plan():
        answer(plan)
    if not table.caught_up:
        table.catch_up()
    table.drained()
    assert server == table.names
    assert not table.waiting
    assert table.abandoned == set()
    assert all(departure.done for departure in departures)
