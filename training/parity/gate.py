"""The parity gate: is what is served what was trained?

First what can be read from the files: they are whole, of one lineage, and the merged weights are base + s·B·A.
Only then the models answer: adapter on base (PEFT's own), merged folder, and served API.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from data.errors import InputError
from training.parity.agreement import Agreement, agreement, share_in_agreement, text_agreement
from training.parity.findings import Fault, by_rank
from training.parity.folders import Folders, broken_files, lineage_faults
from training.parity.generation import Arm, Greedy, LogitDistance, answers_of, logit_distance
from training.parity.prompts import (
    Prompt,
    count_faults,
    encode,
    held_out_messages,
    load_tokenizer,
    prompt_faults,
    render,
)
from training.parity.served import ServedAnswer, ask_served
from training.parity.tensors import compare_tensors, facts_of

Advance = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Limits:
    """What the gate lets pass.

    Attributes:
        margin: Two logits closer than this are a near-tie, which rounding may decide either way.
        mean_kl: Most KL divergence between adapter-on-base and merged model, nats a token.
        min_agree: Least share of prompts that agree over the compared tokens or part at a near-tie.
    """

    margin: float = 0.5
    mean_kl: float = 0.02
    min_agree: float = 0.9


@dataclass(frozen=True)
class Request:
    """What to check: `num_prompts` held-out questions, `max_tokens` of each answer, on `device`.

    `url` ends in /v1; None leaves the served arm out.
    """

    folders: Folders
    dataset: Path
    num_prompts: int
    max_tokens: int
    device: str
    limits: Limits
    url: str | None = None
    model: str = "tuned"


@dataclass
class Findings:
    """What the check has found so far; written to parity.json whole."""

    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    tensors: dict[str, Any] = field(default_factory=dict)
    logits: LogitDistance | None = None
    prompts: list[dict[str, Any]] = field(default_factory=list)
    arms: dict[str, dict[str, Any]] = field(default_factory=dict)

    def report(self, request: Request) -> dict[str, Any]:
        """Return parity.json's content."""
        faults = by_rank(self.faults)
        return {
            "passed": not faults,
            "cause": faults[0].cause if faults else None,
            "faults": [asdict(fault) for fault in faults],
            "notes": self.notes,
            "num_prompts": request.num_prompts,
            "max_tokens": request.max_tokens,
            "device": request.device,
            "limits": asdict(request.limits),
            "tensors": self.tensors,
            "logits": asdict(self.logits) if self.logits else None,
            "arms": self.arms,
            "prompts": self.prompts,
            "versions": {name: version(name) for name in ("torch", "transformers", "peft")},
        }


def check_parity(request: Request, advance: Advance) -> dict[str, Any]:
    """Run the gate and return its report; stops before loading a model where the files already fail.

    Raises:
        InputError: there is no dataset to ask from.
        GroundTuneError: the API does not answer.
    """
    found = Findings()
    folders = request.folders
    turns = held_out_messages(request.dataset, request.num_prompts)
    found.faults += broken_files(folders)
    if found.faults:
        return found.report(request)
    tensors = compare_tensors(
        folders.base, folders.adapter, folders.merged, lambda done, of: advance("tensors", done, of)
    )
    found.tensors = dict(facts_of(tensors))
    found.faults += lineage_faults(folders, tensors)
    try:
        base, merged = load_tokenizer(folders.base), load_tokenizer(folders.merged)
    except InputError as error:
        found.faults.append(Fault("tokenizer", str(error)))
        return found.report(request)
    found.faults += prompt_faults(base, merged, turns, _positions(folders.merged), request.max_tokens)
    if found.faults:
        found.notes.append("no model was asked: the files alone fail the gate")
        return found.report(request)
    prompts = [Prompt(messages, encode(base, render(base, messages))) for messages in turns]
    answers = _local_arms(request, prompts, found, advance)
    if request.url is None:
        found.notes.append(
            "the served arm was left out: no --url, and no server of this run is up (`groundtune serve`)"
        )
    else:
        served = ask_served(
            request.url, request.model, prompts, request.max_tokens, _counted("served", prompts, advance)
        )
        _judge_served(request, prompts, answers, served, merged, found)
    return found.report(request)


def _positions(folder: Path) -> int:
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    return int(getattr(config, "max_position_embeddings", None) or 1 << 30)


def _counted(stage: str, prompts: Sequence[Prompt], advance: Advance) -> Callable[[], None]:
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        advance(stage, done, len(prompts))

    return step


