"""The picture of `bench train`: rate, held-out loss and memory of each arm."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.train.arms import ALL_LAYERS, OURS, PLAIN, XTUNER
from benchmarks.train.rows import PARAPHRASES, UNSEEN
from data.charts import new_figure, save_figure

_LABELS = {
    OURS: "GroundTune",
    ALL_LAYERS: "GroundTune,\nall layers",
    PLAIN: "Trainer + PEFT,\nfloat32",
    XTUNER: "XTuner",
}
_COLOURS = {OURS: "tab:blue", ALL_LAYERS: "tab:cyan", PLAIN: "tab:gray", XTUNER: "tab:orange"}


def draw_training(result: Mapping[str, Any], path: Path) -> None:
    """Write the picture."""
    names = [name for name in _LABELS if name in result["arms"]]
    arms = [result["arms"][name] for name in names]
    labels = [_LABELS[name] for name in names]
    colours = [_COLOURS[name] for name in names]
    figure = new_figure(13, 4)
    rate, loss, memory = figure.subplots(1, 3)
    for axes, key, unit, title, form in (
        (rate, "useful_tokens_per_s", 1.0, "Useful tokens a second", "{:.0f}"),
        (memory, "peak_rss_bytes", 1e9, "Peak resident memory (GB)", "{:.1f}"),
    ):
        bars = axes.bar(labels, [arm[key] / unit for arm in arms], color=colours)
        axes.bar_label(bars, fmt=form)
        axes.set_title(title)
        axes.margins(y=0.12)
    sets = (PARAPHRASES, UNSEEN)
    for place, name in enumerate(names):
        values = [result["arms"][name]["held_out_loss"][kind] for kind in sets]
        at = [group + place * 0.8 / len(names) for group in range(len(sets))]
        drawn = loss.bar(at, values, 0.8 / len(names), color=colours[place])
        loss.bar_label(drawn, fmt="{:.2f}", fontsize=8)
    for group, kind in enumerate(sets):
        untrained = result["untrained_held_out_loss"][kind]
        loss.hlines(untrained, group - 0.15, group + 0.75, color="black", linestyle="--", linewidth=1)
        loss.annotate(f"untrained {untrained:.2f}", (group - 0.12, untrained), fontsize=8, va="bottom")
    loss.set_xticks([group + 0.3 for group in range(len(sets))], sets)
    loss.set_title("Held-out loss an answer token")
    loss.margins(y=0.12)
    for axes in (rate, loss, memory):
        axes.tick_params(axis="x", labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    rows = result["rows"]
    figure.suptitle(
        f"{rows['base']}, {rows['trained']} rows, {arms[0]['num_steps']} steps, "
        f"{result['hardware']['num_cores']} cores",
        fontsize=10,
    )
    save_figure(figure, path)
