"""An abandoned ``listen()`` delivers nothing; what an open channel had brought before is delivered."""

from __future__ import annotations

from pglisten._completion import Completion
from pglisten._connection.channels import ChannelTable
from pglisten._connection.plan import Plan


def _carry_out(table: ChannelTable) -> Plan:
    plan = table.plan()
    assert plan is not None
    table.applied(plan)
    if table.plan() is None:
        table.catch_up()
    return plan


def _abandon_a_listen_in_flight(table: ChannelTable) -> None:
    claim = Completion()
    table.listen("x", claim)
    plan = table.plan()
    assert plan is not None
    assert plan.listen == ("x",)
    table.abandon_listen("x", claim)
    table.applied(plan)


def test_a_channel_whose_listen_was_abandoned_is_ignored_until_all_is_read() -> None:
    table = ChannelTable()
    table.catch_up()
    _abandon_a_listen_in_flight(table)
    assert table.abandoned == {"x"}
    assert _carry_out(table).unlisten == ("x",)
    assert table.abandoned == {"x"}
    table.drained()
    assert table.abandoned == set()


def test_a_channel_that_was_open_is_delivered_until_all_that_it_brought_is_read() -> None:
    table = ChannelTable()
    table.listen("x", Completion())
    _carry_out(table)
    table.unlisten("x", Completion())
    _carry_out(table)
    # The notifications that arrived while it was open are still unread.
    _abandon_a_listen_in_flight(table)
    assert table.abandoned == set()
    _carry_out(table)
    table.drained()
    _abandon_a_listen_in_flight(table)
    assert table.abandoned == {"x"}


def test_a_channel_that_is_still_being_left_may_bring_more_though_all_is_read_by_now() -> None:
    table = ChannelTable()
    table.listen("x", Completion())
    _carry_out(table)
    table.unlisten("x", Completion())
    leaving = table.plan()
    assert leaving is not None
    table.drained()
    claim = Completion()
    table.listen("x", claim)
    table.abandon_listen("x", claim)
    assert table.abandoned == set()
    table.applied(leaving)
    table.drained()
    _abandon_a_listen_in_flight(table)
    assert table.abandoned == {"x"}
