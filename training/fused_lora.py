"""The arithmetic of a LoRA linear layer, forward and backward, without the copies that make it slow.

    y = x Wᵀ + b + s (x Aᵀ) Bᵀ

PEFT computes the same through separate operations: it copies the activations to float32 for A, scales and
adds whole (T, D_out) tensors. Here the low-rank product is accumulated into the base product (one addmm),
and W, which is frozen, gets no gradient. A W of 4 bits is made whole for each of its two products and let go.
A and B stay PEFT's own float32 parameters, so saving, merging and checkpoints are PEFT's.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import nn
from torch.nn import functional


class _LoraProduct(torch.autograd.Function):
    """x: (..., D_in), weight: (D_out, D_in), bias: (D_out,) or None, a: (r, D_in), b: (D_out, r)."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: Any,
        a: torch.Tensor,
        b: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        flat = x.reshape(-1, x.shape[-1])
        a, b = a.to(x.dtype), b.to(x.dtype)
        low = flat @ a.T
        y = functional.linear(flat, _whole(weight, x.dtype), bias).addmm_(low, b.T, alpha=scale)
        ctx.save_for_backward(flat, low, a, b)
        ctx.weight = weight  # frozen, and a saved tensor would lose what bitsandbytes hangs on it
        ctx.scale = scale
        return y.reshape(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        flat, low, a, b = ctx.saved_tensors
        shape = grads[0].shape
        grad = grads[0].reshape(-1, shape[-1])
        grad_low = (grad @ b).mul_(ctx.scale)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = (grad @ _whole(ctx.weight, grad.dtype)).addmm_(grad_low, a).reshape(*shape[:-1], -1)
        grad_a = (grad_low.T @ flat).float()
        grad_b = (grad.T @ low).float().mul_(ctx.scale)
        return grad_x, None, None, grad_a, grad_b, None


def _whole(weight: Any, dtype: torch.dtype) -> torch.Tensor:
    """Return the (D_out, D_in) matrix of an ordinary or 4-bit weight."""
    state = getattr(weight, "quant_state", None)
    if state is None:
        plain: torch.Tensor = weight
        return plain
    from bitsandbytes.functional import dequantize_4bit

    made: torch.Tensor = dequantize_4bit(weight.data, state).to(dtype)
    return made


def fuse_lora(model: nn.Module) -> int:
    """Let every LoRA linear layer of a PEFT model compute as above; returns how many there are.

    Layers with dropout, several adapters or weights of 8 bits keep PEFT's own forward.
    """
    count = 0
    for module in model.modules():
        if isinstance(module, LoraLayer) and _is_plain(module):
            module.forward = _forward_of(module)
            count += 1
    return count


def fused_weights(module: nn.Module) -> list[nn.Parameter]:
    """Return the matrices that a module computes with in place of its parts; none if it is not fused."""
    if not (isinstance(module, LoraLayer) and "forward" in vars(module)):
        return []
    name = module.active_adapters[0]
    base: Any = module.base_layer
    low: Any = [module.lora_A[name].weight, module.lora_B[name].weight]
    return [base.weight, *([] if base.bias is None else [base.bias]), *low]


def _is_plain(module: Any) -> bool:
    adapters = module.active_adapters
    return (
        len(adapters) == 1
        and (type(module.base_layer) is nn.Linear or type(module.base_layer).__name__ == "Linear4bit")
        and isinstance(module.lora_dropout[adapters[0]], nn.Identity)
        and not module.use_dora[adapters[0]]
    )


def _forward_of(module: Any) -> Any:
    name = module.active_adapters[0]
    base, a, b, scale = module.base_layer, module.lora_A[name], module.lora_B[name], module.scaling[name]

    product: Any = _LoraProduct.apply

    def forward(x: torch.Tensor) -> Any:
        return product(x, base.weight, base.bias, a.weight, b.weight, scale)

    return forward
