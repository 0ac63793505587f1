"""What the load generator's own results say, and what engines did under it. Pure functions."""

from __future__ import annotations

from typing import Any

from benchmarks.tables.shape import Result, Section, table

_COMPARED = (
    ("requests_per_s", "requests/s", 2),
    ("output_tokens_per_s", "output tokens/s", 1),
    ("ttft_p50_ms", "TTFT p50 (ms)", 1),
    ("tpot_p50_ms", "TPOT p50 (ms)", 1),
)


def _agreement_lines(result: Result) -> list[tuple[str, str]]:
    return [
        (
            f"`bench load` against GuideLLM {result['guidellm']}, same server, same run",
            f"throughput, median TTFT and TPOT within {100 * result['largest_difference']:.1f}%",
        )
    ]


def _agreement_body(result: Result) -> str:
    rows = [
        (
            run["target"],
            run["concurrency"],
            label,
            f"{run['groundtune'][name]:,.{digits}f}",
            f"{run['guidellm'][name]:,.{digits}f}",
            f"{100 * run['difference'][name]:+.1f}%",
        )
        for run in result["runs"]
        for name, label, digits in _COMPARED
    ]
    settings = result["settings"]
    return table(("server", "at once", "", "`bench load`", "GuideLLM", "difference"), rows) + (
        f"\n\n{result['model']}, {settings['max_tokens']} tokens an answer at most. Both tools send the same bodies "
        f"(compared field by field), {settings['requests_a_turn']} requests a turn, in turns on one server "
        f"({', '.join(settings['turns'])}), after a turn of each that does not count. TPOT is GuideLLM's "
        "`inter_token_latency_ms`; what it calls time per output token counts the wait for the first one in."
    )


def _open_loop_lines(result: Result) -> list[tuple[str, str]]:
    found = result["arrivals"]["poisson"]
    return [
        (
            f"open loop at {found['rate']:g} requests a second, {found['num_requests']:,} requests",
            f"the client adds p50 {found['added_ms']['p50']:.2f} ms, p99 {found['added_ms']['p99']:.2f} ms; arrivals "
            f"fit Poisson (Kolmogorov-Smirnov p = {found['ks_p']:.2f})",
        )
    ]


def _open_loop_body(result: Result) -> str:
    rows = [
        (
            kind,
            f"{found['rate']:g}",
            f"{found['num_requests']:,}",
            f"{found['rate_at_the_server']:.1f}",
            f"{found['ks_p']:.3f}",
            *(f"{found['added_ms'][part]:.3f}" for part in ("p50", "p90", "p99", "max")),
        )
        for kind, found in result["arrivals"].items()
    ]
    head = (
        *("arrivals", "asked/s", "requests", "at the server/s", "KS p"),
        *("added p50 (ms)", "p90", "p99", "max"),
    )
    return table(head, rows) + (
        "\n\nA server in another process notes when it has each request and when it has sent the end of each answer. "
        "Added: from when a request was due until the server had it, and from the server's end until it was seen. A "
        "ramp rises from 0 to the rate asked."
    )


def _engine_levels(result: Result) -> list[tuple[str, Any, Any]]:
    return [(name, found, level) for name, found in result["engines"].items() for level in found["levels"]]


def _engines_lines(result: Result) -> list[tuple[str, str]]:
    parts = []
    for name, found in result["engines"].items():
        rates = " / ".join(f"{level['output_tokens_per_s']:.0f}" for level in found["levels"])
        parts.append(f"{name} ({found['weights']}) {rates}")
    levels = " / ".join(str(number) for number in result["settings"]["concurrency"])
    return [
        (f"output tokens a second at {levels} requests at once, {result['model']}", "; ".join(parts)),
    ]


def _engines_body(result: Result) -> str:
    rows = [
        (
            f"{name} {found['version']}",
            found["weights"],
            level["label"],
            f"{level['output_tokens_per_s']:.1f}",
            f"{level['ttft_ms']['p50']:.0f} / {level['ttft_ms']['p99']:.0f}",
            f"{level['tpot_ms']['p50']:.1f}",
            f"{level['mean_output_tokens']:.0f}",
            level["num_failed"],
        )
        for name, found, level in _engine_levels(result)
        if level["ttft_ms"] and level["tpot_ms"]
    ]
    head = (
        *("engine", "weights", "load", "output tokens/s", "TTFT p50 / p99 (ms)", "TPOT p50 (ms)"),
        *("tokens an answer", "failed"),
    )
    missing = "".join(f"\n- {name}: {reason}" for name, reason in result["missing"].items())
    note = (
        f"\n\n{result['model']}, at most {result['settings']['max_tokens']} tokens an answer, the same questions in "
        "the same order; one engine at a time. Engines with other weights compute another thing: the GGUF has 4 bits."
    )
    return table(head, rows) + note + (f"\n\nNot measured here:\n{missing}" if missing else "")


LOAD_SECTIONS = (
    Section("agreement", "`bench load` against an independent tool", _agreement_lines, _agreement_body),
    Section("open-loop", "The open loop", _open_loop_lines, _open_loop_body),
    Section("engines", "Engines on this machine", _engines_lines, _engines_body),
)
