"""What RAG adds to the first token beside the search and the longer prompt, through the gateway, on a real engine.

    python -m benchmarks.rag_overhead --name quickstart --base smollm2-135m-instruct [--pairs 100]

The run's own server is started with the given base model. Each question goes out twice, one after the other: to
`base-rag`, and, as the very prompt that `base-rag` makes of it, to `base`. So the engine's work is the same, and of
the difference in time to first token (TTFT) only the search remains and what is looked for: citations, rules,
book-keeping. The search's time is what the answer's own Server-Timing says (embed + retrieve). The order changes
with every question; the figure is the median of the paired differences with a bootstrap interval.
Result: benchmarks/results/rag-overhead.json.
"""

from __future__ import annotations

import argparse
import json
import os
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
from rag.subjects import subjects_of
from serving.quickstart.steps import running
from serving.state import running_url

RESULT = Path(__file__).parent / "results" / "rag-overhead.json"
_MAX_TOKENS = 4
_NUM_RESAMPLES = 10_000


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="quickstart", help="a run with a dataset and an index")
    parser.add_argument("--base", default="smollm2-135m-instruct")
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    run = open_workspace().run(options.name)
    grounder = _grounder(run)
    lines = (run.dataset / "paraphrases.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [str(json.loads(line)["question"]) for line in lines][: options.pairs]
    arguments = ("serve", "--name", run.name, "--port", "0", "--base", options.base)
    with running(arguments) as process:
        while (url := running_url(run)) is None:
            if process.poll() is not None:
                raise SystemExit("the server did not start; its message is above")
            time.sleep(0.1)
        pairs = _ask_all(url, grounder, questions)
    added = [pair["rag_ms"] - pair["search_ms"] - pair["same_prompt_ms"] for pair in pairs]
    result = {
        "benchmark": "rag overhead",
        "what": "time to first token that RAG adds beside search and prefill: base-rag against its prompt to base",
        **describe_machine(("torch", "transformers", "chromadb", "fastapi")),
        "command": f"python -m benchmarks.rag_overhead --name {run.name} --base {options.base} --pairs {len(pairs)}",
        "base": options.base,
        "pairs": len(pairs),
        "ttft_ms": {
            name: _percentiles([pair[f"{name}_ms"] for pair in pairs]) for name in ("rag", "same_prompt")
        },
        "search_ms": _percentiles([pair["search_ms"] for pair in pairs]),
        "added_ms": {**_percentiles(added), "p50_interval": _median_interval(added)},
    }
    write_json(options.out, result)
    print(json.dumps(result, indent=2))


def _grounder(run: Run) -> Grounder:
    """Return what the server makes its prompts with."""
    raw = settle_config(run, None, ())
    embedding = resolve_model(open_workspace(), section(raw, "models", ModelsConfig).embedding)
    retrieve = section(raw, "retrieve", RetrieveSection)
    index = open_index(run.index, embedding, retrieve, section(raw, "index", IndexSection))
    return Grounder(
        index,
        system_prompt=section(raw, "prepare", PrepareSection).system_prompt,
        top_k=retrieve.top_k,
        subjects=subjects_of(index.rows),
    )


def _ask_all(url: str, grounder: Grounder, questions: Sequence[str]) -> list[dict[str, float]]:
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
            found: dict[str, tuple[float, Mapping[str, float]]] = {}
            for model in sorted(arms, reverse=bool(number % 2)):
                found[model] = _first_token(client, model, arms[model])
            search_ms = sum(found["base-rag"][1].get(name, 0.0) for name in ("embed", "retrieve"))
            pairs.append(
                {"rag_ms": found["base-rag"][0], "same_prompt_ms": found["base"][0], "search_ms": search_ms}
            )
    return pairs[2:]  # the first ones warm up


def _first_token(
    client: httpx.Client, model: str, messages: Sequence[Mapping[str, Any]]
) -> tuple[float, Mapping[str, float]]:
    """Return milliseconds to the first piece of text, and the stages that the server tells."""
    body = {"model": model, "messages": list(messages), "stream": True, "max_tokens": _MAX_TOKENS}
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
