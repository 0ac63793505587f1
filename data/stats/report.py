"""Stats for a person's terminal, for a machine, and as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from data.artefacts import write_text
from data.stats.numbers import KnowledgeStats, Lengths

_MOST_FREQUENT = 15
_BLANK = "(blank)"


def print_stats(stats: KnowledgeStats, name: str, console: Console) -> None:
    """Print the numbers as tables."""
    console.print(
        f"{name}: {stats.num_rows} rows, {stats.num_distinct_questions} distinct questions, "
        f"{stats.num_distinct_answers} distinct answers",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    lengths = Table(box=None, pad_edge=False, header_style="bold")
    for header in ("characters", "shortest", "median", "95 %", "longest", "mean", "scripts"):
        lengths.add_column(header, justify="left" if header in ("characters", "scripts") else "right")
    for label, values, scripts in (
        ("question", stats.question, stats.question_scripts),
        ("answer", stats.answer, stats.answer_scripts),
    ):
        numbers = [values.quantile(0), values.quantile(0.5), values.quantile(0.95), values.quantile(1)]
        shown = ", ".join(f"{script} {number}" for script, number in scripts.items())
        lengths.add_row(label, *map(str, numbers), f"{values.mean:.1f}", shown)
    console.print(lengths)
    for label, counts in (("info_1", stats.info_1), ("info_2", stats.info_2)):
        if _says_something(counts):
            console.print(_category_table(label, counts))


def as_json(stats: KnowledgeStats) -> dict[str, Any]:
    """Return the numbers as a JSON object."""
    return {
        "num_rows": stats.num_rows,
        "num_distinct_questions": stats.num_distinct_questions,
        "num_distinct_answers": stats.num_distinct_answers,
        "info_1": stats.info_1,
        "info_2": stats.info_2,
        "question": {"characters": _numbers(stats.question), "scripts": stats.question_scripts},
        "answer": {"characters": _numbers(stats.answer), "scripts": stats.answer_scripts},
    }


def draw_stats(stats: KnowledgeStats, path: Path) -> dict[str, str]:
    """Draw the numbers as one PNG.

    Returns:
        Number to text of the labels that no installed font can draw; also written beside the picture, as
        NAME.labels.txt, for whoever is given both.
    """
    from data.charts import draw_counts, draw_histogram, find_labels, new_figure, save_figure

    categories = [
        (field, _top(counts))
        for field, counts in (("info_1", stats.info_1), ("info_2", stats.info_2))
        if _says_something(counts)
    ]
    labels = find_labels(name for _, counts in categories for name, _ in counts)
    num_rows = 1 + bool(categories)
    figure = new_figure(11, 4.2 * num_rows)
    panels = figure.subplots(num_rows, 2, squeeze=False)
    draw_histogram(panels[0][0], stats.question.values, f"Questions ({stats.num_rows} rows)", "characters")
    draw_histogram(panels[0][1], stats.answer.values, "Answers", "characters")
    for axes, (field, counts) in zip(panels[-1] if categories else [], categories, strict=False):
        draw_counts(axes, counts, labels, f"Rows by {field}")
    for axes in panels[-1][len(categories) :] if categories else []:
        axes.set_visible(False)
    if labels.legend:
        figure.supxlabel(f"No installed font has the numbered names; {path.stem}.labels.txt has.", fontsize=8)
    save_figure(figure, path)
    sidecar = path.with_name(f"{path.stem}.labels.txt")
    if labels.legend:
        write_text(sidecar, "".join(f"{number} {name}\n" for number, name in labels.legend.items()))
    else:
        sidecar.unlink(missing_ok=True)
    return labels.legend


def _category_table(label: str, counts: Mapping[str, int]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(label)
    table.add_column("rows", justify="right")
    for name, number in _top(counts):
        table.add_row(Text(name), str(number))
    return table


def _top(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    named = [(name or _BLANK, number) for name, number in counts.items()]
    rest = named[_MOST_FREQUENT:]
    others = [(f"{len(rest)} others", sum(number for _, number in rest))] if rest else []
    return named[:_MOST_FREQUENT] + others


def _says_something(counts: Mapping[str, int]) -> bool:
    return any(name for name in counts)


def _numbers(lengths: Lengths) -> dict[str, float]:
    return {
        "min": lengths.quantile(0),
        "median": lengths.quantile(0.5),
        "p95": lengths.quantile(0.95),
        "max": lengths.quantile(1),
        "mean": round(lengths.mean, 2),
    }
