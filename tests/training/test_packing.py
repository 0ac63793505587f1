from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM

from tests.serving.tiny_model import write_tiny_model
from training.config import TrainSection
from training.examples import Example
from training.lora import AdaptedModel
from training.packing import Pack, attention_mask, pack_examples
from training.schedule import plan_steps

PREFIX = (1, 2, 3, 4)


def example(*ids: int, num_labels: int = 2) -> Example:
    return Example((*PREFIX, *ids), num_labels, was_cut=False)


EXAMPLES = [
    example(10, 11, 12, 13),
    example(20, 21, 22, 23, 24, num_labels=3),
    example(30, 31, 32),
    example(40, 41, 42, 43, 44, 45, 46, num_labels=4),
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "m")


def test_packs_hold_every_example_once_within_the_limit() -> None:
    packs = pack_examples(EXAMPLES, 18, seed=1)
    assert all(pack.num_tokens <= 18 for pack in packs)
    assert sum(len(pack.labels) for pack in packs) == sum(e.num_labels for e in EXAMPLES)
    assert sum(pack.num_example_tokens for pack in packs) == sum(len(e.ids) for e in EXAMPLES)
    again = pack_examples(EXAMPLES, 18, seed=1)
    assert [pack.ids.tolist() for pack in again] == [pack.ids.tolist() for pack in packs]


def test_no_example_sees_another() -> None:
    (pack,) = pack_examples(EXAMPLES, 100, seed=1)
    allowed = attention_mask(pack, torch.float32)[0, 0] == 0
    segments = pack.segments.tolist()
    for looking, seen in zip(*torch.nonzero(allowed, as_tuple=True), strict=True):
        assert segments[seen] in (0, segments[looking])
        assert pack.positions[0, seen] <= pack.positions[0, looking]


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("attention", ["mask", "varlen"])
@pytest.mark.parametrize("top_layers", [None, 1])
def test_a_pack_computes_what_separate_sequences_do(
    tiny: Path, top_layers: int | None, attention: Literal["mask", "varlen"], checkpointing: bool
) -> None:
    """Loss and gradients of one pack against the same examples one by one through transformers and PEFT."""
    config = TrainSection(
        dtype="float32",
        top_layers=top_layers,
        lora_rank=4,
        attention=attention,
        gradient_checkpointing=checkpointing,
    )
    model = AdaptedModel(tiny, config)
    weights = model.parameters()
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in weights.values():
            weight.normal_(std=0.1)
    (pack,) = pack_examples(EXAMPLES, 100, seed=1, share_prefix=attention == "mask")
    loss = model.loss(pack, model.trunk(pack))
    loss.backward()
    packed = {name: weight.grad.clone() for name, weight in weights.items() if weight.grad is not None}
    assert packed.keys() == weights.keys()

    reference = AdaptedModel(
        tiny, config.model_copy(update={"lora_dropout": 1e-12, "attention": "mask"})
    )  # keeps PEFT's own forward
    for name, weight in reference.parameters().items():
        weight.data.copy_(weights[name].data)
    total = torch.tensor(0.0)
    for item in EXAMPLES:
        ids = torch.tensor([item.ids])
        logits = reference.peft(input_ids=ids).logits[0, -item.num_labels - 1 : -1]
        total = total + functional.cross_entropy(logits, ids[0, -item.num_labels :], reduction="sum")
    total.backward()
    torch.testing.assert_close(loss, total, rtol=1e-5, atol=1e-5)
    for name, weight in reference.parameters().items():
        torch.testing.assert_close(packed[name], weight.grad, rtol=1e-3, atol=1e-5)


def test_only_the_top_layers_are_adapted(tiny: Path) -> None:
    model = AdaptedModel(tiny, TrainSection(dtype="float32", top_layers=1))
    assert {name.split("layers.")[1].split(".")[0] for name in model.parameters()} == {"1"}


def test_the_schedule_keeps_to_the_token_budget() -> None:
    config = TrainSection(epochs=3, max_train_tokens=350, learning_rate=1e-3, warmup_ratio=0.3)
    steps = plan_steps([100, 100], config)
    assert len(steps) == 3
    assert steps[0].learning_rate < steps[1].learning_rate or steps[0].learning_rate == pytest.approx(1e-3)
    assert steps[-1].learning_rate < 1e-3
    assert plan_steps([1000], config)[0].packs == (0,)


def test_the_base_model_is_untouched(tiny: Path) -> None:
    plain = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    model = AdaptedModel(tiny, TrainSection(dtype="float32"))
    ids = torch.tensor([[*PREFIX, 10, 11]])
    torch.testing.assert_close(model.peft(input_ids=ids).logits, plain(input_ids=ids).logits)


def test_pack_of_one_has_no_prefix() -> None:
    (pack,) = pack_examples(EXAMPLES[:1], 100, seed=1)
    assert isinstance(pack, Pack)
    assert pack.segments.unique().tolist() == [1]
