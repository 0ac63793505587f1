"""Pictures of this layer, and labels that can be read in them. The only file here that imports matplotlib.

A font has the characters of a label or the label becomes a number: a box for every character says nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.artefacts import partial_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Tried first, as a page in Chinese looks best in them; any other font that has the characters does too.
_PREFERRED = (
    "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Source Han Sans CN", "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei", "Microsoft YaHei", "PingFang SC", "Hiragino Sans GB", "Heiti SC", "SimHei", "SimSun",
    "Droid Sans Fallback", "Arial Unicode MS",
)  # fmt: skip
# Code points that may share a glyph: full-width forms, compatibility characters, spaces.
_MAX_GLYPH_USERS = 40
_COLOUR = "tab:blue"
_MAX_LABEL_CHARACTERS = 24


@dataclass
class Labels:
    """Makes texts drawable: unchanged where `font` has their characters, a number in brackets where not.

    `legend` collects the numbers that were given out, to be printed where there is a font.
    """

    font: Any
    characters: frozenset[int]
    legend: dict[str, str] = field(default_factory=dict)

    def __call__(self, text: str) -> str:
        short = text if len(text) <= _MAX_LABEL_CHARACTERS else text[: _MAX_LABEL_CHARACTERS - 1] + "…"
        if all(ord(character) in self.characters for character in short):
            # A dollar sign would begin a formula.
            return short.replace("$", r"\$")
        numbers = {known: number for number, known in self.legend.items()}
        if text not in numbers:
            numbers[text] = f"[{len(self.legend) + 1}]"
            self.legend[numbers[text]] = text
        return numbers[text]


def find_labels(texts: Iterable[str]) -> Labels:
    """Return labels in the installed font that can draw the most of `texts`, the default font if it can."""
    from matplotlib.font_manager import FontProperties, fontManager

    wanted = {ord(character) for text in texts for character in text if not character.isspace()}
    rank = {name: place for place, name in enumerate(("DejaVu Sans", *_PREFERRED))}
    best: tuple[int, str, frozenset[int]] | None = None
    for entry in sorted(
        fontManager.ttflist, key=lambda item: (rank.get(item.name, len(rank)), item.name, item.fname)
    ):
        if entry.style != "normal" or str(entry.weight) not in ("400", "normal", "regular"):
            continue
        characters = _characters(entry.fname)
        missing = len(wanted - characters)
        if best is None or missing < best[0]:
            best = (missing, entry.fname, characters)
        if not missing:
            break
    if best is None:
        return Labels(FontProperties(), frozenset(range(0x20, 0x7F)))
    return Labels(FontProperties(fname=best[1]), best[2] | {0x20})


def _characters(font_file: str) -> frozenset[int]:
    """Return the code points that a font has a glyph of their own for.

    A font of last resort, such as the one that matplotlib brings, has one box for a whole script.
    """
    from matplotlib.ft2font import FT2Font

    try:
        glyphs = FT2Font(font_file).get_charmap()
    except (RuntimeError, OSError):
        return frozenset()
    num_users = Counter(glyphs.values())
    return frozenset(code for code, glyph in glyphs.items() if num_users[glyph] <= _MAX_GLYPH_USERS)


def new_figure(width_inches: float, height_inches: float) -> Figure:
    """Return an empty figure that no window is ever opened for."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, atomically, without the date or the version of what drew it."""
    with partial_file(path) as beside:
        figure.savefig(beside, format="png", dpi=120, metadata={"Software": None})


def draw_counts(axes: Axes, counts: Sequence[tuple[str, int]], labels: Labels, title: str) -> None:
    """Draw one horizontal bar a name, the first on top, with its number."""
    places = range(len(counts))
    bars = axes.barh(places, [number for _, number in counts], color=_COLOUR)
    axes.bar_label(bars, padding=2, fontsize=8)
    axes.set_yticks(list(places), [labels(name) for name, _ in counts], fontproperties=labels.font)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)


def draw_histogram(
    axes: Axes, values: Sequence[int], title: str, unit: str, limit: int | None = None
) -> None:
    """Draw how many texts have which length; a line marks the median, another `limit` where there is one."""
    import statistics

    highest = max(values)
    num_bins = min(40, max(1, highest - min(values) + 1))
    axes.hist(values, bins=num_bins, color=_COLOUR)
    median = statistics.median(values)
    axes.axvline(median, color="black", linewidth=1, label=f"median {median:g}")
    if limit is not None and limit <= highest * 1.5:
        axes.axvline(limit, color="tab:red", linewidth=1, label=f"limit {limit}")
    axes.legend(fontsize=8)
    axes.set(title=title, xlabel=unit, ylabel="rows")
    axes.spines[["top", "right"]].set_visible(False)
