"""The picture of `bench engines`: throughput and latency of each engine against how many ask at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from data.charts import new_figure, save_figure

_PANELS: tuple[tuple[str, Callable[[Mapping[str, Any]], float]], ...] = (
    ("Output tokens a second", lambda level: level["output_tokens_per_s"]),
    ("Time to first token, p50 (ms)", lambda level: level["ttft_ms"]["p50"]),
    ("Time per output token, p50 (ms)", lambda level: level["tpot_ms"]["p50"]),
)


def draw_engines(result: Mapping[str, Any], path: Path) -> None:
    """Write the picture."""
    figure = new_figure(13, 4)
    for axes, (title, value) in zip(figure.subplots(1, len(_PANELS)), _PANELS, strict=True):
        for number, (name, found) in enumerate(result["engines"].items()):
            levels = [level for level in found["levels"] if level["ttft_ms"] and level["tpot_ms"]]
            places = [level["concurrency"] for level in levels]
            values = [value(level) for level in levels]
            axes.plot(places, values, marker="o", label=f"{name} ({found['weights']})")
            for place, height in zip(places, values, strict=True):
                axes.annotate(
                    f"{height:,.0f}",
                    (place, height),
                    xytext=(0, -11 if number % 2 else 5),
                    textcoords="offset points",
                    fontsize=7,
                )
        axes.set(title=title, xlabel="requests at once")
        axes.set_xscale("log", base=2)
        axes.set_xticks(
            result["settings"]["concurrency"], [str(n) for n in result["settings"]["concurrency"]]
        )
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8)
    figure.suptitle(f"{result['model']}, {result['settings']['max_tokens']} tokens an answer at most")
    save_figure(figure, path)
