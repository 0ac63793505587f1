"""What results from a GPU say. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.tables.shape import Result, Section, table

_ARMS = {"direct": "TurboMind alone", "gateway": "through the gateway", "tuned": "alone, tuned"}


def _levels(result: Result, arm: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = result["steps"].get(arm, {})
    return {} if "error" in found else found


def _serving_lines(result: Result) -> list[tuple[str, str]]:
    direct, through = _levels(result, "direct"), _levels(result, "gateway")
    tuned = _levels(result, "tuned")
    lines = []
    if through:
        closed = [label for label in through if label.endswith("at once")]
        shares = [through[at]["output_tokens_per_s"] / direct[at]["output_tokens_per_s"] for at in closed]
        added = through["1 at once"]["ttft_ms"]["p50"] - direct["1 at once"]["ttft_ms"]["p50"]
        lines.append(
            (
                f"the gateway in front of TurboMind, {result['machine']['gpu']}, a 7.7B shape",
                f"{100 * min(shares):.1f} to {100 * max(shares):.1f}% of its own throughput; first token "
                f"{added:+.1f} ms for a lone request",
            )
        )
    if tuned:
        most = max(found["output_tokens_per_s"] for found in direct.values())
        best = max(found["output_tokens_per_s"] for found in tuned.values())
        lines.append(
            (
                "prefix caching, 8-bit keys and values, 256 at once in a batch, against LMDeploy's defaults",
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


GPU_SECTIONS = (Section("h100/serving", "TurboMind on an H100", _serving_lines, _serving_body),)
