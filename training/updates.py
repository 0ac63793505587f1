"""What turns a step's packs into new adapter weights: gradients, optimizer, and their state as a checkpoint has it.

`Updates` is the one of a process that holds everything, alone or beside others (data parallel); training.zero has
the one whose processes share out what they hold. Both name and shape the state alike, so a run may go on with
another number of processes or another stage. Knows nothing of schedules and files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import distributed

from training.config import TrainSection
from training.lora import AdaptedModel
from training.packing import Pack
from training.shares import Share
from training.world import World

MOMENTS = ("exp_avg", "exp_avg_sq")
# What the frozen lower layers make of (a pack, the same pack on the model's device); None: they have to run.
Trunk = Callable[[Pack, Pack], torch.Tensor | None]


class StateError(ValueError):
    """A saved state is of another model."""


class Updating(Protocol):
    """One optimizer over the adapter; in a group, each call is made by all its processes at the same time."""

    def step(self, shares: Sequence[Share], num_labels: int, learning_rate: float) -> tuple[float, float]:
        """Update the weights once; returns (mean loss a label, gradient norm before clipping) of the whole group.

        Args:
            shares: this process's passes.
            num_labels: the labels of the whole step, in all processes.
        """

    def drop_gradients(self) -> None:
        """Forget what a step that failed has left."""

    def weights(self) -> Mapping[str, torch.Tensor]:
        """Return the adapter's matrices, each whole."""

    def state(self) -> dict[str, torch.Tensor]:
        """Return weights and moments, each whole, as `weight.NAME`, `exp_avg.NAME` and `exp_avg_sq.NAME`."""


def optimizer_of(model: AdaptedModel, config: TrainSection) -> torch.optim.AdamW:
    """Return the optimizer over the adapter's matrices."""
    return torch.optim.AdamW(
        model.parameters().values(), lr=config.learning_rate, weight_decay=config.weight_decay
    )


def make_updates(
    model: AdaptedModel,
    config: TrainSection,
    world: World,
    trunk: Trunk,
    sample: Pack,
    saved: Mapping[str, torch.Tensor] | None = None,
    num_steps: int = 0,
) -> Updating:
    """Return what the settings ask for, in the state `saved` after `num_steps` steps if that is given.

    `sample` is any of the packs.

    Raises:
        StateError: `saved` does not fit the model.
    """
    shared = None if saved is None else _fitted(model, saved)
    if config.distributed.zero_stage:
        from training.zero import ZeroUpdates

        return ZeroUpdates(model, config, world, trunk, shared, num_steps, sample)
    return Updates(model, config, world, trunk, shared, num_steps)


def _fitted(model: AdaptedModel, saved: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """Check names and shapes of a state, and copy its weights into the model."""
    with torch.no_grad():
        for name, weight in model.parameters().items():
            for key in ("weight", *MOMENTS):
                found = saved.get(f"{key}.{name}")
                if found is None or found.shape != weight.shape:
                    what = "not there" if found is None else f"of shape {tuple(found.shape)}"
                    raise StateError(f"{key}.{name} is {what}; the model's is {tuple(weight.shape)}")
            weight.copy_(saved[f"weight.{name}"])
    return saved


class Updates:
    """Every process holds weights, gradients and moments; gradients are summed over the group before the step."""

    def __init__(
        self,
        model: AdaptedModel,
        config: TrainSection,
        world: World,
        trunk: Trunk,
        saved: Mapping[str, torch.Tensor] | None,
        num_steps: int,
    ) -> None:
        self._model = model
        self._world = world
        self._trunk = trunk
        self._max_grad_norm = config.max_grad_norm
        self._weights = model.parameters()
        self._optimizer = optimizer_of(model, config)
        for name, weight in self._weights.items() if saved else ():
            assert saved is not None
            moments = {key: saved[f"{key}.{name}"].to(weight.device) for key in MOMENTS}
            self._optimizer.state[weight] = {"step": torch.tensor(float(num_steps)), **moments}

    def step(self, shares: Sequence[Share], num_labels: int, learning_rate: float) -> tuple[float, float]:
        model = self._model
        total = torch.zeros((), device=model.device)
        self.drop_gradients()
        for share in shares:
            if share.is_idle:
                continue
            pack = share.pack.to(model.device)
            with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=model.needs_autocast):
                loss = model.loss(pack, self._trunk(share.pack, pack)) / num_labels
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        if self._world.size > 1:
            total = self._sum_over_group(total)
        norm = torch.nn.utils.clip_grad_norm_(self._weights.values(), self._max_grad_norm)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()
        # The one place of a step where the processor waits for the device.
        mean_loss, grad_norm = torch.stack([total, norm.to(total.dtype)]).tolist()
        return mean_loss, grad_norm

    def _sum_over_group(self, total: torch.Tensor) -> torch.Tensor:
        """Sum gradients and loss in one exchange; each was divided by the labels of the whole step already."""
        weights = self._weights.values()
        parts = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
        flat = torch.cat([*(part.flatten() for part in parts), total[None]])
        distributed.all_reduce(flat)
        start = 0
        for weight in weights:
            weight.grad = flat[start : start + weight.numel()].view_as(weight)
            start += weight.numel()
        return flat[-1]

    def drop_gradients(self) -> None:
        self._optimizer.zero_grad(set_to_none=True)

    def weights(self) -> Mapping[str, torch.Tensor]:
        return self._weights

    def state(self) -> dict[str, torch.Tensor]:
        tensors = {f"weight.{name}": weight.detach() for name, weight in self._weights.items()}
        for name, weight in self._weights.items():
            tensors |= {f"{key}.{name}": self._optimizer.state[weight][key] for key in MOMENTS}
        return tensors
