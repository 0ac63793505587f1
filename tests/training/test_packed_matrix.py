from __future__ import annotations

import gc

import pytest
import torch

from training import packed_matrix
from training.packed_matrix import packed


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("length", [1, 37, 160])
def test_products_agree_with_plain_ones(dtype: torch.dtype, length: int) -> None:
    torch.manual_seed(1)
    weight = torch.randn(1000, 96).to(dtype)
    matrix = packed(weight, 160)
    x, y = torch.randn(length, 96).to(dtype), torch.randn(length, 1000).to(dtype)
    # Of another blocking the sums may differ in their last bit.
    rtol, atol = (2**-7, 0.05) if dtype == torch.bfloat16 else (None, None)
    torch.testing.assert_close(matrix.across(x), x @ weight.T, rtol=rtol, atol=atol)
    torch.testing.assert_close(matrix.back(y), y @ weight, rtol=rtol, atol=atol)


needs_bf16 = pytest.mark.skipif(
    not packed_matrix._is_worth_it(torch.ones(8, 8).bfloat16()), reason="no bfloat16 products on this CPU"
)


@needs_bf16
def test_a_matrix_is_packed_once_and_anew_when_it_changed() -> None:
    weight = torch.nn.Parameter(torch.randn(64, 8).bfloat16(), requires_grad=False)
    first = packed(weight, 160)
    assert packed(weight, 160) is first
    with torch.no_grad():
        weight.mul_(2)
    second = packed(weight, 160)
    assert second is not first
    x = torch.randn(3, 8).bfloat16()
    torch.testing.assert_close(second.across(x), x @ weight.T)
    weight.data = weight.data.clone()
    assert packed(weight, 160) is not second


@needs_bf16
def test_nothing_is_kept_of_a_model_that_is_gone() -> None:
    gc.collect()
    before = len(packed_matrix._packed)
    weight = torch.nn.Parameter(torch.randn(64, 8).bfloat16(), requires_grad=False)
    packed(weight, 160)
    assert len(packed_matrix._packed) == before + 1
    del weight
    gc.collect()
    assert len(packed_matrix._packed) == before
