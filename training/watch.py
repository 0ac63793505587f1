"""The evaluations of one run: after which steps, what they found, whether to stop, and the best adapter so far.

What it knows goes into the checkpoint, so a killed run stops where one that was not would have. Knows nothing of
how an adapter is judged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from training.config import EvaluationSection

_PREFIX = "best."


@dataclass(frozen=True)
class Judgement:
    """What one evaluation found: mean loss an answer token (nats), ROUGE-L (0 to 100) where answers were asked for."""

    eval_loss: float
    eval_rouge_l: float | None
    eval_seconds: float


@dataclass(frozen=True)
class EvaluationMetrics:
    """One evaluation, as a line of metrics.jsonl: after `step` optimizer steps."""

    step: int
    epoch: float
    eval_loss: float
    eval_rouge_l: float | None
    eval_seconds: float


@dataclass(frozen=True)
class Standing:
    """Where the evaluations stand: the one of the lowest loss, and how many came since one that counted as lower."""

    best: EvaluationMetrics | None
    num_waited: int


def standing(points: Sequence[EvaluationMetrics], min_delta: float) -> Standing:
    """Judge evaluations in their order; a loss that is not a number is never the best."""
    best: EvaluationMetrics | None = None
    to_beat, num_waited = math.inf, 0
    for point in points:
        if best is None or point.eval_loss < best.eval_loss:
            best = point if math.isfinite(point.eval_loss) else best
        if point.eval_loss < to_beat - min_delta:
            to_beat, num_waited = point.eval_loss, 0
        else:
            num_waited += 1
    return Standing(best, num_waited)


class Watch:
    """Evaluates when it is time to, and remembers.

    Args:
        judge: judges the adapter as it is; None never evaluates.
        on_point: called with each evaluation, one from before a restart too.
    """

    def __init__(
        self,
        settings: EvaluationSection,
        judge: Callable[..., Judgement] | None = None,
        on_point: Callable[[EvaluationMetrics], None] = lambda point: None,
    ) -> None:
        self._settings = settings
        self._judge = judge
        self._on_point = on_point
        self._due: frozenset[int] = frozenset()
        self._best_weights: dict[str, torch.Tensor] = {}
        self.points: list[EvaluationMetrics] = []

    def plan(self, epochs: Sequence[float]) -> None:
        """Settle after which steps to evaluate; `epochs[i]` is how much of the data step i + 1 completes."""
        every_steps, every_epochs = self._settings.every_steps, self._settings.every_epochs
        due = {len(epochs)}
        done = 0
        for step, epoch in enumerate(epochs, start=1):
            # Epochs are sums of small fractions: 0.9999999 is one.
            passed = step // every_steps if every_steps else int((epoch + 1e-9) / every_epochs)
            if passed > done:
                done = passed
                due.add(step)
        self._due = frozenset(due)

    def is_due(self, step: int) -> bool:
        """Return whether to evaluate after `step` optimizer steps."""
        return self._judge is not None and step in self._due

    def after_step(self, step: int, epoch: float, weights: Mapping[str, torch.Tensor], *given: Any) -> None:
        """Evaluate if it is time to; `given` is what `judge` takes."""
        if self._judge is None or not self.is_due(step):
            return
        found = self._judge(*given)
        point = EvaluationMetrics(step, epoch, **asdict(found))
        self.points.append(point)
        if self._settings.patience and self.standing.best is point:
            self._best_weights = {name: weight.detach().clone() for name, weight in weights.items()}
        self._on_point(point)

    def replay(self, step: int) -> None:
        """Tell again of an evaluation from before a restart, if there was one after `step`."""
        for point in self.points:
            if point.step == step:
                self._on_point(point)

    @property
    def standing(self) -> Standing:
        """Where the evaluations stand now."""
        return standing(self.points, self._settings.min_delta)

    @property
    def stops(self) -> bool:
        """Whether the loss has not become lower for so many evaluations that training ends."""
        patience = self._settings.patience
        return patience is not None and self.standing.num_waited >= patience

    def keep_best(self, weights: Mapping[str, torch.Tensor]) -> None:
        """With early stopping, put the best adapter's weights in the place of the last."""
        with torch.no_grad():
            for name, kept in self._best_weights.items():
                weights[name].copy_(kept)

    @property
    def kept_step(self) -> int | None:
        """The step whose adapter `keep_best` keeps, or None where the last is kept."""
        best = self.standing.best
        return best.step if self._settings.patience and best else None

    def told(self, num_steps: int) -> list[str]:
        """Return what early stopping did, in words."""
        best = self.standing.best
        if not self._settings.patience or best is None:
            return []
        said = (
            f"kept the adapter of step {best.step}, whose held-out loss is the lowest ({best.eval_loss:.3f})"
        )
        if self.stops:
            return [
                f"stopped early after step {num_steps}: no lower held-out loss in {self.standing.num_waited} "
                f"evaluations; {said}"
            ]
        return [said]

    def facts(self) -> dict[str, Any]:
        """Return what the adapter's manifest says of its evaluation: that of the adapter that was kept."""
        if not self.points:
            return {}
        kept = self.standing.best if self.kept_step else self.points[-1]
        assert kept is not None
        facts: dict[str, Any] = {"kept_step": kept.step, "held_out_loss": kept.eval_loss}
        if kept.eval_rouge_l is not None:
            facts["held_out_rouge_l"] = kept.eval_rouge_l
        if self._settings.patience:
            facts["stopped_early"] = self.stops
        return facts

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return what a checkpoint has to hold beside `points`."""
        return {_PREFIX + name: tensor for name, tensor in self._best_weights.items()}

    def restore(self, points: Sequence[Mapping[str, Any]], tensors: Mapping[str, torch.Tensor]) -> None:
        """Take up what a checkpoint holds."""
        self.points = [EvaluationMetrics(**point) for point in points]
        self._best_weights = {
            name.removeprefix(_PREFIX): tensor for name, tensor in tensors.items() if name.startswith(_PREFIX)
        }
