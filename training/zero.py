"""The adapter trained under DeepSpeed ZeRO: gradients and moments shared out (stage 2), the base's weights too (3).

The only file that imports deepspeed. Nothing of it is compiled: the optimizer is torch's AdamW, also where its
state lies in the machine's memory (offload), and the state of a checkpoint is read and set through DeepSpeed's
own access to single parameters, so that it is the same as without ZeRO.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from training.answer_loss import answer_loss
from training.config import TrainSection
from training.fused_lora import fused_weights
from training.lora import AdaptedModel
from training.packing import Pack
from training.shares import Share
from training.updates import MOMENTS, Trunk, optimizer_of
from training.world import World


def _settings(config: TrainSection) -> dict[str, Any]:
    shared = config.distributed
    zero: dict[str, Any] = {"stage": shared.zero_stage}
    if shared.offload == "cpu":
        zero["offload_optimizer"] = {"device": "cpu"}
        if shared.zero_stage == 3:
            zero["offload_param"] = {"device": "cpu"}
    if shared.zero_stage == 3 and not torch.cuda.is_available():
        # What DeepSpeed fetches ahead it waits for by a GPU's streams, which a CPU has none of.
        zero |= {"overlap_comm": False, "stage3_prefetch_bucket_size": 0}
    return {
        "train_micro_batch_size_per_gpu": 1,
        # More than one, so that DeepSpeed adds up the gradients of passes; which of them is the last it is told.
        "gradient_accumulation_steps": 2,
        "gradient_clipping": config.max_grad_norm,
        "zero_optimization": zero,
        # The optimizer given to it is torch's own; its own one for offload would have to be compiled.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 1 << 40,
    }


def prepare_loading(config: TrainSection) -> object:
    """Make transformers load the base shared out among the processes (stage 3) for as long as the result lives."""
    _import_deepspeed(config)
    from transformers.integrations.deepspeed import HfDeepSpeedConfig

    held: Any = HfDeepSpeedConfig
    settings = {**_settings(config), "bf16": {"enabled": config.dtype == "bfloat16"}}
    return held(settings)


def _import_deepspeed(config: TrainSection) -> Any:
    os.environ["DS_BUILD_OPS"] = "0"
    if config.device == "cpu" or not torch.cuda.is_available():
        os.environ["DS_ACCELERATOR"] = "cpu"
    import deepspeed

    # On a CPU it would compile an exchange of its own when the group is made; gloo does without a compiler.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


class _HeadLoss(nn.Module):
    """The loss through the output matrix, as a module: ZeRO-3 brings weights together around calls of modules."""

    def __init__(self, head: nn.Linear) -> None:
        super().__init__()
        self.head = head

    def forward(self, states: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return answer_loss(states, self.head.weight, labels, is_resident=False)


class _PackLoss(nn.Module):
    """What DeepSpeed is given as the model: from a pack to its summed loss."""

    def __init__(self, adapted: AdaptedModel, head_loss: nn.Module) -> None:
        super().__init__()
        self.peft = adapted.peft
        self.head_loss = head_loss
        self._adapted = adapted

    def forward(self, pack: Pack, trunk: torch.Tensor | None) -> torch.Tensor:
        return self._adapted.run_here(pack, trunk)


class ZeroUpdates:
    """`training.updates.Updating` with DeepSpeed.

    Args:
        sample: any pack; a restored state is laid over the one that a step with it leaves.
    """

    def __init__(
        self,
        model: AdaptedModel,
        config: TrainSection,
        world: World,
        trunk: Trunk,
        saved: Mapping[str, torch.Tensor] | None,
        num_steps: int,
        sample: Pack,
    ) -> None:
        deepspeed = _import_deepspeed(config)
        self._model = model
        self._world = world
        self._is_whole = config.distributed.zero_stage < 3
        self._trunk = trunk
        self._weights = model.parameters()
        head_loss = _HeadLoss(model.head)
        if not self._is_whole:
            model.head_loss = head_loss
            _name_outer_weights(deepspeed, model, head_loss)
        self._engine: Any = deepspeed.initialize(
            model=_PackLoss(model, head_loss),
            optimizer=optimizer_of(model, config),
            model_parameters=list(self._weights.values()),
            config=_settings(config),
        )[0]
        if not self._is_whole:
            model.run = self._engine
        if saved is not None:
            self._restore(saved, num_steps, sample)

    def _restore(self, saved: Mapping[str, torch.Tensor], num_steps: int, sample: Pack) -> None:
        """Set the moments; the weights were copied into the model before DeepSpeed took it over."""
        from deepspeed.utils import safe_set_full_optimizer_state, safe_set_local_optimizer_state

        # DeepSpeed makes the moments in the first step: one at rate 0 without any gradient changes nothing else.
        self.step([Share(sample, is_idle=True)], 1, 0.0)
        for name, weight in self._weights.items():
            for key in MOMENTS:
                moment = saved[f"{key}.{name}"].to(self._model.device)
                if self._is_whole:
                    safe_set_full_optimizer_state(weight, moment, key)
                else:
                    safe_set_local_optimizer_state(weight, _part(moment, self._world), key)
        for state in self._engine.optimizer.optimizer.state.values():
            state["step"].fill_(num_steps)

    def step(self, shares: Sequence[Share], num_labels: int, learning_rate: float) -> tuple[float, float]:
        model, engine = self._model, self._engine
        total = torch.zeros((), device=model.device)
        for group in engine.optimizer.param_groups:
            group["lr"] = learning_rate
        for number, share in enumerate(shares):
            engine.set_gradient_accumulation_boundary(number + 1 == len(shares))
            pack = share.pack.to(model.device)
            loss = engine(pack, self._trunk(share.pack, pack))
            # DeepSpeed takes the mean over processes; what counts is the mean over all labels.
            loss = loss * (0.0 if share.is_idle else self._world.size / num_labels)
            engine.backward(loss, scale_wrt_gas=False)
            engine.step()
            total += loss.detach()
        mean_loss = self._world.summed([float(total) / self._world.size])[0]
        return mean_loss, float(engine.get_global_grad_norm())

    def drop_gradients(self) -> None:
        self._engine.zero_grad()

    def weights(self) -> Mapping[str, torch.Tensor]:
        return self._weights if self._is_whole else self._gathered(None)

    def state(self) -> dict[str, torch.Tensor]:
        tensors = {f"weight.{name}": weight for name, weight in self._gathered(None).items()}
        for key in MOMENTS:
            tensors |= {f"{key}.{name}": moment for name, moment in self._gathered(key).items()}
        return tensors

    def _gathered(self, key: str | None) -> dict[str, torch.Tensor]:
        """Return the weights, or one of the moments, each whole and in the processor's memory."""
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        found = {}
        for name, weight in self._weights.items():
            tensor = safe_get_full_optimizer_state(weight, key) if key else safe_get_full_fp32_param(weight)
            found[name] = tensor.detach().cpu()
        return found


def _part(whole: torch.Tensor, world: World) -> torch.Tensor:
    """Return this process's part of a matrix as stage 3 cuts it: flat, in equal lengths, the last filled up."""
    length = -(-whole.numel() // world.size)
    flat = nn.functional.pad(whole.flatten(), (0, length * world.size - whole.numel()))
    return flat[world.rank * length : (world.rank + 1) * length]


def _name_outer_weights(deepspeed: Any, model: AdaptedModel, head_loss: _HeadLoss) -> None:
    """Tell DeepSpeed of modules that read the weights of others without calling them."""
    for module in model.peft.modules():
        for weight in fused_weights(module):
            deepspeed.zero.register_external_parameter(module, weight)
    deepspeed.zero.register_external_parameter(head_loss, head_loss.head.weight)
