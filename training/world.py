"""The processes that train together: which of them this one is, and how they agree.

Knows nothing of models or optimizers. What is decided with a clock, a disk or free memory is decided once, by
process 0 or by all together: processes that went separate ways would wait for each other for ever.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import distributed

from data.errors import InputError
from training.config import TrainSection

_JOIN_TIMEOUT = datetime.timedelta(minutes=30)


@dataclass(frozen=True)
class World:
    """This process among `size`: its number `rank`, and `local_rank` among the `local_size` of its node."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    uses_cuda: bool = False

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def decided(self, choice: bool) -> bool:
        """Return process 0's choice, in every process."""
        if self.size == 1:
            return choice
        said = torch.tensor([int(choice)])
        distributed.broadcast(said, src=0)
        return bool(said.item())

    def any_of(self, found: bool) -> bool:
        """Return whether `found` holds in any process."""
        return found if self.size == 1 else self.summed([float(found)])[0] > 0

    def summed(self, values: Sequence[float]) -> list[float]:
        """Return the sums of the processes' values."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(total)
        return [float(value) for value in total.tolist()]

    def shared_text(self, text: str) -> str:
        """Return process 0's text, in every process."""
        if self.size == 1:
            return text
        data = torch.tensor(list(text.encode()), dtype=torch.uint8)
        length = torch.tensor([len(data)])
        distributed.broadcast(length, src=0)
        if not self.is_main:
            data = torch.empty(int(length.item()), dtype=torch.uint8)
        distributed.broadcast(data, src=0)
        return bytes(data.tolist()).decode()

    def shared_tensors(
        self, tensors: Mapping[str, torch.Tensor], shapes: Mapping[str, Sequence[int]]
    ) -> dict[str, torch.Tensor]:
        """Return process 0's float32 CPU tensors of these names and shapes, in every process."""
        if self.size == 1:
            return dict(tensors)
        shared = {}
        for name, shape in shapes.items():
            tensor = tensors[name].contiguous() if self.is_main else torch.empty(tuple(shape))
            distributed.broadcast(tensor, src=0)
            shared[name] = tensor
        return shared


ALONE = World()


def join(config: TrainSection) -> World:
    """Join the group that the environment describes.

    Raises:
        InputError: this node has fewer GPUs than processes.
    """
    rank, local_rank, size = (int(os.environ[name]) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"))
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE") or size)
    uses_cuda = config.device != "cpu" and torch.cuda.is_available()
    if uses_cuda:
        if local_rank >= torch.cuda.device_count():
            raise InputError(
                f"process {local_rank} of this node finds {torch.cuda.device_count()} CUDA devices; "
                "set train.distributed.num_processes to their number, or train.device: cpu"
            )
        torch.cuda.set_device(local_rank)
    if not distributed.is_initialized():
        # Weights and gradients go between GPUs through NCCL, decisions between processors through gloo.
        backend = "cpu:gloo,cuda:nccl" if uses_cuda else "gloo"
        distributed.init_process_group(backend, timeout=_JOIN_TIMEOUT)
    return World(rank, size, local_rank, local_size, uses_cuda)


def leave() -> None:
    """Leave the group, at its end."""
    distributed.destroy_process_group()
