"""How well the refusal score tells questions that a row answers from those that none does, and at what cost.

Asked are held-out questions: as they are (answerable), with the rows of their topic left out, with their own row
left out (often answered by a neighbour all the same), and, where the workbook has such a sheet, unanswerable ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.records import HeldOutQuestion
from rag.answerability import Sums
from rag.calibration import load_calibration
from rag.index import CALIBRATION, LEXICAL, VECTORS
from rag.knowledge import KnowledgeIndex
from rag.leaving_out import AskedOfRows, LeavingOut, Topics
from rag.lexical import open_lexical

RATES = (0.02, 0.05, 0.085, 0.15, 0.2, 0.3)
_COLOURS = ("tab:red", "tab:blue", "tab:gray")


@dataclass(frozen=True)
class AtRate:
    """What a chosen rate does: the threshold, and the shares of unanswerable answered and answerable refused.

    `answered` is by kind of unanswerable question; `threshold` None: too few rows, so nothing is refused.
    """

    rate: float
    threshold: float | None
    answered: Mapping[str, float]
    refused: float


@dataclass(frozen=True)
class RefusalReport:
    """What was measured.

    Attributes:
        num_answerable: Held-out questions that a row answers.
        num_unanswerable: By kind.
        auroc: Of the score, by kind: the chance that an answerable question scores higher than one of this kind.
        at_rates: For some chosen rates.
        coverage_at_risk: By kind: the share of answerable questions that are answered when at most so many (the
            key) of this kind are. With the threshold chosen on these very questions: the best that the score allows.
    """

    num_answerable: int
    num_unanswerable: Mapping[str, int]
    auroc: Mapping[str, float]
    at_rates: Sequence[AtRate]
    coverage_at_risk: Mapping[str, Mapping[str, float]]
    scores: Mapping[str, Sequence[float]]


def measure_refusal(
    index: KnowledgeIndex,
    questions: Sequence[HeldOutQuestion],
    unanswerable: Sequence[HeldOutQuestion],
    rates: Sequence[float] = RATES,
) -> RefusalReport:
    """Ask every question of `questions` whose row the index holds, and all of `unanswerable`.

    Raises:
        ValueError: there is no such question.
    """
    places = {row.row_id: place for place, row in enumerate(index.rows)}
    answerable = [question for question in questions if question.row_id in places]
    if not answerable:
        raise ValueError("no question names a row of the index")
    calibration = load_calibration(index.folder / CALIBRATION)
    row_vectors = np.load(index.folder / VECTORS)
    lexical = open_lexical(index.folder / LEXICAL, list(places), index.lexical_gain)
    leaving_out = LeavingOut(index.rows, row_vectors, lexical, index.cosine_spread, calibration.usual_terms)
    topics = Topics(index.rows, row_vectors)
    asked = _asked(index, leaving_out, answerable)
    right = [places[question.row_id] for question in answerable]

    def score(sums: Sums) -> float:
        # Of a workbook of a few rows, which has no scale, the sum itself: it still orders questions.
        place = leaving_out.weights.place(sums, calibration.scales)
        return sums[0] if place is None else place

    own = [score(each.sums()) for each in asked]
    kinds = {
        "topic left out": [
            score(each.sums(topics.of(place))) for each, place in zip(asked, right, strict=True)
        ],
        "row left out": [score(each.sums([place])) for each, place in zip(asked, right, strict=True)],
    }
    if unanswerable:
        sheet = [score(each.sums()) for each in _asked(index, leaving_out, unanswerable)]
        kinds = {"unanswerable": sheet, **kinds}
    return RefusalReport(
        num_answerable=len(own),
        num_unanswerable={name: len(scores) for name, scores in kinds.items()},
        auroc={name: auroc(own, scores) for name, scores in kinds.items()},
        at_rates=[
            _at_rate(rate, leaving_out.weights.share(rate) if calibration.is_enough else None, own, kinds)
            for rate in rates
        ],
        coverage_at_risk={
            name: {str(rate): _coverage(own, scores, rate) for rate in rates}
            for name, scores in kinds.items()
        },
        scores={"answerable": own, **kinds},
    )


def _asked(
    index: KnowledgeIndex, leaving_out: LeavingOut, questions: Sequence[HeldOutQuestion]
) -> list[AskedOfRows]:
    texts = [question.question for question in questions]
    vectors = np.array(index.embed(texts, "query"), np.float32)
    return [leaving_out.ask(text, vector) for text, vector in zip(texts, vectors, strict=True)]


def auroc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Return the share of pairs in which the positive scores higher, a tie counting half."""
    ordered = np.sort(np.asarray(negative))
    below = np.searchsorted(ordered, positive, "left") + np.searchsorted(ordered, positive, "right")
    return float(below.mean() / 2 / len(ordered))


