"""The longest time that other greenlets wait while a listener is busy.

A greenlet is due every millisecond, and records how late it ran: by the clock, which includes other
processes, and by the CPU that its thread used meanwhile. The plain loop is measured in bursts only, because
it neither reconnects nor has many channels.
"""

from __future__ import annotations

from bench import burst
from bench.benchmark import Benchmark, Stage, one_by_one
from bench.cases import GEVENT, OURS_2, OURS_3, OURS_8, Case
from bench.losses import listen_and_lose, lose
from bench.results import Metric, Run


def _during_a_burst(stage: Stage, case: Case, *, tls: bool) -> Run:
    with stage.start(case, "burst", tls=tls, count=stage.scale.burst, ticker=True) as peer:
        peer.expect("ready")
        burst.send(stage, peer, stage.scale.burst, 60, held=False)
        peer.expect("seconds")
        noted: Run = peer.expect("stall", "stall_cpu")
    return noted


def _stalls(stage: Stage, case: Case) -> Run:
    noted = {"burst": _during_a_burst(stage, case, tls=False)}
    if stage.server.tls:
        noted["tls"] = _during_a_burst(stage, case, tls=True)
    if case is not GEVENT:
        noted |= _during_losses(stage, case)
    figures = {during: run["stall"] for during, run in noted.items()}
    return figures | {f"{during}_cpu": run["stall_cpu"] for during, run in noted.items()}


def _during_losses(stage: Stage, case: Case) -> dict[str, Run]:
    noted: dict[str, Run] = {}
    with stage.start(case, "channels", count=stage.scale.channels, ticker=True) as peer:
        noted["listen"], noted["again"] = listen_and_lose(stage, peer)
    with stage.start(case, "losses", count=stage.scale.losses, ticker=True) as peer:
        peer.expect("ready")
        for _ in range(stage.scale.losses):
            lose(stage)
            peer.expect("back")
        noted["losses"] = peer.expect("stall", "stall_cpu")
    return noted


BENCHMARKS = (
    Benchmark(
        "stalls",
        "the longest wait of other greenlets, in ms",
        (GEVENT, OURS_2, OURS_3, OURS_8),
        tuple(
            Metric(name + suffix, title + unit, 1e3, 1)
            for name, title in (
                ("burst", "burst"),
                ("tls", "burst, TLS"),
                ("listen", "10,000 channels"),
                ("again", "and again"),
                ("losses", "losses"),
            )
            for suffix, unit in (("", ""), ("_cpu", ", CPU"))
        ),
        one_by_one(_stalls),
        GEVENT,
    ),
)
