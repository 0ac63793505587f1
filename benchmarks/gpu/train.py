"""Training a 7B shape with LoRA and QLoRA: tokens a second and FLOP utilisation against plain transformers + PEFT.

    python -m benchmarks.gpu.train --out $OUT/train.json                  on an H100, under 8 minutes
    python -m benchmarks.gpu.train --shape tiny --out var/bench/t.json    rehearsal on a CPU

Needs peft, pydantic, and, for the arms that use them, liger-kernel and bitsandbytes; each arm is a process of its
own, so that one which fails takes nothing along. Weights and tokens are random: only speed is asked. Rows are
short questions and answers, log-normal lengths of mean 150 tokens (16 to 1024), the answer 60% of a row.

FLOPs of a useful token (padding and recomputation count nothing): 4 N + 6 N_lora + 4 V D (labels / tokens)
+ 6 L D (sum of s^2 / tokens), N the layers' frozen weights (forward and the gradient by the input), N_lora the
adapters', V D the output matrix for tokens that predict a label, s a row's length (causal attention, forward and
twice that backward). Utilisation is over 989.4e12 a second, an H100's dense bfloat16.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.train_inputs import padded_packs, random_model, row_lengths, rows_of
from benchmarks.machine import describe_machine

PEAK_FLOPS = 989.4e12
SHAPES: dict[str, dict[str, int]] = {
    "7b": {
        "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 32, "vocab_size": 32000,
    },
    "tiny": {
        "hidden_size": 64, "intermediate_size": 172, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 4, "vocab_size": 512,
    },
}  # fmt: skip
# In the order of what matters most, should the time run out. `like` says how an arm differs from the default.
ARMS: dict[str, dict[str, Any]] = {
    "default": {},
    "plain": {"plain": True},
    "qlora": {"quantization": "nf4"},
    "qlora-plain": {"plain": True, "quantization": "nf4"},
    "no-packing": {"padded": True},
    "full-logits": {"full_logits": True},
    "no-liger": {"liger": False},
    "checkpointing": {"gradient_checkpointing": True},
    "pack-4096": {"pack_tokens": 4096},
    "plain-batch-32": {"plain": True, "batch": 32},
}


def main() -> int:
    """Run every arm in a process of its own, or one arm, and write what came of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="7b")
    parser.add_argument("--arms", nargs="+", choices=sorted(ARMS), default=list(ARMS))
    parser.add_argument(
        "--steps", type=int, default=8, help="optimizer steps an arm; the first three warm up"
    )
    parser.add_argument("--pack-tokens", type=int, default=8192)
    parser.add_argument("--budget-s", type=float, default=440.0, help="no arm is begun after this")
    parser.add_argument("--arm", choices=sorted(ARMS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm:
        options.out.write_text(json.dumps(run_arm(options)), encoding="utf-8")
        return 0
    started = time.monotonic()
    result: dict[str, Any] = {
        "what": "LoRA and QLoRA training speed; random weights, short rows",
        "command": "python -m benchmarks.gpu.train " + " ".join(sys.argv[1:]),
        **describe_machine(("torch", "transformers", "peft", "liger-kernel", "bitsandbytes")),
        "shape": SHAPES[options.shape],
        "peak_flops": PEAK_FLOPS,
        "formula": (__doc__ or "").split("\n\n")[-1].strip(),
        "arms": {},
    }
    for arm in options.arms:
        left = options.budget_s - (time.monotonic() - started)
        result["arms"][arm] = child(arm, options, left) if left > 0 else {"skipped": "time spent"}
        print(json.dumps({"arm": arm, **result["arms"][arm]}), flush=True)
        result["ratios"] = ratios(result["arms"])
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result["ratios"]), flush=True)
    return 0 if "useful_tokens_per_s" in result["arms"].get(options.arms[0], {}) else 1


