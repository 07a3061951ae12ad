"""The cost of a step does not depend on the number of other channels and callers."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator

import gevent
import pytest

from pglisten import Listener, OperationTimeout
from pglisten._broadcast.fanout import FanOut
from pglisten._broadcast.shared_channel import SharedChannel
from pglisten._broadcast.upstream import UpstreamListener
from pglisten._completion import Completion
from pglisten._connection.channels import ChannelTable
from pglisten._connection.commands import CommandQueue
from pglisten._connection.plan import BATCH
from pglisten._listener.settings import ListenerOptions
from pglisten.testing import FakeBackend, FakeServer

FEW, MANY = 10_000, 100_000
NO_MORE = 4.0
"""The factor by which a step may cost more with ten times the channels: caches hold fewer of them."""
ROUNDS, STEPS = 5, 20


class Claim(Completion):
    """Counts how often ``done`` is read."""

    looks = 0

    @property
    def done(self) -> bool:
        Claim.looks += 1
        return super().done


class Waiter:
    """A minimal completion, so that its own cost is not measured."""

    done = False

    def resolve(self, error: Exception | None = None) -> None:
        self.done = True

    def finished_within(self, timeout: float | None) -> bool:
        raise NotImplementedError


def wanted(count: int) -> ChannelTable:
    """Return a table at the beginning of a connection."""
    return ChannelTable((f"c{number}", Waiter()) for number in range(count))


def listening(count: int) -> ChannelTable:
    """Return a table with all channels acknowledged."""
    table = wanted(count)
    agree(table)
    return table


def agree(table: ChannelTable) -> None:
    """Do what a connection does after a change of the channels."""
    while plan := table.plan():
        table.applied(plan)
    table.catch_up()
    table.drained()


def seconds(step: Callable[[], object]) -> float:
    """Return the processor time of *step*, without the garbage collector: its time grows with all objects."""
    gc.disable()
    try:
        started = time.thread_time()
        step()
        return time.thread_time() - started
    finally:
        gc.enable()


def first_plan(count: int) -> Iterator[float]:
    table = wanted(count)
    for _ in range(ROUNDS):
        yield seconds(table.plan)
        table.disconnected()


def last_plan(count: int) -> Iterator[float]:
    table = wanted(count)
    for _ in range(ROUNDS):
        for _ in range(count // BATCH - 1):
            plan = table.plan()
            assert plan is not None
            table.applied(plan)
        yield seconds(table.plan)
        table.disconnected()


def one_more(count: int) -> Iterator[float]:
    table = listening(count)
    for number in range(ROUNDS):

        def step(number: int = number) -> None:
            for channel in range(STEPS):
                table.listen(f"more {number} {channel}", Waiter())
                agree(table)

        yield seconds(step)


def one_less(count: int, *, already: int = 0) -> Iterator[float]:
    table = listening(count)
    for channel in range(already):
        table.unlisten(f"c{channel}", Waiter())
    agree(table)
    for number in range(ROUNDS):

        def step(number: int = number) -> None:
            for channel in range(number * STEPS, (number + 1) * STEPS):
                table.unlisten(f"c{already + channel}", Waiter())
                table.drained()
                agree(table)

        yield seconds(step)


def the_last_ones(count: int) -> Iterator[float]:
    return one_less(count, already=count - ROUNDS * STEPS - 1)


def a_gap(count: int) -> Iterator[float]:
    fan_out = FanOut(UpstreamListener(ListenerOptions(backend=FakeBackend()).check()))
    fan_out._channels.update(
        (f"c{number}", SharedChannel(f"c{number}", fan_out._refused)) for number in range(count)
    )
    for _ in range(ROUNDS):
        yield seconds(lambda: [fan_out._mark_gap() for _ in range(STEPS)])


@pytest.mark.parametrize("cost", [first_plan, last_plan, one_more, one_less, the_last_ones, a_gap])
def test_a_step_costs_no_more_beside_ten_times_the_channels(cost: Callable[[int], Iterator[float]]) -> None:
    few, many = min(cost(FEW)), min(cost(MANY))
    print(f"{few * 1e6:.0f} µs, {many * 1e6:.0f} µs")
    assert many < NO_MORE * few


def test_wait_connected_looks_at_each_claim_twice_at_most_in_any_order() -> None:
    count = 500
    server = FakeServer()
    with Listener(backend=FakeBackend(server)) as listener:
        listener.wait_connected(20)
        server.freeze()
        supervisor = listener._supervisor
        claims = [Claim() for _ in range(count)]
        for number, claim in enumerate(claims):
            supervisor.channels.listen(f"c{number}", claim)
        Claim.looks = 0
        waiting = gevent.spawn(listener.wait_connected, 20)
        gevent.idle()
        for claim in reversed(claims):
            claim.resolve()
            gevent.idle()  # The caller that waits goes on.
        waiting.get(timeout=20)
        assert Claim.looks <= 2 * count
        server.thaw()


def test_callers_that_time_out_cost_the_same_each_however_many_wait() -> None:
    def give_up_from_the_end(count: int) -> Callable[[], object]:
        queue = CommandQueue()
        commands = [queue.put("SELECT 1") for _ in range(count)]

        def step() -> None:
            for command in reversed(commands):
                with pytest.raises(OperationTimeout):
                    command.wait(0, "it")
            assert not queue

        return step

    few, many = (min(seconds(give_up_from_the_end(count)) for _ in range(3)) for count in (500, 5000))
    assert many < 10 * NO_MORE * few
