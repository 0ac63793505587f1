"""A load test's report as a table for people, CSV for spreadsheets and a chart."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.artefacts import write_json, write_text

_TIMES = (("ttft_ms", "TTFT"), ("tpot_ms", "TPOT"), ("itl_ms", "inter-token"), ("e2e_ms", "end to end"))
_PARTS = ("p50", "p90", "p99")
_PLAIN = (
    "num_requests",
    "num_failed",
    "duration_s",
    "requests_per_s",
    "output_tokens_per_s",
    "prompt_tokens_per_s",
    "mean_output_tokens",
    "goodput_per_s",
)


def write_files(report: Mapping[str, Any], folder: Path) -> None:
    """Write load.json, load.csv, load.png and load.html into `folder`."""
    from benchmarks.load.page import render

    write_json(folder / "load.json", report)
    write_text(folder / "load.csv", csv_of(report))
    draw(report, folder / "load.png")
    write_text(folder / "load.html", render(report))


def csv_of(report: Mapping[str, Any]) -> str:
    """Return a line a level, with a heading."""
    rows = []
    for level in report["levels"]:
        figures = level["figures"]
        row = {
            "model": report["model"],
            "mode": level["mode"],
            "level": level["concurrency"] or level["rate"] or level["label"],
        }
        row |= {name: figures[name] for name in _PLAIN}
        for name, _ in (*_TIMES, ("lateness_ms", "")):
            row |= {f"{name}_{part}": (figures[name] or {}).get(part) for part in _PARTS}
        for stage, of_stage in figures["stages_ms"].items():
            row |= {f"stage_{stage}_ms_{part}": of_stage[part] for part in _PARTS}
        rows.append(row)
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def print_table(report: Mapping[str, Any]) -> None:
    """Print the levels on stdout."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    with_goodput = bool(report["settings"]["limits"])
    table = Table(title=escape(f"{report['model']} at {report['url']}"), title_justify="left")
    table.add_column("load")
    headings = ["requests", "failed", "req/s", "tokens/s", *(f"{label} (ms)" for _, label in _TIMES)]
    for heading in [*headings, "good/s"] if with_goodput else headings:
        table.add_column(heading, justify="right")
    for level in report["levels"]:
        figures = level["figures"]
        cells = [
            level["label"],
            str(figures["num_requests"]),
            str(figures["num_failed"]),
            f"{figures['requests_per_s']:.2f}",
            f"{figures['output_tokens_per_s']:.1f}",
            *(_parts(figures[name]) for name, _ in _TIMES),
        ]
        if with_goodput:
            cells.append(f"{figures['goodput_per_s']:.2f}")
        table.add_row(*cells)
    console = Console()
    console.print(table)
    console.print("times: p50 / p90 / p99", style="dim")
    stages = [
        (level["label"], stage, of_stage)
        for level in report["levels"]
        for stage, of_stage in level["figures"]["stages_ms"].items()
    ]
    if stages:
        by_stage = Table("load", "stage of the server", "ms", title="Server-Timing", title_justify="left")
        for label, stage, of_stage in stages:
            by_stage.add_row(label, escape(stage), _parts(of_stage))
        console.print(by_stage)


def _parts(figures: Mapping[str, float] | None) -> str:
    if figures is None:
        return "–"
    digits = 1 if figures["p50"] < 100 else 0
    return " / ".join(f"{figures[part]:.{digits}f}" for part in _PARTS)


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Draw latency against throughput, a point a level, and tokens a second against the load."""
    from data.charts import new_figure, save_figure

    levels = [level for level in report["levels"] if level["figures"]["ttft_ms"]]
    figure = new_figure(13, 4.2)
    panels = figure.subplots(1, 3)
    throughput = [level["figures"]["requests_per_s"] for level in levels]
    labels = [level["label"] for level in levels]
    for axes, (name, title) in zip(panels, (("ttft_ms", "TTFT"), ("tpot_ms", "TPOT")), strict=False):
        _draw_latency(axes, throughput, [level["figures"][name] for level in levels], labels, title)
    axes = panels[2]
    places = range(len(levels))
    bars = axes.bar(places, [level["figures"]["output_tokens_per_s"] for level in levels])
    axes.bar_label(bars, fmt="%.0f", fontsize=8)
    axes.set_xticks(list(places), labels)
    axes.set(title="Output tokens a second", xlabel="load")
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{report['model']}: latency against throughput".replace("$", r"\$"))
    save_figure(figure, path)


def _draw_latency(
    axes: Any,
    throughput: Sequence[float],
    figures: Sequence[Mapping[str, float] | None],
    labels: Sequence[str],
    title: str,
) -> None:
    known = [
        (rate, of_level, label)
        for rate, of_level, label in zip(throughput, figures, labels, strict=True)
        if of_level is not None
    ]
    for part in _PARTS:
        axes.plot(
            [rate for rate, _, _ in known],
            [of_level[part] for _, of_level, _ in known],
            marker="o",
            label=part,
        )
    for rate, of_level, label in known:
        axes.annotate(label, (rate, of_level["p50"]), xytext=(3, -10), textcoords="offset points", fontsize=7)
    axes.set(title=f"{title} (ms)", xlabel="requests answered a second")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    if known:
        axes.legend(fontsize=8)
