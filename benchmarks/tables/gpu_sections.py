"""What results from a GPU say. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from benchmarks.tables.shape import Result, Section, table

_ARMS = {"direct": "TurboMind alone", "gateway": "through the gateway", "tuned": "alone, tuned"}


def _levels(result: Result, arm: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = result["steps"].get(arm, {})
    return {} if "error" in found or "skipped" in found else found


def _serving_lines(shape: str, result: Result) -> list[tuple[str, str]]:
    direct, through = _levels(result, "direct"), _levels(result, "gateway")
    tuned = _levels(result, "tuned")
    lines = []
    # Of the GQA shape the gateway was measured again, turn about (h200/gateway).
    if through and shape != _GQA:
        closed = [label for label in through if label.endswith("at once")]
        shares = [through[at]["output_tokens_per_s"] / direct[at]["output_tokens_per_s"] for at in closed]
        added = through["1 at once"]["ttft_ms"]["p50"] - direct["1 at once"]["ttft_ms"]["p50"]
        lines.append(
            (
                f"the gateway in front of TurboMind, {result['machine']['gpu']}, {shape}",
                f"{100 * min(shares):.1f} to {100 * max(shares):.1f}% of its own throughput; first token "
                f"{added:+.1f} ms for a lone request",
            )
        )
    if tuned:
        most = max(found["output_tokens_per_s"] for found in direct.values())
        best = max(found["output_tokens_per_s"] for found in tuned.values())
        lines.append(
            (
                "prefix caching, 8-bit keys and values, 256 at once in a batch, against LMDeploy's defaults; "
                f"{shape}",
                f"{best:,.0f} output tokens a second; {most:,.0f}",
            )
        )
    return lines


def _serving_body(result: Result) -> str:
    rows = [
        (
            title,
            label,
            f"{found['output_tokens_per_s']:,.0f}",
            f"{found['ttft_ms']['p50']:.0f} / {found['ttft_ms']['p99']:.0f}",
            f"{found['tpot_ms']['p50']:.1f}",
            f"{found['goodput_per_s']:.1f}",
        )
        for arm, title in _ARMS.items()
        for label, found in _levels(result, arm).items()
    ]
    head = (
        *("", "load", "output tokens/s", "TTFT p50 / p99 (ms)", "TPOT p50 (ms)"),
        "requests/s with TTFT within 500 ms",
    )
    firsts = [
        (title, *(f"{value:.1f}" for value in found.values()))
        for step, title in (("shared prefix", "defaults"), ("tuned, shared prefix", "tuned"))
        if (found := _levels(result, step))
    ]
    size = result["steps"]["model"]["size_bytes"]
    return "\n\n".join(
        [
            f"{result['machine']['gpu']}; random weights ({size / 1e9:.1f} GB, bf16): speed, not meaning. About 700 "
            "tokens in (instructions, three rows of the sample workbook, a question), 150 out. The rows differ from "
            "request to request, so that only the instructions are a shared prefix.",
            table(head, rows),
            "First token of a lone request, median (ms):",
            table(("", "cold", "same prompt again", "rows in another order"), firsts),
        ]
    )


_TRAINED = {
    "default": "the default: packed to 8,192, LoRA fused, liger kernels",
    "full-logits": "logits of every token",
    "no-liger": "without liger kernels (which needs gradient checkpointing for memory)",
    "checkpointing": "with gradient checkpointing",
    "no-packing": "padded, not packed",
    "pack-4096": "packed to 4,096",
    "plain": "plain transformers + PEFT, batches of 8",
    "plain-batch-32": "plain transformers + PEFT, batches of 32",
    "qlora": "the default in QLoRA (NF4)",
    "qlora-plain": "plain transformers + PEFT in QLoRA, batches of 8",
}


def _train_lines(result: Result) -> list[tuple[str, str]]:
    arms, ratios = result["arms"], result["ratios"]
    default = arms["default"]
    return [
        (
            f"LoRA training of a 7B shape, bf16, {default['device']}, rows of about 150 tokens",
            f"{default['useful_tokens_per_s']:,.0f} useful tokens a second, "
            f"{100 * default['model_flop_utilisation']:.0f}% of the card's FLOPs; plain transformers + PEFT: a "
            f"{ratios['default / plain']:.0f}th in batches of 8, an {ratios['default / plain-batch-32']:.0f}th of 32",
        )
    ]


def _train_body(result: Result) -> str:
    rows = [
        (title, *(("out of memory or failed", "", "") if "failed" in arm else _trained(arm)))
        for name, title in _TRAINED.items()
        if (arm := result["arms"].get(name))
    ]
    head = ("", "useful tokens/s", "model FLOP utilisation", "peak memory (GB)")
    return (
        "Random weights and tokens (rows log-normal, mean 150, longest 1,024 tokens), every linear layer adapted, "
        "five steps timed after three. FLOPs that padding and recomputation take count nothing. The plain arms pad "
        "and checkpoint, as tutorials do.\n\n" + table(head, rows)
    )


def _trained(arm: Mapping[str, Any]) -> tuple[str, str, str]:
    return (
        f"{arm['useful_tokens_per_s']:,.0f}",
        f"{100 * arm['model_flop_utilisation']:.1f}%",
        f"{arm['peak_memory_bytes'] / 1e9:.0f}",
    )


def _merge_lines(result: Result) -> list[tuple[str, str]]:
    steps, size = result["steps"], result["model"]["weights_bytes"]
    ours, peft = steps["groundtune"], steps["peft"]
    equal = "bit-equal" if steps["compare"].get("bit_equal") else "not bit-equal"
    return [
        (
            f"merging an adapter into {size / 1e9:.1f} GB ({result['model']['shape']}), {equal}",
            f"{ours['wall_s']:.0f} s, {ours['peak_rss_bytes'] / 1e9:.1f} GB; PEFT's merge_and_unload "
            f"{peft['wall_s']:.0f} s, {peft['peak_rss_bytes'] / 1e9:.1f} GB; copying the files "
            f"{steps['copy']['wall_s']:.0f} s",
        )
    ]


def _merge_body(result: Result) -> str:
    names = {"copy": "copying the files", "groundtune": "`train merge`", "peft": "PEFT's merge_and_unload"}
    rows = [
        (
            title,
            f"{step['wall_s']:.1f}",
            f"{step['wall_with_sync_s']:.1f}",
            f"{step['peak_rss_bytes'] / 1e9:.1f}",
        )
        for name, title in names.items()
        if "wall_s" in (step := result["steps"][name])
    ]
    return table(("", "seconds", "seconds until it is on the disk", "peak memory (GB)"), rows)


_MHA, _GQA = "a 7.7B shape of Llama with biases (InternLM v1)", "Qwen2.5-7B's shape (GQA)"

GPU_SECTIONS = (
    Section("h100/serving", "TurboMind on an H100", partial(_serving_lines, _MHA), _serving_body),
    Section(
        "h100/serving-gqa", "The same with Qwen2.5-7B's shape", partial(_serving_lines, _GQA), _serving_body
    ),
    Section("h100/train", "Training on an H100", _train_lines, _train_body),
    Section("h100/merge", "Merging on the H100's machine", _merge_lines, _merge_body),
)
