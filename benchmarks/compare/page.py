"""The report as one HTML page that needs nothing else: styles, script and charts are in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.compare.report import format_interval, heading, shown_measures, with_marks

_TEMPLATES = Path(__file__).parent / "templates"
_WIDTH = 420.0


def render(report: Mapping[str, Any]) -> str:
    """Return the page."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, trim_blocks=True)
    measures = shown_measures(report)
    main = report["main_measure"]
    return environment.get_template("compare.html").render(
        report=report,
        measures=measures,
        heading=lambda measure: heading(measure, report),
        format_interval=format_interval,
        questions=with_marks(report),
        categories=sorted({item["category"] for item in report["questions"] if item["category"]}),
        charts=[_bars(report, measure) for measure in measures if measure["unit"] in ("points", "%")],
        forest=_forest(report, main),
        style=(_TEMPLATES / "compare.css").read_text(encoding="utf-8"),
        script=(_TEMPLATES / "compare.js").read_text(encoding="utf-8"),
    )


def _bars(report: Mapping[str, Any], measure: Mapping[str, Any]) -> dict[str, Any]:
    """Return a chart of one measure: a bar an arm with its interval, all from 0 to 100."""
    rows = []
    for place, (arm, of_arm) in enumerate(report["summary"].items()):
        interval = of_arm[measure["name"]]
        row: dict[str, Any] = {"arm": arm, "place": place, "text": format_interval(interval, measure)}
        if interval is not None:
            row |= {end: _WIDTH * interval[end] / 100 for end in ("mean", "low", "high")}
        rows.append(row)
    return {"measure": measure, "rows": rows, "width": _WIDTH}


def _forest(report: Mapping[str, Any], main: str) -> dict[str, Any]:
    """Return the chart of differences in the main measure: each pair, then its categories; zero in the middle."""
    pairs = [pair for pair in report["pairs"] if pair["measure"] == main]
    reach = (
        max((abs(pair["difference"][end]) for pair in pairs for end in ("low", "high")), default=0.0) or 1.0
    )
    middle = _WIDTH / 2
    rows = []
    for pair in sorted(pairs, key=lambda pair: (pair["first"], pair["second"], pair["category"] or "")):
        ends = {
            end: middle + pair["difference"][end] / reach * middle * 0.95 for end in ("mean", "low", "high")
        }
        rows.append({**pair, **ends})
    return {"rows": rows, "width": _WIDTH, "middle": middle, "reach": reach}