def _at_rate(
    rate: float, threshold: float | None, own: Sequence[float], kinds: Mapping[str, Sequence[float]]
) -> AtRate:
    floor = -math.inf if threshold is None else threshold
    answered = {name: float(np.mean(np.asarray(scores) > floor)) for name, scores in kinds.items()}
    return AtRate(rate, threshold, answered, float(np.mean(np.asarray(own) <= floor)))


def _coverage(own: Sequence[float], negative: Sequence[float], risk: float) -> float:
    ordered = np.sort(np.asarray(negative))[::-1]
    floor = ordered[min(int(risk * len(ordered)), len(ordered) - 1)]
    return float(np.mean(np.asarray(own) > floor))


def print_refusal(report: RefusalReport) -> None:
    """Print AUROC by kind, then what some chosen rates do, as tables on stdout."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    kinds = list(report.auroc)
    table = Table("unanswerable questions", "how many", "AUROC", title="the score")
    for name in kinds:
        table.add_row(name, str(report.num_unanswerable[name]), f"{report.auroc[name]:.3f}")
    console.print(table)
    title = (
        f"what retrieve.wrong_answer_rate does to {report.num_answerable} answerable questions and to others"
    )
    rates = Table(
        "rate", "threshold", "answerable refused", *(f"{name}: answered" for name in kinds), title=title
    )
    for chosen in report.at_rates:
        threshold = "too few rows" if chosen.threshold is None else f"{chosen.threshold:.4f}"
        answered = (f"{chosen.answered[name]:.3f}" for name in kinds)
        rates.add_row(f"{chosen.rate:g}", threshold, f"{chosen.refused:.3f}", *answered)
    console.print(rates)


def draw_refusal(report: RefusalReport, title: str, path: Path) -> None:
    """Write a PNG: the share of answerable questions answered against that of unanswerable ones answered."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 5), dpi=120, layout="constrained")
    own = np.asarray(report.scores["answerable"])
    for (name, value), colour in zip(report.auroc.items(), _COLOURS, strict=False):
        other = np.asarray(report.scores[name])
        floors = np.unique(np.concatenate([[-np.inf], own, other]))[::-1]
        risk = [float(np.mean(other > floor)) for floor in floors]
        coverage = [float(np.mean(own > floor)) for floor in floors]
        axes.step(risk, coverage, where="post", color=colour, label=f"{name} (AUROC {value:.3f})")
        chosen = [at for at in report.at_rates if at.threshold is not None]
        axes.plot(
            [at.answered[name] for at in chosen], [1 - at.refused for at in chosen], "o", color=colour, ms=4
        )
        for at in chosen:
            axes.annotate(f"{at.rate:g}", (at.answered[name], 1 - at.refused), fontsize=7, color=colour)
    axes.set_xlabel("risk: share of the unanswerable questions that are answered")
    axes.set_ylabel("coverage: share of the answerable questions that are answered")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_title(f"{title}\n(dots: the calibrated thresholds by chosen rate)", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)
