"""What the arms of `bench train` come to: rates, their ratios, and whether the losses differ. Pure functions."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.significance import compare_paired
from benchmarks.train.arms import OURS

_LAST_STEPS = 6


def speeds(arms: Mapping[str, Mapping[str, Any]], num_tokens: int) -> dict[str, dict[str, Any]]:
    """Return each arm with its `useful_tokens_per_s`: tokens of the rows themselves over the seconds of its steps."""
    return {
        name: {
            **{key: value for key, value in arm.items() if key not in ("adapter", "num_tokens")},
            "num_steps": len(arm["step_s"]),
            "train_s": round(sum(arm["step_s"]), 1),
            "useful_tokens_per_s": round(num_tokens / sum(arm["step_s"]), 1),
            "final_training_loss": round(statistics.mean(arm["losses"][-_LAST_STEPS:]), 4),
        }
        for name, arm in arms.items()
    }


def ratios(arms: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return how many times each other arm's rate the default's is."""
    ours = arms[OURS]["useful_tokens_per_s"]
    return {name: round(ours / arm["useful_tokens_per_s"], 2) for name, arm in arms.items() if name != OURS}


def held_out_losses(found: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return the loss a label of each adapter on each file of rows."""
    return {
        adapter: {
            name: round(sum(losses) / sum(found["labels"][name]), 4) for name, losses in by_file.items()
        }
        for adapter, by_file in found["losses"].items()
    }


def loss_differences(
    found: Mapping[str, Any], others: Sequence[str], seeds: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Return how far the default's held-out loss is from each other arm's, a file of rows each.

    `difference` is of the losses a label, the default's less the other's, with a paired bootstrap interval over rows
    (95%) of each row's own mean. `seed_range` is the range of the default's loss over its seeds: what chance
    makes of one configuration.
    """
    means = held_out_losses(found)
    made: dict[str, dict[str, Any]] = {}
    for other in others:
        made[other] = {}
        for name, labels in found["labels"].items():
            ours, theirs = (
                [loss / count for loss, count in zip(found["losses"][arm][name], labels, strict=True)]
                for arm in (OURS, other)
            )
            compared = compare_paired(ours, theirs)
            of_seeds = [means[seed][name] for seed in (OURS, *seeds)]
            made[other][name] = {
                "difference": round(means[OURS][name] - means[other][name], 4),
                "interval": [round(compared.difference.low, 4), round(compared.difference.high, 4)]
                if compared
                else None,
                "seed_range": round(max(of_seeds) - min(of_seeds), 4),
            }
    return made
