from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from tests.training.shapes import write_adapter, write_base
from training.parity.generation import Arm
from training.parity.prompts import Prompt, encode, load_tokenizer, render


def test_a_batch_answers_as_one_by_one(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", "qwen2", tied=True, dtype=torch.float32)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():  # so large that what is asked decides what is said
            parameter.normal_(std=0.6)
    model.save_pretrained(base)
    adapter = write_adapter(tmp_path / "adapter", base, std=0.5)
    tokenizer = load_tokenizer(base)
    asked = [
        ({"role": "user", "content": text},) for text in ("short", "a question of many more words", "饮食")
    ]
    prompts = [Prompt(turns, encode(tokenizer, render(tokenizer, turns))) for turns in asked]
    assert len({len(prompt.ids) for prompt in prompts}) == 3, "nothing was padded"
    arm = Arm.load(base, torch.float32, "cpu", adapter)
    alone = [arm.answer(prompt, 12).ids for prompt in prompts]
    assert len(set(alone)) > 1, "the model says the same to everything"
    together = arm.answer_together(prompts, 12)
    assert [ids[: len(one)] for ids, one in zip(together, alone, strict=True)] == alone
