"""The training loop: steps over packs, a checkpoint now and then, metrics after every step.

Knows nothing of the command line, of where files lie, or of how progress is shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from data.errors import GroundTuneError
from training.checkpoint import StepMetrics, load_together, save_checkpoint
from training.config import TrainSection
from training.lora import AdaptedModel
from training.packing import Pack
from training.schedule import plan_steps
from training.shares import Shares
from training.updates import StateError, make_updates
from training.watch import Watch
from training.world import ALONE, World

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
    world: World = ALONE,
) -> list[StepMetrics]:
    """Train the model's adapter in place and return the metrics of every step, resumed ones too.

    A run that was killed and goes on from its checkpoint ends with the weights of one that was not: the order
    of packs, the rates and the noise of each step depend on the seed and the step's number alone.

    Args:
        world: the processes that share the packs of each step; all of them call this, and one writes.
        on_step: called with each finished step's metrics and the number of steps in all.
        watch: evaluates, may end training early, and then has the best adapter's weights kept.
    """
    watch = watch or Watch(config.evaluation)
    steps = plan_steps([pack.num_tokens for pack in packs], config)
    watch.plan([step.epoch for step in steps])
    saved = load_together(checkpoint_folder, inputs, world)
    history = saved.history if saved else []
    if saved:
        watch.restore(saved.evaluations, saved.tensors)
    for done in history:
        on_step(done, len(steps))
        watch.replay(done.step)
    # Under ZeRO-3 the layers below are in no process whole: they run where and when the others do.
    trunks = _TrunkCache(model, is_whole=config.distributed.zero_stage < 3)
    tensors = saved.tensors if saved else None
    try:
        updates = make_updates(model, config, world, trunks.get, packs[0], tensors, len(history))
    except StateError as error:
        raise GroundTuneError(
            f"{checkpoint_folder}: does not fit this model ({error}); remove the folder and train again"
        ) from error
    shares = Shares(world)
    saved_at = clock()
    for number in range(len(history), len(steps)):
        if watch.stops:
            break
        started = clock()
        chosen = [packs[place] for place in steps[number].packs]
        passes, num_labels = shares.of(chosen), sum(len(pack.labels) for pack in chosen)
        rate = steps[number].learning_rate
        _seed(config, number, world)
        try:
            loss, grad_norm = updates.step(passes, num_labels, rate)
        except torch.cuda.OutOfMemoryError:
            # Nothing was updated yet: the same step again, keeping fewer activations. Others of a group would
            # wait in the middle of theirs.
            if model.is_checkpointing or config.gradient_checkpointing != "auto" or world.size > 1:
                raise
            updates.drop_gradients()
            torch.cuda.empty_cache()
            model.use_checkpointing()
            _seed(config, number, world)
            loss, grad_norm = updates.step(passes, num_labels, rate)
        num_tokens = sum(pack.num_example_tokens for pack in chosen)
        metrics = StepMetrics(
            step=number + 1,
            epoch=round(steps[number].epoch, 4),
            loss=loss,
            learning_rate=rate,
            grad_norm=grad_norm,
            num_tokens=num_tokens,
            tokens_per_s=round(num_tokens / (clock() - started), 1),
        )
        history.append(metrics)
        on_step(metrics, len(steps))
        if watch.is_due(number + 1):
            watch.after_step(number + 1, metrics.epoch, updates.weights(), model, trunks.get)
        is_finished = watch.stops or number + 1 == len(steps)
        if world.decided(clock() - saved_at >= config.checkpoint_every_s or is_finished):
            state = updates.state()
            if world.is_main:
                settings = config.model_dump(mode="json")
                save_checkpoint(
                    checkpoint_folder,
                    inputs,
                    state,
                    history,
                    watch,
                    settings=settings,
                    is_finished=is_finished,
                )
            saved_at = clock()
    model.whole_weights = updates.weights()
    watch.keep_best(model.whole_weights)
    return history


def _seed(config: TrainSection, number: int, world: World) -> None:
    """Let the noise of a step depend on its number, and each process have its own."""
    torch.manual_seed(config.seed * 1_000_003 + number + (world.rank << 40))


class _TrunkCache:
    """Remembers what the frozen lower layers make of each pack."""

    def __init__(self, model: AdaptedModel, *, is_whole: bool) -> None:
        self._model = model
        self._is_whole = is_whole
        self._kept: dict[int, torch.Tensor] = {}
        self._size_bytes = 0

    def get(self, key: Pack, pack: Pack) -> torch.Tensor | None:
        """Return the trunk's output of `pack`, which is `key` on the model's device; None: it has to be computed."""
        if not self._is_whole:
            return None
        kept = self._kept.get(id(key))
        if kept is not None:
            return kept
        made = self._model.trunk(pack)
        size = made.numel() * made.element_size()
        if self._model.num_trunk_layers and self._size_bytes + size <= _TRUNK_CACHE_BYTES:
            self._kept[id(key)] = made
            self._size_bytes += size
        return made
