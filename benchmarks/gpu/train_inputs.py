"""What benchmarks.gpu.train trains: a random model of a shape, and rows with nothing but lengths."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any


def row_lengths(count: int, seed: int) -> list[int]:
    """Return log-normal lengths of mean about 150 (sigma 0.6), each between 16 and 1024."""
    chance = random.Random(seed)
    middle = math.log(150) - 0.6**2 / 2
    return [min(1024, max(16, round(chance.lognormvariate(middle, 0.6)))) for _ in range(count)]


def random_model(shape: dict[str, int], device: Any, quantization: str | None) -> Any:
    """Return a Llama of the shape in bfloat16 with random weights, its layers in 4 bits where asked."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from training import varlen

    settings: dict[str, Any] = {**shape, "max_position_embeddings": 4096, "tie_word_embeddings": False}
    config = LlamaConfig(**settings)
    config._attn_implementation = varlen.register()
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with device:
            model: Any = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    if quantization:
        quantise(model, device)
    return model


def quantise(model: Any, device: Any) -> None:
    """Put NF4 layers in the place of the decoder's linear ones, as transformers' loader does."""
    import bitsandbytes as bnb
    import torch
    from torch import nn

    from training.base_model import require_bitsandbytes

    require_bitsandbytes(device)
    for parent in list(model.model.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Linear:
                small = bnb.nn.Linear4bit(
                    layer.in_features, layer.out_features, bias=False, compute_dtype=torch.bfloat16,
                    quant_type="nf4", device="meta",
                )  # fmt: skip
                weight = layer.weight.data.to("cpu") if device.type == "cpu" else layer.weight.data
                small.weight = bnb.nn.Params4bit(weight, requires_grad=False, quant_type="nf4")
                setattr(parent, name, small.to(device))
    model.is_loaded_in_4bit = True


def rows_of(pack: Any) -> list[Any]:
    """Return stand-ins for a pack's rows that have their length and labels, padding left out."""
    from training.examples import Example

    predicted = pack.predicting.tolist()
    segments = pack.segments.tolist()
    labels: dict[int, int] = {}
    last: dict[int, int] = {}
    for place in predicted:
        labels[segments[place]] = labels.get(segments[place], 0) + 1
        last[segments[place]] = place + 1
    starts = {number: segments.index(number) for number in labels}
    return [Example((0,) * (last[n] + 1 - starts[n]), labels[n], was_cut=False) for n in labels]


def padded_packs(rows: Sequence[Any], tokens: int) -> list[Any]:
    """Return batches padded to their longest row, as many rows as a pack of `tokens` holds on average."""
    import torch

    from training.packing import Pack

    packs = []
    size = max(1, tokens // 150)
    for start in range(0, len(rows), size):
        members = rows[start : start + size]
        width = max(len(row.ids) for row in members)
        predicting = [
            number * width + place
            for number, row in enumerate(members)
            for place in range(len(row.ids) - row.num_labels - 1, len(row.ids) - 1)
        ]
        packs.append(
            Pack(
                ids=torch.tensor([[t for row in members for t in (*row.ids, *[0] * (width - len(row.ids)))]]),
                positions=torch.arange(width).repeat(len(members))[None],
                segments=torch.arange(1, len(members) + 1).repeat_interleave(width),
                predicting=torch.tensor(predicting),
                labels=torch.tensor([t for row in members for t in row.ids[-row.num_labels :]]),
                num_example_tokens=sum(len(row.ids) for row in members),
                lengths=(0, *[width] * len(members)),
            )
        )
    return packs