def _local_arms(
    request: Request, prompts: Sequence[Prompt], found: Findings, advance: Advance
) -> list[Greedy]:
    """Compare adapter-on-base with the merged model; returns the merged model's answers."""
    folders, limits = request.folders, request.limits
    dtype = AutoConfig.from_pretrained(folders.merged, local_files_only=True).dtype or torch.bfloat16
    arm = Arm.load(folders.base, dtype, request.device, folders.adapter)
    adapted = answers_of(arm, prompts, request.max_tokens, _counted("adapter on base", prompts, advance))
    wanted = [arm.logits(prompt, one.ids) for prompt, one in zip(prompts, adapted, strict=True)]
    del arm
    gc.collect()  # one model at a time: both may not fit
    arm = Arm.load(folders.merged, dtype, request.device)
    merged = answers_of(arm, prompts, request.max_tokens, _counted("merged", prompts, advance))
    found.logits = logit_distance(
        wanted, [arm.logits(prompt, one.ids) for prompt, one in zip(prompts, adapted, strict=True)]
    )
    pairs = [agreement(one, two.ids, limits.margin) for one, two in zip(adapted, merged, strict=True)]
    found.arms["merged"] = _summary("adapter on base", pairs)
    found.prompts = [
        {"question": prompt.question, "prompt_tokens": len(prompt.ids), "ids": list(one.ids),
         "merged_ids": list(two.ids), "merged": asdict(pair)}
        for prompt, one, two, pair in zip(prompts, adapted, merged, pairs, strict=True)
    ]  # fmt: skip
    if not found.logits.mean_kl <= limits.mean_kl:  # also where it is not a number
        found.faults.append(
            Fault(
                "logits",
                f"KL {found.logits.mean_kl:.4f} nats a token between adapter-on-base and merged model, more than "
                f"{limits.mean_kl}",
            )
        )
    if share_in_agreement(pairs) < limits.min_agree:
        found.faults.append(Fault("tokens", _parted("the merged model", pairs, limits)))
    return merged


def _judge_served(
    request: Request,
    prompts: Sequence[Prompt],
    answers: Sequence[Greedy],
    served: Sequence[ServedAnswer],
    tokenizer: Any,
    found: Findings,
) -> None:
    limits = request.limits

    def decode(ids: Sequence[int]) -> str:
        return str(tokenizer.decode(list(ids), skip_special_tokens=True))

    counts = [item.num_prompt_tokens for item in served]
    if any(count is None for count in counts):
        found.notes.append("the API reports no prompt_tokens: its prompts were not compared")
    else:
        found.faults += count_faults(prompts, [count for count in counts if count is not None])
    other = [
        prompt.question
        for prompt, item in zip(prompts, served, strict=True)
        if item.prompt_ids is not None and item.prompt_ids != prompt.ids
    ]
    if other and not any(fault.cause in ("template", "truncation") for fault in found.faults):
        found.faults.append(Fault("template", f"the API reads other token ids for {other[0]!r}"))
    pairs = [
        agreement(one, item.ids, limits.margin)
        if item.ids is not None
        else text_agreement(one, item.text, decode, limits.margin)
        for one, item in zip(answers, served, strict=True)
    ]
    found.arms["served"] = {
        **_summary("merged", pairs),
        "model": request.model,
        "token_ids": all(item.ids is not None for item in served),
        "prompt_tokens": counts,
    }
    for entry, item, pair in zip(found.prompts, served, pairs, strict=True):
        entry |= {"served_text": item.text, "served": asdict(pair)}
    if share_in_agreement(pairs) < limits.min_agree:
        found.faults.append(
            Fault(
                "served",
                _parted(f"model {request.model!r} of the API", pairs, limits) + ": it serves other weights",
            )
        )


def _summary(reference: str, pairs: Sequence[Agreement]) -> dict[str, Any]:
    return {
        "compared_with": reference,
        "num_same": sum(pair.same for pair in pairs),
        "num_near_ties": sum(pair.near_tie for pair in pairs),
        "num_parted": sum(not pair.same and not pair.near_tie for pair in pairs),
    }


def _parted(who: str, pairs: Sequence[Agreement], limits: Limits) -> str:
    real = [pair for pair in pairs if not pair.same and not pair.near_tie]
    first = min(pair.parted_at for pair in real if pair.parted_at is not None)
    return (
        f"{who} parts from the reference in {len(real)} of {len(pairs)} prompts where the next token was clear "
        f"(margin above {limits.margin}; first at token {first}); --min-agree is {limits.min_agree}"
    )
