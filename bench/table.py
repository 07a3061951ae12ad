"""Tables in Markdown, aligned so that the source can be read."""

from __future__ import annotations

from collections.abc import Sequence

from bench.benchmark import Benchmark
from bench.results import Results, Spread


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table with text in the first column and numbers in the others."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [
        [cell.rjust(width) if number else cell.ljust(width) for number, (cell, width) in enumerate(pairs)]
        for pairs in (list(zip(row, widths, strict=True)) for row in (header, *rows))
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))


def benchmark_table(benchmark: Benchmark, results: Results) -> str:
    """Return medians with minimum and maximum, each beside its ratio to the reference."""
    header = [""]
    for metric in benchmark.metrics:
        header += [metric.title, "ratio"]
    rows: list[list[str]] = []
    for case in benchmark.cases:
        row = [case.label]
        for metric in benchmark.metrics:
            values = [value * metric.scale for value in results.values(case.label, metric.name)]
            ratios = results.ratios(case.label, benchmark.reference.label, metric.name)
            row += [_spread(values, metric.decimals), f"{Spread.of(ratios).median:.2f}" if ratios else ""]
        if any(row[1:]):
            rows.append(row)
    return table(header, rows)


def target_table(judged: Sequence[dict[str, object]]) -> str:
    """Return a table of targets and results."""
    rows = [
        [str(row["target"]), f"{row['reached']:.2f}", "met" if row["met"] else "not met"] for row in judged
    ]
    return table(["target", "reached", ""], rows)


def _spread(values: Sequence[float], decimals: int) -> str:
    if not values:
        return ""
    median, least, most = (f"{value:,.{decimals}f}" for value in Spread.of(values))
    if len(values) == 1:
        return median
    return f"{median} ({least}–{most})"  # noqa: RUF001 - a range takes an en dash
