"""Which packs each optimizer step sees and at what learning rate: all of it fixed before the first step."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from training.config import TrainSection


@dataclass(frozen=True)
class PlannedStep:
    """One optimizer step: the packs (by number) whose gradients it sums, and where in the run it stands."""

    packs: tuple[int, ...]
    epoch: float
    learning_rate: float


def plan_steps(pack_sizes: Sequence[int], config: TrainSection) -> list[PlannedStep]:
    """Return every step of the run; at least one, however small `max_train_tokens` is.

    Args:
        pack_sizes: tokens of each pack.
    """
    steps: list[tuple[tuple[int, ...], float]] = []
    spent = 0
    for epoch in range(config.epochs):
        order = list(range(len(pack_sizes)))
        random.Random(config.seed * 1_000_003 + epoch).shuffle(order)
        for start in range(0, len(order), config.packs_per_step):
            group = tuple(order[start : start + config.packs_per_step])
            spent += sum(pack_sizes[number] for number in group)
            if steps and config.max_train_tokens is not None and spent > config.max_train_tokens:
                return _with_rates(steps, config)
            steps.append((group, epoch + (start + len(group)) / len(order)))
    return _with_rates(steps, config)


def _with_rates(steps: Sequence[tuple[tuple[int, ...], float]], config: TrainSection) -> list[PlannedStep]:
    warmup = max(1, round(len(steps) * config.warmup_ratio))
    planned = []
    for number, (packs, epoch) in enumerate(steps):
        if number < warmup:
            share = (number + 1) / warmup
        else:
            share = 0.5 * (1 + math.cos(math.pi * (number - warmup) / max(1, len(steps) - warmup)))
        planned.append(PlannedStep(packs, epoch, config.learning_rate * share))
    return planned
