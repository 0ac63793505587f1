from __future__ import annotations

import torch
from torch.nn import functional

from training.answer_loss import answer_loss


def test_loss_and_gradient_are_those_of_the_whole_logits() -> None:
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(350, 16, generator=generator)
    weight = torch.randn(301, 16, generator=generator)
    labels = torch.randint(301, (350,), generator=generator)
    ours, theirs = hidden.clone().requires_grad_(), hidden.clone().requires_grad_()
    loss = answer_loss(ours, weight, labels)
    expected = functional.cross_entropy(functional.linear(theirs, weight), labels, reduction="sum")
    (loss / 7).backward()
    (expected / 7).backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(ours.grad, theirs.grad)
