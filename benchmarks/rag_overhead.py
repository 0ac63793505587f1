"""What RAG adds to the first token beside the search and the longer prompt, through the gateway, on a real engine.

    python -m benchmarks.rag_overhead --name quickstart --base smollm2-135m-instruct [--pairs 100]

The run's own server is started with the given base model. Each question goes to `base-rag`, and, as the very prompt
that `base-rag` makes of it, to `base`. So the engine's work is the same, and of the difference in time to first token
(TTFT) only the search remains and what is looked for: citations, rules, book-keeping. By default the text is held
until its first sentence is seen to be a row's (`retrieve.quote_unsupported`, docs/decisions/0005), which is a wait
for the engine: the server is started once without it, for the figure, and once with it and the default model, to say
what it costs.

The search's time is what the answer's own Server-Timing says (embed + retrieve). The engine keeps prefixes: whoever
asks a prompt first pays for reading it, many times what is measured. So each prompt is asked once unmeasured, then
measured in both arms in turn, in the orders ABBA and BAAB; a question's figure is its arms' difference of medians, the
result the median over questions with a bootstrap interval.
Result: benchmarks/results/rag-overhead.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.load.stream import TIMING
from benchmarks.machine import describe_machine
from data.artefacts import write_json
from data.config import section, settle_config
from data.models.config import ModelsConfig
from data.models.folder import resolve_model
from data.settings import PrepareSection
from data.workspace import Run, open_workspace
from rag.config import IndexSection, RetrieveSection
from rag.grounding import Grounder
from rag.knowledge import open_index
from rag.selection import selection_of
from rag.subjects import subjects_of
from serving.quickstart.steps import running
from serving.state import running_url

RESULT = Path(__file__).parent / "results" / "rag-overhead.json"
_MAX_TOKENS = 4
_MAX_TOKENS_HELD = 48
_ROUNDS = 2
_WARM_UP = 2
_NUM_HELD = 8
_NUM_RESAMPLES = 10_000


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="quickstart", help="a run with a dataset and an index")
    parser.add_argument("--base", default="smollm2-135m-instruct")
    parser.add_argument("--held-base", default=ModelsConfig().base, help="the model whose answers are held")
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    run = open_workspace().run(options.name)
    grounder = _grounder(run)
    lines = (run.dataset / "paraphrases.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [str(json.loads(line)["question"]) for line in lines][: options.pairs]
    at_once = _measured(run, options.base, grounder, questions, quote_unsupported=False)
    few = questions[: _WARM_UP + _NUM_HELD]
    held = _measured(run, options.held_base, grounder, few, quote_unsupported=True)
    result = {
        "benchmark": "rag overhead",
        "what": "time to first token that RAG adds beside search and prefill: base-rag against its prompt to base",
        **describe_machine(("torch", "transformers", "chromadb", "fastapi")),
        "command": f"python -m benchmarks.rag_overhead --name {run.name} --base {options.base} --pairs {options.pairs}",
        "base": options.base,
        "answers_a_pair": 4 * _ROUNDS,
        **at_once,
        "held_until_supported": {"base": options.held_base, **held},
    }
    write_json(options.out, result)
    print(json.dumps(result, indent=2))


def _measured(
    run: Run, base: str, grounder: Grounder, questions: Sequence[str], *, quote_unsupported: bool
) -> dict[str, Any]:
    arguments = ["serve", "--name", run.name, "--port", "0", "--base", base]
    arguments += ["--set", f"retrieve.quote_unsupported={str(quote_unsupported).lower()}"]
    with running(arguments) as process:
        while (url := running_url(run)) is None:
            if process.poll() is not None:
                raise SystemExit("the server did not start; its message is above")
            time.sleep(0.1)
        # A held answer must come to the end of its first sentence.
        max_tokens = _MAX_TOKENS_HELD if quote_unsupported else _MAX_TOKENS
        pairs = _ask_all(url, grounder, questions, max_tokens)
    added = [pair["added_ms"] for pair in pairs]
    return {
        "pairs": len(pairs),
        "ttft_ms": {
            name: _percentiles([pair[f"{name}_ms"] for pair in pairs]) for name in ("rag", "same_prompt")
        },
        "search_ms": _percentiles([pair["search_ms"] for pair in pairs]),
        "added_ms": {**_percentiles(added), "p50_interval": _median_interval(added)},
    }


def _grounder(run: Run) -> Grounder:
    """Return what the server makes its prompts with."""
    raw = settle_config(run, None, ())
    embedding = resolve_model(open_workspace(), section(raw, "models", ModelsConfig).embedding)
    retrieve = section(raw, "retrieve", RetrieveSection)
    index = open_index(run.index, embedding, retrieve, section(raw, "index", IndexSection))
    base = resolve_model(open_workspace(), section(raw, "models", ModelsConfig).base)
    return Grounder(
        index,
        system_prompt=section(raw, "prepare", PrepareSection).system_prompt,
        selection=selection_of(retrieve, base / "tokenizer.json"),
        subjects=subjects_of(index.rows),
    )


def _ask_all(
    url: str, grounder: Grounder, questions: Sequence[str], max_tokens: int
) -> list[dict[str, float]]:
    pairs: list[dict[str, float]] = []
    with httpx.Client(base_url=url, timeout=120, trust_env=False) as client:
        for number, question in enumerate(questions):
            asked = [{"role": "user", "content": question}]
            grounding = grounder.ground(asked)
            if grounding.refusal is not None or grounding.verbatim is not None:
                continue  # the engine is not asked
            arms: dict[str, list[Mapping[str, Any]]] = {
                "base-rag": [*asked],
                "base": list(grounding.messages),
            }
            rounds = _ROUNDS if max_tokens == _MAX_TOKENS else 1
            one, other = sorted(arms, reverse=bool(number % 2))
            _first_token(client, "base", arms["base"], max_tokens)
            ttft: dict[str, list[float]] = {model: [] for model in arms}
            beyond_search: list[float] = []
            search: list[float] = []
            for model in (one, other, other, one) * rounds:
                first_ms, stages = _first_token(client, model, arms[model], max_tokens)
                ttft[model].append(first_ms)
                if model == "base-rag":
                    search.append(sum(stages.get(name, 0.0) for name in ("embed", "retrieve")))
                    beyond_search.append(first_ms - search[-1])
            pairs.append(
                {
                    "rag_ms": statistics.median(ttft["base-rag"]),
                    "same_prompt_ms": statistics.median(ttft["base"]),
                    "search_ms": statistics.median(search),
                    "added_ms": statistics.median(beyond_search) - statistics.median(ttft["base"]),
                }
            )
    return pairs[_WARM_UP:]


def _first_token(
    client: httpx.Client, model: str, messages: Sequence[Mapping[str, Any]], max_tokens: int
) -> tuple[float, Mapping[str, float]]:
    """Return milliseconds to the first piece of text, and the stages that the server tells."""
    body = {"model": model, "messages": list(messages), "stream": True, "max_tokens": max_tokens}
    started_s = time.perf_counter()
    first_ms = None
    with client.stream("POST", "/chat/completions", json=body) as response:
        response.raise_for_status()
        for line in response.iter_lines():
            if first_ms is None and line.startswith("data: {"):
                choices = json.loads(line[6:])["choices"]
                if choices and choices[0]["delta"].get("content"):
                    first_ms = 1000 * (time.perf_counter() - started_s)
    if first_ms is None:
        raise SystemExit(f"{model}: an answer without text to {messages[-1]['content']!r}")
    timing = response.headers["server-timing"]
    return first_ms, {name: float(value) for name, value in TIMING.findall(timing)}


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    return {f"p{part}": round(float(np.percentile(values, part)), 2) for part in (50, 90)}


def _median_interval(values: Sequence[float]) -> list[float]:
    drawn = np.random.default_rng(0).choice(np.asarray(values), (_NUM_RESAMPLES, len(values)))
    low, high = np.percentile(np.median(drawn, axis=1), (2.5, 97.5))
    return [round(float(low), 2), round(float(high), 2)]


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
