"""When a run is evaluated, which evaluation is the best, and when it stops."""

from __future__ import annotations

import math

import pytest
import torch

from training.config import EvaluationSection
from training.watch import EvaluationMetrics, Judgement, Watch, standing


def points(*losses: float) -> list[EvaluationMetrics]:
    return [EvaluationMetrics(step, step / 10, loss, None, 0.0) for step, loss in enumerate(losses, start=1)]


@pytest.mark.parametrize(
    ("losses", "min_delta", "best_step", "num_waited"),
    [
        ([3.0, 2.0, 2.5], 0.0, 2, 1),
        ([3.0, 2.0, 2.0, 2.0], 0.0, 2, 2),  # an equal loss is not lower
        ([3.0, 2.95, 2.90, 2.85], 0.1, 4, 0),  # only the fourth is lower than 3.0 by more than 0.1
        ([3.0, 2.95, 2.92], 0.1, 3, 2),  # the lowest is kept although none counted as lower
        ([math.nan, 2.0, math.nan], 0.0, 2, 1),
        ([math.nan], 0.0, None, 1),
    ],
)
def test_standing(losses: list[float], min_delta: float, best_step: int | None, num_waited: int) -> None:
    found = standing(points(*losses), min_delta)
    assert (found.best.step if found.best else None) == best_step
    assert found.num_waited == num_waited


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"every_epochs": 0.5}, [2, 4, 6, 8, 9]),
        ({"every_epochs": 1}, [4, 8, 9]),
        ({"every_epochs": 0.1}, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ({"every_epochs": 5}, [9]),
        ({"every_steps": 4}, [4, 8, 9]),
        ({"every_steps": 100}, [9]),
    ],
)
def test_when_evaluations_are_due(settings: dict[str, float], expected: list[int]) -> None:
    seen: list[int] = []
    watch = Watch(
        EvaluationSection.model_validate(settings),
        lambda: Judgement(1.0, None, 0.0),
        lambda point: seen.append(point.step),
    )
    epochs = [(step + 1) / 4 for step in range(9)]
    watch.plan(epochs)
    for step, epoch in enumerate(epochs, start=1):
        watch.after_step(step, epoch, {})
    assert seen == expected


def judged_by(losses: list[float], patience: int | None) -> tuple[Watch, dict[str, torch.Tensor]]:
    """Step through `losses`, the weight being the step's number, as the trainer does."""
    left = iter(losses)
    watch = Watch(
        EvaluationSection(every_steps=1, patience=patience), lambda: Judgement(next(left), None, 0.0)
    )
    watch.plan([1.0] * len(losses))
    weights = {"w": torch.zeros(1)}
    for step in range(1, len(losses) + 1):
        if watch.stops:
            break
        weights["w"].fill_(step)
        watch.after_step(step, 0.0, weights)
    return watch, weights


def test_stops_and_keeps_the_best() -> None:
    watch, weights = judged_by([3.0, 2.0, 2.1, 2.2, 1.0], patience=2)
    assert watch.stops and len(watch.points) == 4
    watch.keep_best(weights)
    assert weights["w"].item() == 2 == watch.kept_step
    (said,) = watch.told(4)
    assert "stopped early after step 4" in said and "kept the adapter of step 2" in said
    assert watch.facts() == {"kept_step": 2, "held_out_loss": 2.0, "stopped_early": True}


def test_without_patience_the_last_adapter_is_kept() -> None:
    watch, weights = judged_by([3.0, 2.0, 2.1, 2.2], patience=None)
    watch.keep_best(weights)
    assert weights["w"].item() == 4 and watch.kept_step is None and not watch.told(4)
    assert watch.facts() == {"kept_step": 4, "held_out_loss": 2.2}


def test_a_restored_watch_goes_on_as_the_old_one() -> None:
    watch, _ = judged_by([3.0, 2.0, 2.1, 2.2], patience=2)
    again = Watch(EvaluationSection(every_steps=1, patience=2))
    again.restore([vars(point) for point in watch.points], watch.tensors() | {"weight.w": torch.ones(1)})
    assert again.stops and again.points == watch.points
    weights = {"w": torch.zeros(1)}
    again.keep_best(weights)
    assert weights["w"].item() == 2
