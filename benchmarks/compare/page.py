"""The report as one HTML page that needs nothing else: styles, script and charts are in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.compare.report import format_interval, heading, shown_measures, with_marks

_TEMPLATES = Path(__file__).parent / "templates"
_ARMS = {
    "base": "the base model, asked plainly",
    "tuned": "the base model after fine-tuning on the rows, asked plainly",
    "base-rag": "the base model, given the rows that were found for the question",
    "tuned-rag": "the fine-tuned model, given the rows that were found for the question",
}


def render(report: Mapping[str, Any]) -> str:
    """Return the page."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, trim_blocks=True)
    measures = shown_measures(report)
    return environment.get_template("compare.html").render(
        report=report,
        measures=measures,
        by_name={measure["name"]: measure for measure in report["measures"]},
        arm_meanings=_ARMS,
        heading=lambda measure: heading(measure, report),
        arrow=_arrow,
        split_interval=_split_interval,
        leaders={measure["name"]: _leaders(report, measure["name"]) for measure in measures},
        questions=with_marks(report),
        categories=sorted({item["category"] for item in report["questions"] if item["category"]}),
        charts=[_bars(report, measure) for measure in measures if measure["unit"] in ("points", "%")],
        forest=_forest(report, report["main_measure"]),
        style=(_TEMPLATES / "compare.css").read_text(encoding="utf-8"),
        script=(_TEMPLATES / "compare.js").read_text(encoding="utf-8"),
    )


def _arrow(measure: Mapping[str, Any]) -> str:
    """Return which way is better."""
    return {True: "↑", False: "↓", None: ""}[measure["higher_is_better"]]


def _split_interval(interval: Mapping[str, Any] | None, measure: Mapping[str, Any]) -> tuple[str, str]:
    """Return a mean and, to stand below it, its interval."""
    mean, _, ends = format_interval(interval, measure).partition(" [")
    return mean, ends.rstrip("]").replace(", ", " – ")


def _leaders(report: Mapping[str, Any], measure: str) -> set[str]:
    """Return the arms that are better than another beyond chance, and worse than none."""
    pairs = [
        pair
        for pair in report["pairs"]
        if pair["measure"] == measure and pair["category"] is None and pair["better"] is not None
    ]
    beaten = {pair["second"] if pair["better"] == pair["first"] else pair["first"] for pair in pairs}
    return {pair["better"] for pair in pairs} - beaten


def _bars(report: Mapping[str, Any], measure: Mapping[str, Any]) -> dict[str, Any]:
    """Return a chart of one measure: a bar an arm with its interval, in percent of 0 to 100."""
    rows = []
    for place, (arm, of_arm) in enumerate(report["summary"].items()):
        interval = of_arm[measure["name"]]
        row: dict[str, Any] = {"arm": arm, "place": place, "text": format_interval(interval, measure)}
        if interval is not None:
            row |= {end: min(100.0, max(0.0, interval[end])) for end in ("mean", "low", "high")}
        rows.append(row)
    return {"measure": measure, "rows": rows}


def _forest(report: Mapping[str, Any], main: str) -> dict[str, Any]:
    """Return the chart of differences in the main measure: each pair, then its categories; in percent of the width,
    zero in the middle."""
    pairs = [pair for pair in report["pairs"] if pair["measure"] == main]
    reach = (
        max((abs(pair["difference"][end]) for pair in pairs for end in ("low", "high")), default=0.0) or 1.0
    ) * 1.05
    order = list(report["summary"])
    rows = []
    for pair in sorted(
        pairs,
        key=lambda pair: (order.index(pair["first"]), order.index(pair["second"]), pair["category"] or ""),
    ):
        ends = {end: 50 + 50 * pair["difference"][end] / reach for end in ("mean", "low", "high")}
        rows.append({**pair, **ends})
    label = next(measure["label"] for measure in report["measures"] if measure["name"] == main)
    return {"rows": rows, "reach": reach, "label": label}
