"""Adapts an embedding model to how people ask, and keeps the difference as a patch of low rank.

    python -m benchmarks.adapt.learn PREPARED.safetensors --out PATCH.safetensors

Pairs are what benchmarks.adapt.prepare packed: a person's question with its row (the mean of title and answer, as
`rag index` has it), and a row's own question with its answer alone, so that short questions are learned without their
copy. The loss is InfoNCE over the batch both ways (van den Oord et al. 2018); rows that are nearly the same are no
negatives of one another; of a quarter of the pairs, batches hold rows of like subjects. A second term keeps the
vectors near those of the model before. Of what was learned the patch holds `--strength` (Wortsman et al. 2022: between
the weights before and after lies a model that is better at what it knew), each matrix in `--rank` dimensions.
Needs PyTorch, NumPy and safetensors, no other part of GroundTune; half a minute on a data centre's GPU.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn import functional

from benchmarks.adapt.encoder import Encoder, embed
from benchmarks.machine import describe_machine

_SAME_ROW = 0.97
_SHARE_BACKWARD = 0.2
_WARM_UP = 0.1
_LEAST_RATE = 0.02


@dataclass(frozen=True)
class Pair:
    """A question and the row to be found: texts in tokens; the row's subject; its place.

    `title` is the answer once more where the row's question is hidden.
    """

    question: torch.Tensor
    title: torch.Tensor
    answer: torch.Tensor
    subject: int
    row: int


def read_prepared(path: Path) -> tuple[list[Pair], dict[str, torch.Tensor], dict[str, str]]:
    """Return the pairs, the encoder's weights, and what the file says of itself."""
    with safe_open(path, "pt") as file:
        facts = dict(file.metadata())
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping

    def texts(name: str) -> list[torch.Tensor]:
        return list(tensors[f"{name}.tokens"].long().split(tensors[f"{name}.lengths"].tolist()))

    titles, answers, own, asked = (texts(name) for name in ("titles", "answers", "own", "asked"))
    subjects = tensors["subjects"].tolist()
    pairs = [
        Pair(question, titles[row], answers[row], subjects[row], row)
        for question, row in zip(asked, tensors["asked.rows"].tolist(), strict=True)
    ]
    pairs += [Pair(own[row], answers[row], answers[row], subjects[row], row) for row in range(len(own))]
    weights = {
        name.removeprefix("encoder."): tensor
        for name, tensor in tensors.items()
        if name.startswith("encoder.")
    }
    return pairs, weights, facts


