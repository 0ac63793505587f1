"""The base model with LoRA adapters on it: loading, the forward pass over a pack, and its loss.

The only file that imports peft for training. Knows nothing of schedules or files other than the base model.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from training.answer_loss import answer_loss
from training.base_model import (
    apply_liger,
    device_of,
    load_base,
    needs_checkpointing,
    uses_varlen,
    with_dtype,
)
from training.config import TrainSection
from training.fused_lora import fuse_lora
from training.packing import Pack, attention_mask
from training.varlen import spans_of


class AdaptedModel:
    """A causal language model whose frozen base carries trainable LoRA matrices in its upper layers.

    `trunk` is the part below the first adapted layer: it has no gradient, so what it makes of a pack never
    changes during training and may be kept by the caller.
    """

    def __init__(self, base: Path | nn.Module, config: TrainSection) -> None:
        """Adapt the model of a folder, or one that was made already and lies on the settings' device."""
        config = with_dtype(config)
        self.dtype = getattr(torch, config.dtype)
        self.device = device_of(config)
        self.uses_varlen = uses_varlen(config)
        model: Any = load_base(base, config) if isinstance(base, Path) else base
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        self.has_liger = apply_liger(model, config)
        num_layers = model.config.num_hidden_layers
        self.num_trunk_layers = max(0, num_layers - (config.top_layers or num_layers))
        torch.manual_seed(config.seed)
        lora = LoraConfig(
            r=config.lora_rank,
            lora_alpha=config.lora_alpha,
            lora_dropout=config.lora_dropout,
            target_modules=list(config.target_modules),
            layers_to_transform=list(range(self.num_trunk_layers, num_layers)),
            task_type="CAUSAL_LM",
        )
        with warnings.catch_warnings():
            # peft 0.21 asks transformers 5 by a name that the latter has renamed; nothing a user could do.
            warnings.filterwarnings("ignore", ".is_gradient_checkpointing. is deprecated", FutureWarning)
            self.peft = get_peft_model(model, lora)
        # Without dropout every layer computes in the base's own dtype; PEFT's own path needs autocast.
        self.needs_autocast = fuse_lora(self.peft) == 0 and config.dtype == "bfloat16"
        self.model = model
        self.is_checkpointing = False
        num_adapted = num_layers - self.num_trunk_layers
        if needs_checkpointing(model, config, num_adapted, has_liger=self.has_liger):
            self.use_checkpointing()
        self.decoder: Any = model.get_decoder()
        self.head: nn.Linear = model.get_output_embeddings()
        # What `loss` does, and how it goes from states that predict a label, and the labels, to the summed loss:
        # ZeRO-3 puts modules in their place, around whose calls it brings weights together.
        self.run: Callable[[Pack, torch.Tensor | None], torch.Tensor] = self.run_here
        self.head_loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = self._head_loss
        # The trained matrices, each whole, which those of the model are not under ZeRO-3.
        self.whole_weights: Mapping[str, torch.Tensor] = self.parameters()
        self.peft.train()

    def use_checkpointing(self) -> None:
        """Compute activations twice from now on rather than keep them."""
        with warnings.catch_warnings():
            # Renamed in transformers 5.20; the new name is not in the older ones that are allowed.
            warnings.filterwarnings("ignore", ".gradient_checkpointing_enable. is deprecated", FutureWarning)
            self.model.gradient_checkpointing_enable({"use_reentrant": False})
        self.is_checkpointing = True

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Compute without gradient and dropout inside the block, in the arithmetic of training."""
        self.peft.eval()
        try:
            with (
                torch.no_grad(),
                torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.needs_autocast),
            ):
                yield
        finally:
            self.peft.train()

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return the trainable matrices by name, in a fixed order."""
        return {name: weight for name, weight in self.peft.named_parameters() if weight.requires_grad}

    def save(self, folder: Path) -> None:
        """Write the adapter in PEFT's format."""
        self.peft.save_pretrained(str(folder), safe_serialization=True, state_dict=dict(self.whole_weights))

    def trunk(self, pack: Pack) -> torch.Tensor:
        """Return what the frozen lower layers make of a pack: (1, P, D), without gradient."""
        if self.num_trunk_layers == 0:
            embedded: torch.Tensor = self.model.get_input_embeddings()(pack.ids)
            return embedded
        with torch.no_grad(), self._only_layers(slice(0, self.num_trunk_layers), keep_norm=False):
            hidden: torch.Tensor = self._decode(pack, input_ids=pack.ids)
            return hidden

    def loss(self, pack: Pack, trunk: torch.Tensor | None) -> torch.Tensor:
        """Return the summed cross-entropy (a scalar, float32) of the pack's labels; the trunk runs if not given.

        Only the hidden states that predict a label go through the output matrix: it is a quarter of a 0.5B
        model's arithmetic, and most tokens of a short question carry no loss.
        """
        return self.run(pack, trunk)

    def run_here(self, pack: Pack, trunk: torch.Tensor | None) -> torch.Tensor:
        """Do what `loss` says in this process alone."""
        if trunk is None:
            trunk = self.trunk(pack)
        with self._only_layers(slice(self.num_trunk_layers, None), keep_norm=True):
            hidden = self._decode(pack, inputs_embeds=trunk)
        return self.head_loss(hidden[0].index_select(0, pack.predicting), pack.labels)

    def _head_loss(self, states: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return answer_loss(states, self.head.weight, labels)

    def _decode(self, pack: Pack, **inputs: torch.Tensor) -> torch.Tensor:
        apart: dict[str, Any]
        if self.uses_varlen:
            if pack.lengths[0]:
                raise ValueError(f"a pack that shares {pack.lengths[0]} tokens needs train.attention: mask")
            apart = {"attention_mask": None, "spans": spans_of(pack.lengths, self.device)}
        else:
            apart = {"attention_mask": attention_mask(pack, self.dtype)}
        output = self.decoder(**inputs, **apart, position_ids=pack.positions, use_cache=False)
        hidden: torch.Tensor = output.last_hidden_state
        return hidden

    @contextmanager
    def _only_layers(self, which: slice, *, keep_norm: bool) -> Iterator[None]:
        """Let the decoder run only some of its layers; embeddings, rotary positions and masks stay its own."""
        decoder = self.decoder
        layers, norm, count = decoder.layers, decoder.norm, decoder.config.num_hidden_layers
        decoder.layers = layers[which]
        decoder.config.num_hidden_layers = len(decoder.layers)
        if not keep_norm:
            decoder.norm = nn.Identity()
        try:
            yield
        finally:
            decoder.layers, decoder.norm, decoder.config.num_hidden_layers = layers, norm, count
