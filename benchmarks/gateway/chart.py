"""The picture of `bench gateway`: what a core relays, and what a gateway adds to each request."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.gateway.flow import OURS, THEIRS
from data.charts import save_figure

_COLOURS = {OURS: "tab:blue", THEIRS: "tab:gray"}


def draw_gateways(result: Mapping[str, Any], path: Path) -> None:
    """Write the picture."""
    from matplotlib.figure import Figure

    systems = {name: result["systems"][name] for name in (OURS, THEIRS) if name in result["systems"]}
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    throughput, events, latency = figure.subplots(1, 3)
    names = list(systems)
    colours = [_COLOURS[name] for name in names]
    kinds = ("whole", "streamed")
    for axes, title, bars in (
        (
            throughput,
            "Requests a second on one core",
            [(kind, [systems[n]["throughput"][kind]["per_second"] for n in names]) for kind in kinds],
        ),
        (
            events,
            "Streamed events a second on one core",
            [("", [systems[n]["events_per_s"] for n in names])],
        ),
        (
            latency,
            f"Added at {result['settings']['rate']:g} requests a second (ms, log)",
            [(part, [systems[n]["added_ms"]["whole"][part] for n in names]) for part in ("p50", "p99")],
        ),
    ):
        width = 0.8 / len(names)
        for place, name in enumerate(names):
            drawn = axes.bar(
                [group + place * width for group in range(len(bars))],
                [values[place] for _, values in bars],
                width,
                color=colours[place],
                label=name,
            )
            axes.bar_label(drawn, fmt="{:,.4g}", fontsize=8)
        axes.set_xticks(
            [group + width * (len(names) - 1) / 2 for group in range(len(bars))], [name for name, _ in bars]
        )
        axes.set_title(title, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    latency.set_yscale("log")
    throughput.legend(fontsize=8)
    save_figure(figure, path)
