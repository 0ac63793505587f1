"""How far a search's signs say that its best row answers the question: their weighted sum.

answerability.json, learned once by benchmarks.learn_answerability, keeps the weights, and where the questions of people
that no row answers lie on a scale that every workbook has: 0 where its own questions score with their topic left out,
1 where they score with everything there (rag.calibration). What a sum means in a workbook is calibrated on that
workbook's rows, so the weights only have to order questions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from rag.signs import Signs

WEIGHTS = Path(__file__).with_suffix(".json")


@dataclass(frozen=True)
class Answerability:
    """What each sign weighs; `offset` makes 0 the score at which the learner could not tell.

    `unanswerable`, ascending, are quantiles at equal steps of where people's unanswerable questions lie.
    """

    weights: Mapping[str, float]
    offset: float = 0.0
    unanswerable: Sequence[float] = (0.0,)

    def score(self, signs: Signs) -> float:
        """Return the weighted sum, the higher the likelier there is an answer."""
        return self.offset + sum(self.weights[name] * float(value) for name, value in asdict(signs).items())

    def share(self, wrong_answer_rate: float) -> float:
        """Return the place, on the scale above, that so many of people's unanswerable questions exceed."""
        last = len(self.unanswerable) - 1
        return self.unanswerable[min(last, math.ceil((1 - wrong_answer_rate) * (last + 1) - 1e-9))]


def shipped_answerability() -> Answerability:
    """Read the weights that come with GroundTune."""
    saved = json.loads(WEIGHTS.read_text(encoding="utf-8"))
    names = [field.name for field in fields(Signs)]
    return Answerability(
        {name: float(saved["weights"][name]) for name in names},
        float(saved["offset"]),
        tuple(map(float, saved["unanswerable"])),
    )
