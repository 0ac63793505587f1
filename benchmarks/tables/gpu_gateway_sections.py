"""What a GPU session found of the gateway in front of an engine, and of prefixes that come again. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.tables.gpu_mixed import mixed_body, mixed_line, mixed_loads
from benchmarks.tables.shape import Result, Section, percent, table

_WAYS = {
    "direct": "TurboMind alone",
    "again": "TurboMind alone, once more",
    "gateway": "through the gateway",
    "relay": "through a relay of bytes",
}
_OUTSIDE = (
    " Outside of the engine: from sending to the first token, less what a relay right in front of TurboMind saw pass "
    "between the two. TurboMind's own first tokens differ by more than that from one run of a load to the next where "
    "many requests are under way, whichever way these come: by tens of milliseconds at 128 and 256 at once."
)
# Columns that every result fills.
_MOST_TOLD = 6
_SHAPES = {"7b-gqa": "Qwen2.5-7B's shape (GQA)", "7b-mha": "the Llama shape of 7B (MHA)"}
_ORDERS = ("order of ids", "best first")


def _loads(result: Result) -> dict[str, Mapping[str, Any]]:
    """Return the figures after the last round, by load."""
    noted = [step for name, step in result["steps"].items() if name.startswith("rounds") and "rounds" in step]
    return {load: found for load, found in noted[-1].items() if isinstance(found, dict)} if noted else {}


def _shape(result: Result) -> str:
    return _SHAPES[result["steps"]["model"]["shape"]]


def _gateway_lines(result: Result) -> list[tuple[str, str]]:
    loads = _loads(result)
    told = [*([_turns_line(loads)] if loads else []), *([mixed_line(result)] if mixed_loads(result) else [])]
    title = f"the gateway in front of TurboMind, {result['gpu']}, {_shape(result)}: "
    return [(title + ", ".join(loads or mixed_loads(result)), "; ".join(told))]


def _no_lines(_: Result) -> list[tuple[str, str]]:
    """Leave the README without it: what other results say better."""
    return []


def _turns_line(loads: Mapping[str, Mapping[str, Any]]) -> str:
    ratios = [
        found["gateway"]["output_tokens_per_s"] / found["direct"]["output_tokens_per_s"]
        for found in loads.values()
    ]
    told = f"{_range([f'{100 * ratio:.1f}' for ratio in ratios])}% of its own throughput"
    outside = [
        found["gateway"]["added_outside_engine_ms"]["p50"]
        for found in loads.values()
        if "added_outside_engine_ms" in found["gateway"]
    ]
    if outside:
        told += f"; it adds {_range([f'{added:.1f}' for added in outside])} ms (p50) to a first token"
    elif "1 at once" in loads:
        alone = loads["1 at once"]
        added = alone["gateway"]["ttft_ms"]["p50"] - alone["direct"]["ttft_ms"]["p50"]
        told += f"; first token {added:+.1f} ms for a lone request"
    if any("again" in found for found in loads.values()):
        # What the others are to be read beside.
        own = [found["again"]["throughput_ratio"] for found in loads.values()]
        told += f" (TurboMind once more: {_range([f'{100 * ratio:.1f}' for ratio in own])}%)"
    return told


def _range(numbers: Sequence[str]) -> str:
    """Return the least and the greatest, or one where they read the same."""
    return " to ".join(sorted({min(numbers, key=float), max(numbers, key=float)}, key=float))


def _gateway_body(result: Result) -> str:
    of_shape = f"{result['gpu']}; random weights of {_shape(result)}, about 700 tokens in and 150 out"
    parts = [
        *([_turns_body(result, of_shape)] if _loads(result) else [f"{of_shape}."]),
        *([mixed_body(result)] if mixed_loads(result) else []),
        *([result["note"]] if "note" in result else []),
    ]
    return "\n\n".join(parts)


def _turns_body(result: Result, of_shape: str) -> str:
    rows: list[tuple[Any, ...]] = []
    for load, found in _loads(result).items():
        for way, title in _WAYS.items():
            if way in found:
                figures = found[way]
                share = figures["output_tokens_per_s"] / found["direct"]["output_tokens_per_s"]
                rows.append(
                    (
                        load,
                        title,
                        figures["num_requests"],
                        f"{figures['output_tokens_per_s']:,.0f}",
                        "" if way == "direct" else f"{100 * share:.1f}%",
                        f"{figures['ttft_ms']['p50']:.0f} / {figures['ttft_ms']['p99']:.0f}",
                        _after_burst(figures),
                        _outside(figures),
                    )
                )
    rounds = len(next(iter(_loads(result).values()))["direct"]["output_tokens_per_s_by_round"])
    head = [
        *("load", "", "requests", "output tokens/s", "of TurboMind alone", "TTFT p50 / p99 (ms)"),
        "p50 after the opening burst, added (ms)",
        "of it outside of the engine: p50 / p99, added p50 (ms)",
    ]
    # A column that says nothing is left out.
    told = [place for place in range(len(head)) if place < _MOST_TOLD or any(row[place] for row in rows)]
    explained = _OUTSIDE if len(head) - 1 in told else ""
    head, rows = [head[place] for place in told], [tuple(row[place] for place in told) for row in rows]
    return (
        f"{of_shape}, turn about on the same server; rounds: {rounds}. An open load (/s) is as fast as its "
        f"arrivals.{explained}\n\n" + table(head, rows)
    )


def _after_burst(figures: Mapping[str, Any]) -> str:
    """Return the median after the burst that a closed load begins with, and what it is more than TurboMind alone's."""
    if "ttft_ms_after_burst" not in figures:
        return ""
    told = f"{figures['ttft_ms_after_burst']['p50']:.1f}"
    added = figures.get("added_ttft_ms_after_burst")
    if added is None:
        return told
    low, high = figures["added_ttft_p50_ms_after_burst_interval"]
    return f"{told}, {added['p50']:+.1f} [{low:.1f}, {high:.1f}]"


