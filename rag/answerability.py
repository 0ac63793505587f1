"""How far a search's signs say that its best row answers the question.

answerability.json, learned once by benchmarks.learn_answerability, keeps what each sign weighs, twice over. `weights`
order people's questions best: a sign may speak against another there, as the distance to the twentieth row does where
long messages are near to everything. Of a few words that a row says, that makes too little. `plain` weights are none of
them negative: they miss more, and whom they take for answered seldom is not. Either may find a question answered.

What a sum means in a workbook is calibrated on that workbook's rows (rag.calibration): 0 is where its own questions
score with their topic left out, 1 where they score with everything there. Where on that scale the questions of people
that no row answers lie was learned on another workbook, so the weights only have to order questions.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path

from rag.signs import Signs

WEIGHTS = Path(__file__).with_suffix(".json")
NOTHING = (-math.inf, -math.inf)
"""The sums where no row is left."""
Sums = tuple[float, float]
"""By `weights`, and by `plain`."""
# With fewer questions the medians are not worth a refusal.
_LEAST_ASKED = 24


@dataclass(frozen=True)
class Scale:
    """Where a workbook's own questions lie by one of the sums, each list ascending.

    Attributes:
        own: With all rows there.
        topic_left_out: Without every row of their topic.
    """

    own: tuple[float, ...]
    topic_left_out: tuple[float, ...]

    @cached_property
    def _ends(self) -> tuple[float, float] | None:
        if min(len(self.own), len(self.topic_left_out)) < _LEAST_ASKED:
            return None
        ends = statistics.median(self.topic_left_out), statistics.median(self.own)
        return ends if ends[0] < ends[1] else None

    def place(self, total: float) -> float | None:
        """Return where a sum lies between the medians of both lists; None: too few questions to say."""
        if self._ends is None:
            return None
        without, there = self._ends
        return (total - without) / (there - without)


@dataclass(frozen=True)
class Answerability:
    """What each sign weighs.

    `unanswerable`, ascending, are quantiles at equal steps of where people's unanswerable questions lie. On the plain
    scale a question has to lie `plain_lead` higher to count as much.
    """

    weights: Mapping[str, float]
    plain: Mapping[str, float]
    plain_lead: float = 0.0
    unanswerable: Sequence[float] = (0.0,)

    def sums(self, signs: Signs) -> Sums:
        """Return both weighted sums, the higher the likelier there is an answer."""
        values = asdict(signs).items()
        first, second = (
            sum(weights.get(name, 0.0) * float(value) for name, value in values)
            for weights in (self.weights, self.plain)
        )
        return first, second

    def place(self, sums: Sums, scales: Sequence[Scale]) -> float | None:
        """Return the higher of both places on the workbook's scales; None: it has too few rows for any."""
        places = (scale.place(total) for scale, total in zip(scales, sums, strict=True))
        leads = (0.0, self.plain_lead)
        return max(
            (at - lead for at, lead in zip(places, leads, strict=True) if at is not None), default=None
        )

    def share(self, wrong_answer_rate: float) -> float:
        """Return the place, on the scale above, that so many of people's unanswerable questions exceed."""
        last = len(self.unanswerable) - 1
        return self.unanswerable[min(last, math.ceil((1 - wrong_answer_rate) * (last + 1) - 1e-9))]


def shipped_answerability() -> Answerability:
    """Read the weights that come with GroundTune."""
    saved = json.loads(WEIGHTS.read_text(encoding="utf-8"))
    names = [field.name for field in fields(Signs)]
    weights, plain = ({name: float(saved[kind][name]) for name in names} for kind in ("weights", "plain"))
    return Answerability(weights, plain, float(saved["plain_lead"]), tuple(map(float, saved["unanswerable"])))
