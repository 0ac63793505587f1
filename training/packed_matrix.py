"""A frozen matrix in the order in which oneDNN multiplies by it on a CPU.

Every product on a CPU first copies its matrix into blocks. A matrix that never changes can be copied once: for an
output matrix of 152k words that is a third of the time of a product with some hundred rows, and no bit differs.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import torch
from torch.nn import functional
from torch.utils.weak import WeakTensorKeyDictionary

# A copy for each of the two directions is kept; larger matrices are copied anew for each product, as torch does.
_MAX_BYTES = 1 << 30


class PackedMatrix:
    """weight: (V, D) -> `across` x: (L, D) to x Wᵀ: (L, V), and `back` x: (L, V) to x W: (L, D).

    `num_products` is L, about; None multiplies by the matrix as it is.
    """

    def __init__(self, weight: torch.Tensor, num_products: int | None) -> None:
        self._weight = weight
        self._version = weight._version
        self._across = self._back = None
        if num_products is not None:
            ops: Any = torch.ops.mkldnn
            self._across = ops._reorder_linear_weight(weight, num_products)
            self._back = ops._reorder_linear_weight(weight.t().contiguous(), num_products)

    @property
    def num_rows(self) -> int:
        """V."""
        return self._weight.shape[0]

    def across(self, x: torch.Tensor) -> torch.Tensor:
        """Return x Wᵀ."""
        return functional.linear(x, self._weight) if self._across is None else _product(x, self._across)

    def back(self, x: torch.Tensor) -> torch.Tensor:
        """Return x W."""
        return x @ self._weight if self._back is None else _product(x, self._back)

    def is_of(self, weight: torch.Tensor) -> bool:
        """Whether it is this matrix, as it is now."""
        return self._weight.data_ptr() == weight.data_ptr() and self._version == weight._version


_packed: MutableMapping[torch.Tensor, PackedMatrix] = WeakTensorKeyDictionary()


def packed(weight: torch.Tensor, num_products: int) -> PackedMatrix:
    """Return the packed form of a matrix that gets no gradient, made once while the matrix stays as it is.

    Nothing is kept of a matrix for which it is not worth it.

    Args:
        num_products: L, about.
    """
    if not _is_worth_it(weight):
        return PackedMatrix(weight.detach(), None)
    found = _packed.get(weight)
    if found is None or not found.is_of(weight):
        _packed[weight] = found = PackedMatrix(weight.detach(), num_products)
    return found


def _is_worth_it(weight: torch.Tensor) -> bool:
    ops: Any = torch.ops.mkldnn
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.bfloat16
        and weight.nbytes <= _MAX_BYTES
        and torch._C._has_mkldnn
        and hasattr(ops, "_reorder_linear_weight")
        and bool(ops._is_mkldnn_bf16_supported())
    )


def _product(x: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    made: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, matrix, None, "none", [], "")
    return made