def _outside(figures: Mapping[str, Any]) -> str:
    """Return what of a first token's time passed outside of the engine, and how much more that is than a relay's."""
    if "ttft_outside_engine_ms" not in figures:
        return ""
    spread = figures["ttft_outside_engine_ms"]
    told = f"{spread['p50']:.2f} / {spread['p99']:.1f}"
    added = figures.get("added_outside_engine_ms")
    if added is None:
        return told
    low, high = figures["added_outside_engine_p50_ms_interval"]
    return f"{told}, {added['p50']:+.2f} [{low:.2f}, {high:.2f}]"


def _workbooks(result: Result) -> dict[str, Mapping[str, Any]]:
    return {name: step for name, step in result["steps"].items() if step and "num_questions" in step}


def _prefix_lines(result: Result) -> list[tuple[str, str]]:
    found = _workbooks(result)["sample"]
    shares = [found[order]["hit_rate"] for order in _ORDERS]
    return [
        (
            "tokens of RAG prompts that TurboMind's prefix cache reuses: rows in the order of their ids; best first",
            f"{percent(shares[0])}; {percent(shares[1])}",
        )
    ]


def _prefix_body(result: Result) -> str:
    rows = [
        (
            name,
            order + again,
            found["num_questions"],
            percent(figures["hit_rate"]),
            f"{figures['ttft_ms']['p50']:.1f} / {figures['ttft_ms']['p99']:.1f}",
        )
        for name, found in _workbooks(result).items()
        for order in _ORDERS
        for again in ("", ", again")
        if (figures := found.get(order + again))
    ]
    head = ("workbook", "rows in the prompt", "questions", "tokens reused", "TTFT p50 / p99 (ms)")
    return (
        f"{result['gpu']}; random weights of Qwen2.5-7B's shape, prefix caching, one request at a time: the workbook's "
        "paraphrases, each once, with the three rows that BM25 finds. TurboMind's own counters. `again`: the same "
        "prompts a second time. The first line holds the server's first requests.\n\n" + table(head, rows)
    )


GPU_GATEWAY_SECTIONS = (
    Section("h200/gateway", "The gateway in front of TurboMind, turn about", _gateway_lines, _gateway_body),
    Section("h200/gateway-wide", "The same at 128 and 256 at once", _gateway_lines, _gateway_body),
    Section(
        "h200/gateway-again",
        "The same without pauses, beside TurboMind once more",
        _no_lines,
        _gateway_body,
    ),
    Section(
        "h200/gateway-again-wide",
        "The same at 256 at once, and as questions come",
        _no_lines,
        _gateway_body,
    ),
    Section(
        "h200/gateway-randomized",
        "The same, each request's way chosen at random",
        _gateway_lines,
        _gateway_body,
    ),
    Section("h200/gateway-randomized-32", "More of it at 32 at once", _gateway_lines, _gateway_body),
    Section("h200/gateway-mha", "The gateway in front of a Llama shape", _gateway_lines, _gateway_body),
    Section("h200/gateway-mha-wide", "The Llama shape at 128 and 256 at once", _gateway_lines, _gateway_body),
    Section("h100/prefix", "Prefixes that come again", _prefix_lines, _prefix_body),
)