def child(arm: str, options: argparse.Namespace, left_s: float) -> dict[str, Any]:
    """Run one arm in its own process; returns its figures or how it failed."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "arm.json"
        command = [sys.executable, "-m", "benchmarks.gpu.train", "--arm", arm, "--out", str(out)]
        command += ["--shape", options.shape, "--steps", str(options.steps)]
        command += ["--pack-tokens", str(options.pack_tokens)]
        try:
            done = subprocess.run(
                command, check=False, capture_output=True, text=True, timeout=min(90.0, left_s + 20)
            )
        except subprocess.TimeoutExpired:
            return {"failed": "took more than 90 s"}
        if done.returncode or not out.exists():
            return {"failed": done.stderr.strip()[-1500:] or f"exit status {done.returncode}"}
        figures: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        return figures


def ratios(arms: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Return useful tokens a second of each pair that was measured."""
    rate = {name: item["useful_tokens_per_s"] for name, item in arms.items() if "useful_tokens_per_s" in item}
    pairs = [("default", other) for other in rate if other not in ("default", "qlora", "qlora-plain")]
    pairs += [("qlora", "qlora-plain"), ("qlora", "default")]
    return {f"{a} / {b}": round(rate[a] / rate[b], 3) for a, b in pairs if a in rate and b in rate}


