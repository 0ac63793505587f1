"""The training loop: steps over packs, a checkpoint now and then, metrics after every step.

Knows nothing of the command line, of where files lie, or of how progress is shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from training.checkpoint import StepMetrics, load_checkpoint, save_checkpoint
from training.config import TrainSection
from training.lora import AdaptedModel
from training.packing import Pack
from training.schedule import PlannedStep, plan_steps
from training.watch import Watch

# What the trunk made of all packs is kept in memory up to this much; beyond it, it is computed again.
_TRUNK_CACHE_BYTES = 2 << 30


def train(
    model: AdaptedModel,
    packs: Sequence[Pack],
    config: TrainSection,
    checkpoint_folder: Path,
    inputs: Mapping[str, str],
    on_step: Callable[[StepMetrics, int], None],
    clock: Callable[[], float] = time.monotonic,
    watch: Watch | None = None,
) -> list[StepMetrics]:
    """Train the model's adapter in place and return the metrics of every step, resumed ones too.

    A run that was killed and goes on from its checkpoint ends with the weights of one that was not: the order
    of packs, the rates and the noise of each step depend on the seed and the step's number alone.

    Args:
        on_step: called with each finished step's metrics and the number of steps in all.
        watch: evaluates, may end training early, and then has the best adapter's weights kept.
    """
    watch = watch or Watch(config.evaluation)
    weights = model.parameters()
    optimizer = torch.optim.AdamW(weights.values(), lr=config.learning_rate, weight_decay=config.weight_decay)
    steps = plan_steps([pack.num_tokens for pack in packs], config)
    watch.plan([step.epoch for step in steps])
    history = load_checkpoint(checkpoint_folder, inputs, weights, optimizer, watch)
    for done in history:
        on_step(done, len(steps))
        watch.replay(done.step)
    trunks = _TrunkCache(model)
    saved_at = clock()
    for number in range(len(history), len(steps)):
        if watch.stops:
            break
        started = clock()
        torch.manual_seed(config.seed * 1_000_003 + number)
        chosen = [packs[place] for place in steps[number].packs]
        try:
            loss, grad_norm = _step(model, chosen, trunks, optimizer, steps[number], config)
        except torch.cuda.OutOfMemoryError:
            # Nothing was updated yet: the same step again, keeping fewer activations.
            if model.is_checkpointing or config.gradient_checkpointing != "auto":
                raise
            optimizer.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
            model.use_checkpointing()
            torch.manual_seed(config.seed * 1_000_003 + number)
            loss, grad_norm = _step(model, chosen, trunks, optimizer, steps[number], config)
        num_tokens = sum(packs[place].num_example_tokens for place in steps[number].packs)
        metrics = StepMetrics(
            step=number + 1,
            epoch=round(steps[number].epoch, 4),
            loss=loss,
            learning_rate=steps[number].learning_rate,
            grad_norm=grad_norm,
            num_tokens=num_tokens,
            tokens_per_s=round(num_tokens / (clock() - started), 1),
        )
        history.append(metrics)
        on_step(metrics, len(steps))
        watch.after_step(number + 1, metrics.epoch, weights, model, trunks.get)
        is_finished = watch.stops or number + 1 == len(steps)
        if clock() - saved_at >= config.checkpoint_every_s or is_finished:
            settings = config.model_dump(mode="json")
            save_checkpoint(
                checkpoint_folder, inputs, weights, optimizer, history, watch,
                settings=settings, is_finished=is_finished,
            )  # fmt: skip
            saved_at = clock()
    watch.keep_best(weights)
    return history


def _step(
    model: AdaptedModel,
    packs: Sequence[Pack],
    trunks: _TrunkCache,
    optimizer: torch.optim.Optimizer,
    planned: PlannedStep,
    config: TrainSection,
) -> tuple[float, float]:
    """Run one optimizer step; returns (mean loss a label, gradient norm before clipping)."""
    num_labels = sum(len(pack.labels) for pack in packs)
    total = torch.zeros((), device=model.device)
    optimizer.zero_grad(set_to_none=True)
    for kept in packs:
        pack = kept.to(model.device)
        with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=model.needs_autocast):
            loss = model.loss(pack, trunks.get(kept, pack)) / num_labels
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    parameters = [weight for group in optimizer.param_groups for weight in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
    for group in optimizer.param_groups:
        group["lr"] = planned.learning_rate
    optimizer.step()
    # The one place of a step where the processor waits for the device.
    mean_loss, grad_norm = torch.stack([total, norm.to(total.dtype)]).tolist()
    return mean_loss, grad_norm


class _TrunkCache:
    """Remembers what the frozen lower layers make of each pack."""

    def __init__(self, model: AdaptedModel) -> None:
        self._model = model
        self._kept: dict[int, torch.Tensor] = {}
        self._size_bytes = 0

    def get(self, key: Pack, pack: Pack) -> torch.Tensor:
        """Return the trunk's output of `pack`, which is `key` on the model's device."""
        kept = self._kept.get(id(key))
        if kept is not None:
            return kept
        made = self._model.trunk(pack)
        size = made.numel() * made.element_size()
        if self._model.num_trunk_layers and self._size_bytes + size <= _TRUNK_CACHE_BYTES:
            self._kept[id(key)] = made
            self._size_bytes += size
        return made
