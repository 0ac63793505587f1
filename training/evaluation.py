"""Judging an adapter on held-out rows while it is trained: loss over their answers, ROUGE-L of greedy answers.

The loss is a mean over answer tokens, not over rows or packs, and packs keep their rows apart as those of training
do, so it does not depend on how rows are packed. Neither the adapter nor any random state is changed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from data.conversations import Conversation
from data.errors import InputError
from training.base_model import uses_varlen
from training.config import TrainSection
from training.examples import encode_all
from training.held_out import held_out_conversations, score_answers
from training.lora import AdaptedModel
from training.packing import Pack, pack_examples
from training.parity.generation import Arm
from training.watch import Judgement
from training.world import World

# What the frozen lower layers make of (a pack, the same pack on the model's device).
Trunk = Callable[[Pack, Pack], torch.Tensor | None]


class Evaluator:
    """A held-out set that any state of the adapter can be judged on."""

    def __init__(
        self, packs: Sequence[Pack], questions: Sequence[Conversation], tokenizer: Any, max_answer_tokens: int
    ) -> None:
        self._packs = packs
        self._questions = questions
        self._tokenizer = tokenizer
        self._max_answer_tokens = max_answer_tokens

    def judge(self, model: AdaptedModel, trunk: Trunk) -> Judgement:
        """Judge the model's adapter as it is now."""
        started = time.monotonic()
        with model.evaluating():
            loss = self._loss(model, trunk)
            score = self._rouge_l(model) if self._questions else None
        return Judgement(loss, score, round(time.monotonic() - started, 2))

    def judge_in(self, world: World) -> Callable[[AdaptedModel, Trunk], Judgement]:
        """Return `judge` for a group: each of its processes judges, and all take what process 0 found."""

        def judge(model: AdaptedModel, trunk: Trunk) -> Judgement:
            found = self.judge(model, trunk)
            return Judgement(**json.loads(world.shared_text(json.dumps(asdict(found)))))

        return self.judge if world.size == 1 else judge

    def _loss(self, model: AdaptedModel, trunk: Trunk) -> float:
        total = torch.zeros((), device=model.device)
        for kept in self._packs:
            pack = kept.to(model.device)
            total += model.loss(pack, trunk(kept, pack))
        return float(total) / sum(len(pack.labels) for pack in self._packs)

    def _rouge_l(self, model: AdaptedModel) -> float:
        arm = Arm(model.model, model.device)
        scored = score_answers(
            self._questions,
            self._tokenizer,
            lambda prompts: arm.answer_together(prompts, self._max_answer_tokens),
        )
        return round(sum(item.rouge_l for item in scored) / len(self._questions), 2)


def load_evaluator(dataset: Path, tokenizer: Any, config: TrainSection) -> Evaluator | None:
    """Return the evaluator that the settings ask for, or None: turned off, or no held-out rows.

    Raises:
        InputError: `patience` or `generate` is set and there is nothing to judge by.
    """
    asked = config.evaluation
    rows = held_out_conversations(dataset, asked.source, asked.rows, config.styles) if asked.rows else []
    if not rows:
        for name in ("patience", "generate"):
            if getattr(asked, name):
                raise InputError(
                    f"train.evaluation.{name}: {getattr(asked, name)}, and there are no held-out rows to judge by "
                    f"(train.evaluation.rows: {asked.rows}, {dataset / asked.source}.jsonl: missing or empty); "
                    "hold rows back with `groundtune data prepare --validation 0.1`, or set "
                    "train.evaluation.source: paraphrases"
                )
        return None
    examples, _ = encode_all(rows, tokenizer, config.max_tokens)
    packs = pack_examples(examples, config.pack_tokens, config.seed, share_prefix=not uses_varlen(config))
    questions = held_out_conversations(dataset, asked.source, asked.generate, config.styles)
    return Evaluator(packs, questions, tokenizer, asked.max_answer_tokens)
