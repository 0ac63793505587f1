"""Training on 4-bit weights on a CPU: right gradients, also after an evaluation.

bitsandbytes 0.50 repacks 4-bit weights for a kernel without a backward pass when a layer in evaluation mode computes
without gradient, on CPUs with AVX512-BF16; what is trained after that is trained on other weights. Skipped where
bitsandbytes is missing: `pip install 'groundtune[qlora]'`, then `pytest tests/training/test_nf4.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config

from tests.serving.tiny_model import write_tiny_model
from tests.training.test_evaluation import make_run, settings
from training import base_model
from training.evaluation import Evaluator, load_evaluator
from training.lora import AdaptedModel
from training.packing import Pack

bitsandbytes = pytest.importorskip("bitsandbytes")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model wide enough to be repacked: blocks of 64 inputs, 32 outputs."""
    folder = write_tiny_model(tmp_path_factory.mktemp("base") / "tiny")
    old = AutoModelForCausalLM.from_pretrained(folder).config
    config = Qwen2Config(
        vocab_size=old.vocab_size, hidden_size=64, intermediate_size=128, num_hidden_layers=3,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=4096, bos_token_id=None,
        eos_token_id=old.eos_token_id, tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(2)
    made = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for weight in made.parameters():
            weight.normal_(std=0.3) if weight.ndim > 1 else weight.fill_(1.0)
    made.save_pretrained(folder)
    return folder


def gradients(model: AdaptedModel, packs: list[Pack]) -> dict[str, torch.Tensor]:
    """Return the adapter's gradient over the packs, dropout drawn from one seed."""
    torch.manual_seed(4)
    for pack in packs:
        model.loss(pack, model.trunk(pack)).backward()  # type: ignore[no-untyped-call]
    return {name: weight.grad for name, weight in model.parameters().items() if weight.grad is not None}


def randomise(model: AdaptedModel) -> None:
    with torch.no_grad():
        for number, weight in enumerate(model.parameters().values()):
            weight.normal_(std=0.1, generator=torch.Generator().manual_seed(number))


def largest_error(tmp_path: Path, base: Path, dropout: float) -> float:
    """Evaluate a 4-bit model, then compare its gradient with that of its own weights made whole beforehand."""
    run = make_run(tmp_path)
    common: dict[str, Any] = {
        "dtype": "float32", "top_layers": 2, "lora_dropout": dropout, "device": "cpu",
        "evaluation": {"generate": 1, "max_answer_tokens": 4},
    }  # fmt: skip
    config = settings(quantization="nf4", **common)
    evaluator = load_evaluator(run.dataset, AutoTokenizer.from_pretrained(base), config)
    assert isinstance(evaluator, Evaluator)
    packs = list(evaluator._packs)
    model = AdaptedModel(base, config)
    randomise(model)
    whole = {
        name.removesuffix(".base_layer"): whole_weight(module)
        for name, module in model.model.named_modules()
        if isinstance(module, bitsandbytes.nn.Linear4bit)
    }
    assert len(whole) == 3 * 7
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="sdpa")
    with torch.no_grad():
        for name, weight in whole.items():
            plain.get_submodule(name).weight.copy_(weight)
    other = AdaptedModel(plain, settings(**common))
    randomise(other)
    found = evaluator.judge(model, lambda kept, pack: model.trunk(pack))
    expected = evaluator.judge(other, lambda kept, pack: other.trunk(pack))
    errors = [abs(found.eval_loss / expected.eval_loss - 1)]
    ours, right = gradients(model, packs), gradients(other, packs)
    assert len(ours) == len(right) == 2 * 7 * 2
    scale = max(float(grad.abs().max()) for grad in right.values())
    errors += [float((ours[name] - right[name]).abs().max()) / scale for name in right]
    return max(errors)


def whole_weight(module: Any) -> torch.Tensor:
    whole: torch.Tensor = bitsandbytes.functional.dequantize_4bit(
        module.weight.data, module.weight.quant_state
    )
    return whole.clone()


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_gradients_after_an_evaluation(tmp_path: Path, base: Path, dropout: float) -> None:
    assert largest_error(tmp_path, base, dropout) < 1e-4
    assert bitsandbytes.nn.modules.has_avx512bf16() is False


@pytest.mark.skipif(
    not bitsandbytes.functional.has_avx512bf16(), reason="no AVX512-BF16: nothing is repacked"
)
def test_without_the_guard_they_are_wrong(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the guard is for; when this fails, bitsandbytes no longer needs it."""
    monkeypatch.setattr(bitsandbytes.nn.modules, "has_avx512bf16", bitsandbytes.functional.has_avx512bf16)
    monkeypatch.setattr(base_model, "require_bitsandbytes", lambda device: None)
    assert largest_error(tmp_path, base, 0.0) > 0.01
