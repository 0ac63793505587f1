"""What a GPU session found of served rates, of meaning, of embedding and of the four reports. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from benchmarks.tables.shape import Result, Section, table

_GOODPUT = {
    "goodput": "LMDeploy's defaults",
    "tuned, goodput": "tuned",
    "fp8, goodput": "tuned, fp8 weights",
    "awq, goodput": "tuned, AWQ weights",
}
_LONE = {"tuned": "bf16 weights", "fp8": "fp8 weights", "awq": "AWQ weights (4 bits)"}
_FIRSTS = {"shared prefix": "LMDeploy's defaults", **{f"{arm}, shared prefix": arm for arm in _LONE}}
# Of an H100 SXM, in its maker's words.
_BYTES_A_SECOND = 3.35e12
_MODELS = ("base", "tuned", "base-rag", "tuned-rag")


def _searches(result: Result) -> dict[str, Mapping[str, Any]]:
    steps = result["steps"]
    return {title: steps[step] for step, title in _GOODPUT.items() if "levels" in (steps.get(step) or {})}


def _goodput_lines(result: Result) -> list[tuple[str, str]]:
    found = _searches(result)
    defaults, best = found["LMDeploy's defaults"], found["tuned, fp8 weights"]
    counted = [max(level["goodput_per_s"] for level in one["levels"].values()) for one in (best, defaults)]
    return [
        (
            "requests a second whose first token comes within 500 ms at p99: fp8 weights, prefix caching, 8-bit keys "
            "and values, against LMDeploy's defaults; Qwen2.5-7B's shape, about 700 tokens in and 150 out",
            f"{best['best_goodput_per_s']:.1f}; {defaults['best_goodput_per_s']:.1f} (counting single requests in time "
            f"at any rate: {counted[0]:.1f}; {counted[1]:.1f})",
        )
    ]


def _goodput_body(result: Result) -> str:
    rows = [
        (
            title,
            label,
            f"{level['requests_per_s']:.1f}",
            f"{level['goodput_per_s']:.1f}",
            f"{level['ttft_ms']['p50']:.0f} / {level['ttft_ms']['p99']:.0f}",
            f"{level['tpot_ms']['p50']:.1f}",
        )
        for title, search in _searches(result).items()
        for label, level in search["levels"].items()
    ]
    head = ("", "arrivals", "answered/s", "with TTFT within 500 ms/s", "TTFT p50 / p99 (ms)", "TPOT p50 (ms)")
    seconds = re.findall(r"--seconds (\S+)", result["command"])[-1]
    text = (
        f"{result['machine']['gpu']}; random weights of Qwen2.5-7B's shape. Tuned: prefix caching, 8-bit keys and "
        f"values, 256 at once in a batch. Poisson arrivals for {seconds} s a rate; answered/s counts the time that the "
        "last answers take too. At p99 the latest five or so requests of a rate decide, so the rate at which 500 ms "
        "are first exceeded moves from run to run."
    )
    parts = [text, table(head, rows)]
    if lone := _lone(result):
        parts += ["A lone request, 150 tokens; the bound is the weights' bytes over 3.35 TB/s:", lone]
    firsts = [
        (_LONE.get(title, title), *(f"{value:.1f}" for value in found.values()))
        for step, title in _FIRSTS.items()
        if "cold" in (found := result["steps"].get(step) or {})
    ]
    parts += [
        "First token of a lone request, median (ms):",
        table(("", "cold", "same prompt again", "rows in another order"), firsts),
    ]
    return "\n\n".join(parts)


def _lone(result: Result) -> str:
    steps = result["steps"]
    rows = []
    for arm, title in _LONE.items():
        if "1 at once" in (steps.get(arm) or {}):
            read = steps["model" if arm == "tuned" else f"{arm}: model"]["read_a_token_bytes"]
            spent, bound = steps[arm]["1 at once"]["tpot_ms"]["p50"], 1000 * read / _BYTES_A_SECOND
            rows.append((title, f"{spent:.2f}", f"{bound:.2f}", f"{100 * bound / spent:.0f}%"))
    return table(("", "ms a token", "bound", "of the bound's speed"), rows) if rows else ""


def _meaning_lines(result: Result) -> list[tuple[str, str]]:
    parity, answers = result["steps"]["parity"], result["steps"]["answers"]
    served, merged = parity["arms"]["served"], parity["arms"]["merged"]
    return [
        (
            f"trained, merged and served by TurboMind on an H100 ({result['steps']['train']['base']}), against "
            "transformers: 32 greedy tokens in bf16 of 20 held-out questions",
            f"the parity gate {'passes' if parity['passed'] else 'fails'}: {served['num_same']} the same to the end, "
            f"{served['num_near_ties']} part where two tokens nearly tie, {served['num_parted']} elsewhere (adapter "
            f"and merged folder, both in transformers: {merged['num_same']}, {merged['num_near_ties']}, "
            f"{merged['num_parted']}); {answers['cite']['tuned-rag']} of {answers['num_questions']} RAG answers cite",
        )
    ]


def _meaning_body(result: Result) -> str:
    parity, answers = result["steps"]["parity"], result["steps"]["answers"]
    limits, logits = parity["limits"], parity["logits"]
    rows = [
        (
            f"{name} against {arm['compared_with']}",
            *(arm[key] for key in ("num_same", "num_near_ties", "num_parted")),
        )
        for name, arm in parity["arms"].items()
    ]
    asked = [
        (
            f"`{model}`",
            f"{answers['summary'][model]['rouge_l']:.1f}",
            answers["cite"].get(model, "–"),
            answers["cite_the_right_row"].get(model, "–"),
        )
        for model in _MODELS
    ]
    return "\n\n".join(
        [
            f"{result['gpu']}; {parity['num_prompts']} held-out questions, {parity['max_tokens']} greedy tokens in "
            f"bf16. Near-tie: the reference's own two best tokens are at most {limits['margin']} logits apart where "
            "the texts part. Logits of the merged folder against adapter on base: KL "
            f"{logits['mean_kl']:.4f} nats a token.",
            table(("", "the same", "part at a near-tie", "part elsewhere"), rows),
            f"{answers['num_questions']} held-out questions to the four models as TurboMind serves them:",
            table(("model", "ROUGE-L (characters)", "cite", "cite the right row"), asked),
        ]
    )


def _internlm_lines(result: Result) -> list[tuple[str, str]]:
    logits = result["steps"]["internlm logits"]
    found = logits["turbomind against transformers float32"]
    half = logits["transformers float16 against float32"]
    return [
        (
            "InternLM v1's shape (random), converted by `models convert` and served by TurboMind: float16 logits "
            "against transformers' in float32",
            f"{100 * found['relative_rms']:.2f}% of their spread apart, the same first token at "
            f"{100 * found['same_first']:.1f}%; transformers' own float16: {100 * half['relative_rms']:.2f}%, "
            f"{100 * half['same_first']:.1f}%",
        )
    ]


def _internlm_body(result: Result) -> str:
    logits = result["steps"]["internlm logits"]
    rows = [
        (
            name,
            f"{found['relative_rms']:.5f}",
            f"{found['max_abs']:.4f}",
            f"{found['mean_kl']:.1e}",
            f"{100 * found['same_first']:.2f}%",
        )
        for name, found in logits.items()
        if isinstance(found, dict)
    ]
    served = result["steps"]["internlm served"]
    return (
        f"{result['gpu']}; {result['steps']['internlm folder']['num_parameters'] / 1e6:.0f}M random parameters with "
        f"attention biases, {logits['num_prompts']} prompts, {logits['num_tokens']} tokens. Through the gateway "
        f"{served['num_answers']} questions were answered.\n\n"
        + table(("", "RMS / spread", "largest difference", "KL (nats)", "same first token"), rows)
    )


def _index_lines(result: Result) -> list[tuple[str, str]]:
    steps = result["steps"]
    best = max((step for step in steps.values() if "batch" in step), key=lambda step: step["rows_per_s"])
    build = steps["build"]
    return [
        (
            f"embedding rows of {result['rows']['mean_characters']:.0f} characters with {build['embedding']} on an "
            f"H100 in batches of {best['batch']}; `rag index` over {build['rows']:,} rows, two texts each",
            f"{best['rows_per_s']:,.0f} rows a second (its machine's cores: {steps['embed, cpu']['rows_per_s']:.0f}); "
            f"{build['seconds']:.0f} s, {build['rows_per_s']:.0f} rows a second",
        )
    ]


def _index_body(result: Result) -> str:
    rows = [
        (
            step["device"],
            step["batch"],
            f"{step['rows']:,}",
            f"{step['rows_per_s']:,.0f}",
            f"{step['question_ms_p50']:.1f}",
        )
        for step in result["steps"].values()
        if "batch" in step
    ]
    build = result["steps"]["build"]
    return (
        f"{result['gpu']}. Whole rows, question and answer in one text; a lone question beside.\n\n"
        + table(("device", "batch", "rows", "rows a second", "a lone question, p50 (ms)"), rows)
        + f"\n\n`groundtune rag index`, Python's start, two views of {build['rows']:,} rows, Chroma, BM25 and "
        f"calibration included: {build['seconds']:.1f} s."
    )


def _reports_body(result: Result) -> str:
    measures = {
        "rouge_l": "ROUGE-L",
        "chrf": "chrF",
        "facts_kept": "facts kept (%)",
        "contradicts": "contradict (%)",
    }
    rows = [
        (
            name.removesuffix(": compare"),
            f"`{model}`",
            *(
                f"{found['mean']:.1f} [{found['low']:.1f}, {found['high']:.1f}]"
                for found in (step["summary"][model][key] for key in measures)
            ),
        )
        for name, step in sorted(result["steps"].items())
        if name.endswith(": compare")
        for model in _MODELS
    ]
    return (
        f"{result['gpu']}; four runs of qwen2.5-coder-0.5b-instruct, up to 200 held-out questions each, 95% intervals. "
        "neike-other: questions about rows held back from training; neike-these: the same, trained on all rows. "
        "Retrieval has every row in each.\n\n" + table(("workbook", "model", *measures.values()), rows)
    )


def _no_lines(_: Result) -> list[tuple[str, str]]:
    return []


GPU_ANSWER_SECTIONS = (
    Section("h100/goodput", "First tokens in time on an H100", _goodput_lines, _goodput_body),
    Section(
        "h100/goodput-arms",
        "The same, other ways to serve (an earlier run, each search without a level to warm up)",
        _no_lines,
        _goodput_body,
    ),
    Section("h100/goodput-defaults", "The same, defaults at higher rates", _no_lines, _goodput_body),
    Section("h100/meaning", "TurboMind serves what training made", _meaning_lines, _meaning_body),
    Section("h100/internlm", "InternLM v1's shape in TurboMind", _internlm_lines, _internlm_body),
    Section("h100/index", "Embedding and index on an H100", _index_lines, _index_body),
    Section("h100/reports", "Fine-tune or retrieve, four workbooks", _no_lines, _reports_body),
)