def batches(pairs: Sequence[Pair], size: int, like: float, rng: random.Random) -> list[list[Pair]]:
    """Return an epoch's batches; of a share `like` of the pairs, subject beside subject."""
    order = rng.sample(range(len(pairs)), len(pairs))
    cut = int(len(order) * like)
    by_subject = sorted(order[:cut], key=lambda place: (pairs[place].subject, rng.random()))
    found = [
        [pairs[place] for place in some[start : start + size]]
        for some in (by_subject, order[cut:])
        for start in range(0, len(some), size)
    ]
    rng.shuffle(found)
    return [batch for batch in found if len(batch) >= size // 2]


def loss_of(
    encoder: Encoder, before: Encoder, batch: Sequence[Pair], options: argparse.Namespace
) -> torch.Tensor:
    """Return the loss of a batch, a scalar."""

    def vectors(model: Encoder) -> tuple[torch.Tensor, torch.Tensor]:
        questions, titles, answers = (
            embed(model, [getattr(pair, part) for pair in batch], options.device)
            for part in ("question", "title", "answer")
        )
        return questions, functional.normalize(titles + answers, dim=-1)

    questions, rows = vectors(encoder)
    places = torch.tensor([pair.row for pair in batch], device=options.device)
    with torch.no_grad():
        same = (places[:, None] == places) | (rows @ rows.T > _SAME_ROW)
        same.fill_diagonal_(False)
        old_questions, old_rows = vectors(before)
    scores = (questions @ rows.T / options.temperature).masked_fill(same, -1e4)
    right = torch.arange(len(batch), device=options.device)
    found = functional.cross_entropy(scores, right)
    found = found + _SHARE_BACKWARD * functional.cross_entropy(scores.T, right)
    moved = (1 - (questions * old_questions).sum(-1)).mean() + (1 - (rows * old_rows).sum(-1)).mean()
    total: torch.Tensor = found + options.keep * moved
    return total


def learn(
    pairs: Sequence[Pair], weights: Mapping[str, torch.Tensor], num_heads: int, options: argparse.Namespace
) -> Encoder:
    """Return the encoder after `--epochs` of AdamW, its rate rising and then falling in a straight line."""
    torch.manual_seed(options.seed)
    rng = random.Random(options.seed)
    encoder = Encoder(weights, num_heads, options.dropout, options.device).train()
    before = Encoder(weights, num_heads, 0.0, options.device).eval()
    optimiser = torch.optim.AdamW(encoder.parameters(), options.rate, betas=(0.9, 0.98), weight_decay=0.0)
    num_steps = options.epochs * max(1, len(pairs) // options.batch)
    for step, batch in enumerate(_all_batches(pairs, options, rng)):
        rate = min(1.0, (step + 1) / (_WARM_UP * num_steps)) * max(_LEAST_RATE, 1 - step / (num_steps + 1))
        for group in optimiser.param_groups:
            group["lr"] = options.rate * rate
        loss = loss_of(encoder, before, batch, options)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimiser.step()
        if step % 20 == 0:
            print(f"step {step} of {num_steps}, loss {loss.item():.3f}", flush=True)
    return encoder


def _all_batches(
    pairs: Sequence[Pair], options: argparse.Namespace, rng: random.Random
) -> Iterator[list[Pair]]:
    for _ in range(options.epochs):
        yield from batches(pairs, options.batch, options.like, rng)


def patch_of(
    before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor], strength: float, rank: int
) -> dict[str, torch.Tensor]:
    """Return what is added to each tensor: NAME.left (rows, rank) and NAME.right (rank, columns), or NAME.added."""
    patch = {}
    for name, tensor in after.items():
        moved = strength * (tensor - before[name].float().to(tensor.device))
        if moved.ndim == 2:
            left, sizes, right = torch.linalg.svd(moved, full_matrices=False)
            roots = sizes[:rank].sqrt()
            patch[f"{name}.left"] = (left[:, :rank] * roots).half().cpu().contiguous()
            patch[f"{name}.right"] = (roots[:, None] * right[:rank]).half().cpu().contiguous()
        else:
            patch[f"{name}.added"] = moved.half().cpu().contiguous()
    return patch


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch", type=int, default=128, help="pairs")
    parser.add_argument("--rate", type=float, default=5e-5)
    parser.add_argument("--temperature", type=float, default=0.01)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--like", type=float, default=0.25, help="share of pairs in batches of like subjects")
    parser.add_argument("--keep", type=float, default=1.0, help="weight of staying near the model before")
    parser.add_argument("--strength", type=float, default=0.8, help="share of what was learned")
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(argv)

    started = time.monotonic()
    pairs, weights, facts = read_prepared(options.prepared)
    encoder = learn(pairs, weights, int(facts["num_heads"]), options)
    patch = patch_of(weights, encoder.learned(), options.strength, options.rank)
    settings = {name: value for name, value in vars(options).items() if name not in ("prepared", "out")}
    made = {
        "what": "added to the weights of an embedding model, so that it finds rows by people's own questions",
        **describe_machine(("torch", "numpy")),
        "gpu": torch.cuda.get_device_name() if options.device == "cuda" else "none",
        "learned_from": facts,
        "num_pairs": len(pairs),
        "seconds": round(time.monotonic() - started, 1),
        "settings": settings,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    beside = options.out.with_suffix(".part")
    save_file(patch, beside, {"made": json.dumps(made, ensure_ascii=False)})
    beside.replace(options.out)
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB, {made['seconds']} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
