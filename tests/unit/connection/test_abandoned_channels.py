"""What a given-up ``listen()`` brings is nobody's; what an open channel had brought before is not."""

from __future__ import annotations

from pglisten._completion import Completion
from pglisten._connection.channels import ChannelTable, Plan


def _carry_out(table: ChannelTable) -> Plan:
    plan = table.plan()
    assert plan is not None
    table.applied(plan)
    if table.plan() is None:
        table.catch_up()
    return plan


def _give_up_a_listen_under_way(table: ChannelTable) -> None:
    claim = Completion()
    table.listen("x", claim)
    plan = table.plan()
    assert plan is not None
    assert plan.listen == ("x",)
    table.abandon_listen("x", claim)
    table.applied(plan)


def test_a_channel_whose_listen_was_given_up_is_an_orphan_until_all_is_read() -> None:
    table = ChannelTable()
    table.catch_up()
    _give_up_a_listen_under_way(table)
    assert table.abandoned == {"x"}
    assert _carry_out(table).unlisten == ("x",)
    assert table.abandoned == {"x"}
    table.drained()
    assert table.abandoned == set()


def test_a_channel_that_was_open_is_no_orphan_until_all_that_it_brought_is_read() -> None:
    table = ChannelTable()
    table.listen("x", Completion())
    _carry_out(table)
    table.unlisten("x", Completion())
    _carry_out(table)
    # What came while it was open has not been read yet.
    _give_up_a_listen_under_way(table)
    assert table.abandoned == set()
    _carry_out(table)
    table.drained()
    _give_up_a_listen_under_way(table)
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
    _give_up_a_listen_under_way(table)
    assert table.abandoned == {"x"}
