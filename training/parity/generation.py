"""One arm of the check: a model that answers prompts greedily, and its logits along given answers.

One of the files that import peft: the adapter is run here by PEFT itself, not by what trained it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, GenerationConfig

from training.parity.prompts import Prompt


@dataclass(frozen=True)
class Greedy:
    """A greedy answer: its token ids, and at each of them by how much the first logit exceeded the second."""

    ids: tuple[int, ...]
    margins: tuple[float, ...]


@dataclass(frozen=True)
class LogitDistance:
    """Two arms' logits along the same tokens: KL(first || second) in nats a token, and the largest difference."""

    max_abs: float
    mean_kl: float
    max_kl: float


class Arm:
    """A model that answers; one that is being trained answers in the state that it is in."""

    def __init__(self, model: Any, device: torch.device | str) -> None:
        """Take a causal language model that lies on `device` and is in evaluation mode."""
        self._model = model
        self._device = device
        ends = model.generation_config.eos_token_id
        # A folder's own generation config may hold a repetition penalty, which greedy decoding would follow.
        self._settings: dict[str, Any] = {
            "do_sample": False,
            "eos_token_id": ends,
            "pad_token_id": ends[0] if isinstance(ends, list) else ends,
        }
        make: Any = GenerationConfig  # its constructor has no types
        model.generation_config = make(**self._settings)

    @classmethod
    def load(cls, folder: Path, dtype: torch.dtype, device: str, adapter: Path | None = None) -> Arm:
        """Load a model folder, with an adapter run on top of it where one is given."""
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, attn_implementation="sdpa", use_safetensors=True, local_files_only=True
        )
        if adapter is not None:
            with warnings.catch_warnings():
                # peft 0.21 asks transformers 5 by a name that the latter has renamed; nothing a user could do.
                warnings.filterwarnings("ignore", ".is_gradient_checkpointing. is deprecated", FutureWarning)
                model = PeftModel.from_pretrained(model, str(adapter))
        arm = cls(model.to(device).eval(), device)
        if adapter is not None:
            model.base_model.model.generation_config = model.generation_config
        return arm

    @torch.inference_mode()
    def answer(self, prompt: Prompt, max_tokens: int) -> Greedy:
        """Generate at most `max_tokens`."""
        given = torch.tensor([prompt.ids], device=self._device)
        make: Any = GenerationConfig
        out = self._model.generate(
            input_ids=given,
            attention_mask=torch.ones_like(given),
            generation_config=make(
                **self._settings, max_new_tokens=max_tokens, return_dict_in_generate=True, output_logits=True
            ),
        )
        ids = out.sequences[0, len(prompt.ids) :].tolist()
        tops = [step[0].float().topk(2).values for step in out.logits]
        return Greedy(tuple(ids), tuple(float(top[0] - top[1]) for top in tops))

    @torch.inference_mode()
    def answer_together(self, prompts: Sequence[Prompt], max_tokens: int) -> list[tuple[int, ...]]:
        """Generate at most `max_tokens` for all prompts in one batch: many times faster than one by one.

        The last bits of the arithmetic are not those of `answer`, so it is for judging answers, not arithmetic.
        """
        width = max(len(prompt.ids) for prompt in prompts)
        pad = self._settings["pad_token_id"]
        ids = [[pad] * (width - len(prompt.ids)) + list(prompt.ids) for prompt in prompts]
        mask = [[0] * (width - len(prompt.ids)) + [1] * len(prompt.ids) for prompt in prompts]
        make: Any = GenerationConfig
        out = self._model.generate(
            input_ids=torch.tensor(ids, device=self._device),
            attention_mask=torch.tensor(mask, device=self._device),
            generation_config=make(**self._settings, max_new_tokens=max_tokens),
        )
        return [tuple(row) for row in out[:, width:].tolist()]

    @torch.inference_mode()
    def logits(self, prompt: Prompt, answer: Sequence[int]) -> torch.Tensor:
        """Return the logits (T, V), on the CPU and in the model's dtype, that predict each token of `answer`."""
        given = torch.tensor([[*prompt.ids, *answer[:-1]]], device=self._device)
        out = self._model(input_ids=given, logits_to_keep=len(answer), use_cache=False)
        rows: torch.Tensor = out.logits[0].cpu()
        return rows


def answers_of(
    arm: Arm, prompts: Sequence[Prompt], max_tokens: int, advance: Callable[[], None]
) -> list[Greedy]:
    """Answer one prompt after the other: a batch would change the arithmetic's last bits."""
    made = []
    for prompt in prompts:
        made.append(arm.answer(prompt, max_tokens))
        advance()
    return made


def logit_distance(first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]) -> LogitDistance:
    """Return the distance over all prompts; each pair has the same shape (T, V)."""
    largest, divergences = 0.0, []
    for one, two in zip(first, second, strict=True):
        one, two = one.float(), two.float()
        largest = max(largest, float((one - two).abs().max()))
        log_p, log_q = one.log_softmax(-1), two.log_softmax(-1)
        divergences.append((log_p.exp() * (log_p - log_q)).sum(-1))
    all_of = torch.cat(divergences)
    return LogitDistance(largest, float(all_of.mean()), float(all_of.max()))
