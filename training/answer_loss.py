"""Cross-entropy of the answer tokens, through a frozen output matrix, without the logits ever being whole.

A 152k-word vocabulary makes the logits of one pack hundreds of megabytes, which a CPU then reads and writes
several times. Here they are made for some tokens at a time and turned at once into the loss and into the gradient
of the hidden states: the output matrix is frozen, so nothing else of them is ever needed. The idea is that of
fused linear cross-entropy (Hsu et al. 2024, Liger Kernel).
"""

from __future__ import annotations

import math
from typing import Any

import torch

from training.packed_matrix import PackedMatrix, packed

# Logits of so many tokens are a hundred megabytes; with fewer a product costs more than their memory does.
_CPU_CHUNK_TOKENS = 160
_CUDA_CHUNK_BYTES = 512 << 20


class _AnswerLoss(torch.autograd.Function):
    """hidden: (L, D), matrix of (V, D) without gradient, labels: (L,) -> summed loss, float32."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, matrix: PackedMatrix, labels: torch.Tensor) -> torch.Tensor:
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        grad = torch.empty_like(hidden)
        size = _CPU_CHUNK_TOKENS
        if hidden.is_cuda:  # a GPU has no cache to fit into, and wants large products
            size = max(size, _CUDA_CHUNK_BYTES // (4 * matrix.num_rows))
        num_chunks = max(1, math.ceil(len(labels) / size))
        # Of about one size: a small rest costs nearly what a whole chunk does.
        size = max(1, math.ceil(len(labels) / num_chunks))
        for start in range(0, len(labels), size):
            part = slice(start, start + size)
            chunk_labels = labels[part, None]
            # One pass over the logits, where logsumexp, subtraction and their copies are several.
            log_shares = matrix.across(hidden[part]).log_softmax(dim=-1, dtype=torch.float32)
            total -= log_shares.gather(1, chunk_labels).sum()
            if not ctx.needs_input_grad[0]:  # an evaluation
                continue
            # The gradient of the loss by the logits: softmax less one at the label.
            slope = log_shares.exp_()
            slope.scatter_add_(1, chunk_labels, torch.full_like(chunk_labels, -1, dtype=slope.dtype))
            grad[part] = matrix.back(slope.to(hidden.dtype))
        ctx.save_for_backward(grad)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        (grad,) = ctx.saved_tensors
        return grad * grads[0].to(grad.dtype), None, None


def answer_loss(
    hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, *, is_resident: bool = True
) -> torch.Tensor:
    """Return the summed cross-entropy (a scalar, float32) of `labels` given the states that predict them.

    Args:
        hidden: (L, D), the final hidden states of the tokens whose successor is learned.
        weight: (V, D), the output matrix; it gets no gradient.
        labels: (L,) token ids.
        is_resident: whether the matrix stays where it is; not if it is gathered for each use (ZeRO-3).
    """
    matrix = packed(weight, _CPU_CHUNK_TOKENS) if is_resident else PackedMatrix(weight.detach(), None)
    product: Any = _AnswerLoss.apply
    loss: torch.Tensor = product(hidden, matrix, labels)
    return loss
