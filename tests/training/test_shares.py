"""However many processes share a step, together they run its packs once."""

from __future__ import annotations

import random

import pytest
import torch

from training.config import DistributedSection, TrainSection
from training.examples import Example
from training.packing import Pack, attention_mask, pack_examples
from training.shares import Shares, conversations_of
from training.world import World

PREFIX = tuple(range(100, 107))


def make_packs(num_examples: int, pack_tokens: int = 60, *, share_prefix: bool = True) -> list[Pack]:
    pick = random.Random(3)
    examples = []
    for _ in range(num_examples):
        rest = tuple(pick.randrange(99) for _ in range(pick.randrange(5, 25)))
        examples.append(Example(PREFIX + rest, pick.randrange(1, len(rest)), False))
    return pack_examples(examples, pack_tokens, 1, share_prefix=share_prefix)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("num_packs", [1, 2, 3, 5])
@pytest.mark.parametrize("share_prefix", [True, False])
def test_every_label_is_learned_once_and_all_run_as_often(
    size: int, num_packs: int, share_prefix: bool
) -> None:
    packs = make_packs(30, share_prefix=share_prefix)[:num_packs]
    assert len(packs) == num_packs
    dealt = [Shares(World(rank, size)).of(packs) for rank in range(size)]
    assert len({len(shares) for shares in dealt}) == 1
    working = [share.pack for shares in dealt for share in shares if not share.is_idle]
    assert sorted(torch.cat([pack.labels for pack in working]).tolist()) == sorted(
        torch.cat([pack.labels for pack in packs]).tolist()
    )
    assert sum(pack.num_example_tokens for pack in working) == sum(pack.num_example_tokens for pack in packs)
    assert all(len(share.pack.labels) for shares in dealt for share in shares)


def test_the_same_part_is_the_same_object() -> None:
    packs = make_packs(30)[:1]
    shares = Shares(World(1, 2))
    assert shares.of(packs)[0].pack is shares.of(packs)[0].pack


def test_a_part_computes_what_the_whole_does() -> None:
    pack = next(pack for pack in make_packs(30) if len(pack.lengths) > 3)
    start = sum(pack.lengths[:2])
    part = conversations_of(pack, 1, 3)
    kept = [*range(pack.lengths[0]), *range(start, start + sum(pack.lengths[2:4]))]
    whole_mask, mask = attention_mask(pack, torch.float32)[0, 0], attention_mask(part, torch.float32)[0, 0]
    assert torch.equal(mask, whole_mask[kept][:, kept])
    assert torch.equal(part.ids[0], pack.ids[0, kept])
    assert torch.equal(part.positions[0], pack.positions[0, kept])
    # A label is the token after the one that predicts it, but for the last of a conversation, which has none.
    inside = part.predicting[:-1][part.predicting.diff() == 1]
    assert torch.equal(part.ids[0, inside + 1], part.labels[:-1][part.predicting.diff() == 1])
    assert sum(part.lengths) == part.num_tokens


def test_settings_that_cannot_be() -> None:
    for wrong, why in (
        ({"offload": "cpu"}, "zero_stage: 2 or 3"),
        ({"num_nodes": 2}, "main_address"),
        ({"node_rank": 1}, "count from 0"),
    ):
        with pytest.raises(ValueError, match=why):
            DistributedSection.model_validate(wrong)
    with pytest.raises(ValueError, match="nf4"):
        TrainSection.model_validate({"quantization": "nf4", "distributed": {"zero_stage": 3}})
    with pytest.raises(ValueError, match="generate"):
        TrainSection.model_validate({"evaluation": {"generate": 3}, "distributed": {"zero_stage": 3}})
