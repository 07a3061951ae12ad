"""A plot for each benchmark: every round is a dot, the median a bar."""

from __future__ import annotations

import statistics
from pathlib import Path

from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.benchmark import Benchmark
from bench.results import Metric, Results

OURS, OTHERS = "#2a6fbb", "#b8b8b8"

ACROSS = 5
"""Panels in a row."""

FAR = 14
"""A bar this many times as long as usual is cut; otherwise the other bars could not be compared."""

# Text stays text: a tenth of the size, and searchable.
rcParams["svg.fonttype"] = "none"
# The same figures give the same file.
rcParams["svg.hashsalt"] = "pglisten"


def plot(benchmark: Benchmark, results: Results, path: Path) -> None:
    """Draw a panel for each metric."""
    metrics = benchmark.metrics
    labels = [case.label for case in benchmark.cases if results.values(case.label, metrics[0].name)]
    columns = min(len(metrics), ACROSS)
    rows = -(-len(metrics) // columns)
    size = (2.9 * columns + 2.2, rows * (0.3 * len(labels) + 0.7) + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(f"{benchmark.name}: {benchmark.title}", fontsize=10)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).flatten()
    for panel, metric in zip(panels, metrics, strict=False):
        _draw(panel, metric, labels, results)
    for panel in panels[len(metrics) :]:
        panel.set_visible(False)
    figure.savefig(path, metadata={"Date": None})


def _draw(panel: Axes, metric: Metric, labels: list[str], results: Results) -> None:
    rounds = {
        label: [value * metric.scale for value in values]
        for label in labels
        if (values := results.values(label, metric.name))
    }
    medians = {label: statistics.median(values) for label, values in rounds.items()}
    usual = statistics.median(medians.values()) if medians else 0.0
    shown = {label: values for label, values in rounds.items() if medians[label] <= FAR * usual}
    end = max((value for values in shown.values() for value in values), default=1.0) or 1.0
    for label, median in medians.items():
        place = labels.index(label)
        length = min(median, end)
        color = OURS if "pglisten" in label else OTHERS
        panel.barh(place, length, color=color, height=0.6, alpha=1.0 if label in shown else 0.4)
        if label in shown:
            panel.plot(rounds[label], [place] * len(rounds[label]), "k.", markersize=3)
        mark = "" if label in shown else "→ "
        panel.text(end * 1.03, place, f"{mark}{median:,.{metric.decimals}f}", va="center", fontsize=8)
    panel.set_xlim(0, end * 1.25)
    panel.set_title(metric.title, fontsize=9)
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)
    panel.set_yticks(range(len(labels)), labels)
    panel.set_ylim(len(labels) - 0.4, -0.6)
