"""What `rag eval` shows: a table for people, a chart to keep."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from rag.evaluation import MEASURES, Estimate, Report


def print_report(report: Report) -> None:
    """Print the stages, then the categories, as tables on stdout; the times on stderr."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    table = Table("", *MEASURES, title=f"{report.num_questions} questions, 95% intervals")
    for stage, estimates in report.stages.items():
        table.add_row(stage, *map(_with_interval, estimates.values()))
    console.print(table)
    if report.categories:
        by_category = Table("info_1", "questions", *MEASURES, title="fused, by info_1")
        for name, estimates in report.categories.items():
            figures = (f"{estimate.mean:.3f}" for estimate in estimates.values())
            by_category.add_row(escape(name), str(report.category_sizes[name]), *figures)
        console.print(by_category)
    times = ", ".join(f"{name} {taken:.0f} ms" for name, taken in report.search_ms.items())
    print(f"a search: {times}", file=sys.stderr)


def _with_interval(estimate: Estimate) -> str:
    return f"{estimate.mean:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def draw_report(stages: Mapping[str, Mapping[str, Estimate]], title: str, path: Path) -> None:
    """Write a PNG: a group of bars a measure, a bar a stage, with the intervals."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 4.5), dpi=120, layout="constrained")
    width = 0.8 / len(stages)
    for number, (stage, estimates) in enumerate(stages.items()):
        places = [group + (number - (len(stages) - 1) / 2) * width for group in range(len(MEASURES))]
        of_stage = [estimates[name] for name in MEASURES]
        means = [estimate.mean for estimate in of_stage]
        below = [estimate.mean - estimate.low for estimate in of_stage]
        above = [estimate.high - estimate.mean for estimate in of_stage]
        axes.bar(places, means, width, label=stage, yerr=(below, above), error_kw={"lw": 0.8, "capsize": 2})
    axes.set_xticks(range(len(MEASURES)), MEASURES)
    axes.set_ylim(0, 1)
    axes.set_title(title)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(ncols=len(stages), loc="upper left", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)
