"""A load test's report as one HTML page that needs nothing else: findings, a table, charts of latency against
throughput."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TEMPLATES = Path(__file__).parent / "templates"
_PARTS = ("p50", "p90", "p99")
_TIMES = (
    ("ttft_ms", "Time to first token"),
    ("tpot_ms", "Time per output token"),
    ("e2e_ms", "Whole answer"),
)
_WIDTH, _HEIGHT = 360.0, 200.0


@dataclass(frozen=True)
class Point:
    """A level in a chart: its place in pixels, its figure, and its level's name, in full and as short as can be."""

    x: float
    y: float
    value: float
    label: str
    short: str


def render(report: Mapping[str, Any]) -> str:
    """Return the page."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, trim_blocks=True)
    levels = [level for level in report["levels"] if level["figures"]["ttft_ms"]]
    return environment.get_template("load.html").render(
        report=report,
        times=(*_TIMES[:2], ("itl_ms", "Between tokens"), _TIMES[2]),
        findings=_findings(levels),
        charts=[
            _chart(levels, name, title)
            for name, title in _TIMES
            if len(levels) > 1 and any(level["figures"][name] for level in levels)
        ],
        parts=_parts,
        width=_WIDTH,
        height=_HEIGHT,
    )


def _parts(figures: Mapping[str, float] | None) -> list[str]:
    """Return p50, p90 and p99 for people; dashes where there are none."""
    if figures is None:
        return ["–"] * len(_PARTS)
    digits = 1 if figures["p50"] < 100 else 0
    return [f"{figures[part]:,.{digits}f}" for part in _PARTS]


def _findings(levels: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say in words how much was answered, how fast, and what a heavier load costs."""
    if not levels:
        return ["No request was answered."]
    most = max(levels, key=lambda level: level["figures"]["output_tokens_per_s"])
    first = levels[0]
    told = [
        f"Most output: {most['figures']['output_tokens_per_s']:,.1f} tokens a second ({most['label']}), "
        f"{most['figures']['requests_per_s']:.2f} answers a second.",
        f"Half of the answers begin within {first['figures']['ttft_ms']['p50']:,.0f} ms ({first['label']})"
        + (
            ""
            if most is first
            else f"; within {most['figures']['ttft_ms']['p50']:,.0f} ms at the most output ({most['label']})"
        )
        + ".",
    ]
    failed = sum(level["figures"]["num_failed"] for level in levels)
    asked = sum(level["figures"]["num_requests"] for level in levels)
    told.append(f"{failed} of {asked} requests failed." if failed else f"None of {asked} requests failed.")
    return told


def _chart(levels: Sequence[Mapping[str, Any]], name: str, title: str) -> dict[str, Any]:
    """Return latency against throughput: a line for each percentile, a point for each level."""
    known = [level for level in levels if level["figures"][name]]
    right = max(level["figures"]["requests_per_s"] for level in known) * 1.08 or 1.0
    top = max(level["figures"][name]["p99"] for level in known) * 1.08 or 1.0
    unit = "requests at once" if known[0]["concurrency"] else "requests a second"
    lines = {
        part: [
            Point(
                _WIDTH * level["figures"]["requests_per_s"] / right,
                _HEIGHT * (1 - level["figures"][name][part] / top),
                level["figures"][name][part],
                level["label"],
                f"{level['concurrency'] or level['rate'] or level['label']}",
            )
            for level in known
        ]
        for part in _PARTS
    }
    return {"title": title, "unit": unit, "lines": lines, "right": right, "top": top}
