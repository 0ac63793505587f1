"""How far a search's signs say that its best row answers the question: their weighted sum.

The weights are in answerability.json, learned once by benchmarks.learn_answerability from rows of workbooks and no
other questions than the rows' own. What a sum means in a workbook is calibrated on
that workbook's rows (rag.calibration), so the weights only have to order questions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from rag.signs import Signs

WEIGHTS = Path(__file__).with_suffix(".json")


@dataclass(frozen=True)
class Answerability:
    """What each sign weighs; `offset` makes 0 the score at which the learner could not tell."""

    weights: Mapping[str, float]
    offset: float = 0.0

    def score(self, signs: Signs) -> float:
        """Return the weighted sum, the higher the likelier there is an answer."""
        return self.offset + sum(self.weights[name] * float(value) for name, value in asdict(signs).items())


def shipped_answerability() -> Answerability:
    """Read the weights that come with GroundTune."""
    saved = json.loads(WEIGHTS.read_text(encoding="utf-8"))
    names = [field.name for field in fields(Signs)]
    return Answerability({name: float(saved["weights"][name]) for name in names}, float(saved["offset"]))
