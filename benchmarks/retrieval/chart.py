"""The picture of `bench retrieval`."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def draw_searches(result: dict[str, Any], path: Path) -> None:
    """Write a PNG: p50 and p99 of a search by the number of rows, a line a system."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 4.5), dpi=120, layout="constrained")
    lines: dict[str, list[tuple[int, float, float]]] = {}
    for run in result["runs"]:
        for part, times in run["times_ms"].items():
            lines.setdefault(f"{run['system']}: {part}", []).append((run["rows"], times["p50"], times["p99"]))
    for name, points in sorted(lines.items()):
        sizes, p50, p99 = zip(*sorted(points), strict=True)
        (line,) = axes.plot(sizes, p50, "o-", label=f"{name}, p50")
        axes.plot(sizes, p99, "x:", color=line.get_color(), label=f"{name}, p99")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("rows")
    axes.set_ylabel("ms")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1))
    figure.savefig(path)
    plt.close(figure)