def run_arm(options: argparse.Namespace) -> dict[str, Any]:
    """Build the model, train some steps, and return rates from the steps after the warm-up."""
    import torch

    from training.examples import Example

    settings = dict(ARMS[options.arm])
    size = settings.pop("pack_tokens", options.pack_tokens)
    batch = settings.pop("batch", 8)
    is_plain = settings.pop("plain", False)
    tokens_a_step = batch * 150 if is_plain else size
    chance = random.Random(5)
    rows = [
        Example(
            tuple(chance.randrange(SHAPES[options.shape]["vocab_size"]) for _ in range(length)),
            max(1, round(0.6 * length)),
            was_cut=False,
        )
        for length in row_lengths(options.steps * tokens_a_step // 150 + 1, seed=7)
    ]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = random_model(SHAPES[options.shape], device, settings.get("quantization"))
    run = run_plain if is_plain else run_ours
    extra: dict[str, Any] = {"batch": batch} if is_plain else {"pack_tokens": size}
    times, counted, losses, facts = run(model, rows, options.steps, settings, **extra)
    skipped = min(3, len(times) - 1)
    spent = sum(times[skipped:])
    members = [row for step in counted[skipped:] for row in step]
    useful = sum(len(row.ids) for row in members)
    flops = useful_flops(SHAPES[options.shape], members)
    return {
        **extra,
        **facts,
        "settings": settings,
        "steps_timed": len(times) - skipped,
        "useful_tokens": useful,
        "useful_tokens_per_s": round(useful / spent, 1),
        "model_flop_utilisation": round(flops / spent / PEAK_FLOPS, 4),
        "step_s": [round(item, 4) for item in times],
        "losses": [round(item, 4) for item in losses],
        "peak_memory_bytes": torch.cuda.max_memory_allocated() if device.type == "cuda" else None,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
    }


def useful_flops(shape: dict[str, int], rows: Sequence[Any], rank: int = 16) -> float:
    """Return the model FLOPs of a forward and backward pass of these rows (formula: see the module)."""
    hidden, inner, layers = shape["hidden_size"], shape["intermediate_size"], shape["num_hidden_layers"]
    frozen = layers * (4 * hidden * hidden + 3 * hidden * inner)
    lora = layers * rank * (4 * 2 * hidden + 3 * (hidden + inner))
    tokens = sum(len(row.ids) for row in rows)
    labels = sum(row.num_labels for row in rows)
    squares = sum(len(row.ids) ** 2 for row in rows)
    head = 4 * shape["vocab_size"] * hidden * labels
    return float((4 * frozen + 6 * lora) * tokens + head + 6 * layers * hidden * squares)


def run_ours(
    model: Any, rows: Sequence[Any], steps: int, settings: dict[str, Any], pack_tokens: int
) -> tuple[list[float], list[list[Any]], list[float], dict[str, Any]]:
    """Train through training.trainer as `groundtune train run` does."""
    from training.checkpoint import StepMetrics
    from training.config import TrainSection
    from training.lora import AdaptedModel
    from training.packing import pack_examples
    from training.schedule import plan_steps
    from training.trainer import train

    settings = dict(settings)
    is_padded, has_full_logits = settings.pop("padded", False), settings.pop("full_logits", False)
    config = TrainSection(
        top_layers=None, epochs=1, max_train_tokens=None, pack_tokens=pack_tokens, learning_rate=1e-4,
        checkpoint_every_s=1e9, attention="varlen", **settings,
    )  # fmt: skip
    adapted = AdaptedModel(model, config)
    packs: list[Any]
    if is_padded:
        packs = padded_packs(rows, pack_tokens)
    else:
        packs = pack_examples(rows, pack_tokens, config.seed, share_prefix=False)
    packs = packs[:steps]
    if has_full_logits:
        adapted.loss = lambda pack, trunk: full_logits_loss(adapted, pack, trunk)  # type: ignore[method-assign]
    ends: list[float] = [time.perf_counter()]
    losses: list[float] = []

    def on_step(metrics: StepMetrics, _: int) -> None:
        ends.append(time.perf_counter())
        losses.append(metrics.loss)

    with tempfile.TemporaryDirectory() as folder:
        train(adapted, packs, config, Path(folder) / "c", {"bench": "1"}, on_step)
    planned = plan_steps([pack.num_tokens for pack in packs], config)
    members = [[row for place in step.packs for row in rows_of(packs[place])] for step in planned]
    facts = {
        "fused_lora": not adapted.needs_autocast,
        "liger": adapted.has_liger,
        "checkpointing_used": adapted.is_checkpointing,
        "tokens_a_pass": round(sum(pack.num_tokens for pack in packs) / len(packs)),
    }
    return [b - a for a, b in itertools.pairwise(ends)], members, losses, facts


def full_logits_loss(adapted: Any, pack: Any, trunk: Any) -> Any:
    """The same loss through logits of every token, as a model's own forward pass makes them."""
    import torch
    from torch.nn import functional

    hidden = adapted._decode(pack, inputs_embeds=trunk)[0]
    labels = torch.full((hidden.shape[0],), -100, device=hidden.device)
    labels[pack.predicting] = pack.labels
    logits = adapted.head(hidden).float()
    return functional.cross_entropy(logits, labels, ignore_index=-100, reduction="sum")


def run_plain(
    model: Any, rows: Sequence[Any], steps: int, settings: dict[str, Any], batch: int
) -> tuple[list[float], list[list[Any]], list[float], dict[str, Any]]:
    """The loop that tutorials write: PEFT's own forward, padding, full logits, gradient checkpointing, bfloat16."""
    import torch
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    from training.config import TrainSection

    model.set_attn_implementation("sdpa")
    if settings.get("quantization"):
        prepare: Any = prepare_model_for_kbit_training
        model = prepare(model, use_gradient_checkpointing=False)
    lora = LoraConfig(
        r=16, lora_alpha=32, task_type="CAUSAL_LM", target_modules=list(TrainSection().target_modules)
    )
    adapted = get_peft_model(model, lora)
    adapted.gradient_checkpointing_enable({"use_reentrant": False})
    adapted.enable_input_require_grads()
    adapted.train()
    device = next(model.parameters()).device
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=1e-4)
    times: list[float] = []
    losses: list[float] = []
    groups = [list(rows[n * batch : (n + 1) * batch]) for n in range(steps)]
    groups = [group for group in groups if group]
    for group in groups:
        started = time.perf_counter()
        width = max(len(row.ids) for row in group)
        ids = torch.zeros((len(group), width), dtype=torch.long)
        mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
        for place, row in enumerate(group):
            length = len(row.ids)
            ids[place, :length] = torch.tensor(row.ids)
            mask[place, :length] = 1
            labels[place, length - row.num_labels : length] = torch.tensor(row.ids[-row.num_labels :])
        with torch.autocast(device.type, dtype=torch.bfloat16):
            made = adapted(input_ids=ids.to(device), attention_mask=mask.to(device), labels=labels.to(device))
        made.loss.backward()
        torch.nn.utils.clip_grad_norm_(adapted.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(made.loss.detach()))
        times.append(time.perf_counter() - started)
    return times, groups, losses, {"liger": False, "checkpointing_used": True}


if __name__ == "__main__":
    sys.exit(main())
