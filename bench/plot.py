"""A picture of each benchmark: every round is a dot, the median a bar."""

from __future__ import annotations

from pathlib import Path

from matplotlib import rcParams
from matplotlib.figure import Figure

from bench.benchmark import Benchmark
from bench.results import Results, Spread

OURS, OTHERS = "#2a6fbb", "#b8b8b8"

# Text as text: a tenth of the size, and it can be searched.
rcParams["svg.fonttype"] = "none"
# The same figures give the same file.
rcParams["svg.hashsalt"] = "pglisten"


def plot(benchmark: Benchmark, results: Results, path: Path) -> None:
    """Draw a panel for each metric."""
    labels = [case.label for case in benchmark.cases if results.values(case.label, benchmark.metrics[0].name)]
    figure = Figure(
        figsize=(3.2 * len(benchmark.metrics) + 2.2, 0.3 * len(labels) + 1.1), layout="constrained"
    )
    figure.suptitle(f"{benchmark.name}: {benchmark.title}", fontsize=10)
    panels = figure.subplots(1, len(benchmark.metrics), sharey=True, squeeze=False)[0]
    for panel, metric in zip(panels, benchmark.metrics, strict=True):
        for place, label in enumerate(labels):
            values = [value * metric.scale for value in results.values(label, metric.name)]
            if not values:
                continue
            panel.barh(
                place, Spread.of(values).median, color=OURS if "pglisten" in label else OTHERS, height=0.6
            )
            panel.plot(values, [place] * len(values), "k.", markersize=3)
        panel.set_title(metric.title, fontsize=9)
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(range(len(labels)), labels)
    panels[0].invert_yaxis()
    figure.savefig(path, metadata={"Date": None})
