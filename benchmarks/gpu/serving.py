"""TurboMind alone against through the gateway, and tuned settings against LMDeploy's own, on RAG-shaped prompts.

    python -m benchmarks.gpu.serving --tokenizer FOLDER --out result.json            a random 7B on one GPU
    python -m benchmarks.gpu.serving --tokenizer FOLDER --shape 7b-gqa --steps gateway,goodput,tuned,fp8,awq ...
    python -m benchmarks.gpu.serving --tokenizer FOLDER --url http://... --shape tiny  rehearsal against any server

Weights are random: speed is asked, not meaning. A prompt is fixed instructions and three rows of the sample
workbook in order, with a question last, padded to about 700 tokens by the rows' own text; an answer is 150 tokens.
The load is `groundtune bench load`'s. Each step is noted in the JSON as soon as it ends, with its error where it
fails; none is begun after --budget-s.

Steps: `gateway` TurboMind alone and through the gateway; `again` alone once more; `goodput` open loops at growing
rates, until one has a first token later than 500 ms at p99; `tuned`, `fp8` and `awq` the same search with tuned
settings, and with weights of 8 and 4 bits. `read_a_token_bytes` over the memory's bandwidth is the least time of a
lone token.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.gpu.services import gateway, running
from benchmarks.gpu.steps import device_name, gpu_name
from benchmarks.load.request import RequestSettings
from benchmarks.load.runner import Level, LoadPlan, run_load
from benchmarks.machine import describe_machine
from benchmarks.processes import ROOT
from serving.engines.ports import free_ports

_PACKAGES = ("lmdeploy", "torch", "transformers", "fastapi", "uvicorn", "uvloop", "httptools")
_ANSWER_TOKENS = 150
_PROMPT_TOKENS = 700
_TTFT_LIMIT_MS = 500.0
# LMDeploy's defaults are an empty list.
TUNED = ("--enable-prefix-caching", "--quant-policy", "8", "--max-batch-size", "256")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the steps; returns 0 if none failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    add_model_arguments(parser, shape="7b-mha")
    parser.add_argument("--concurrency", default="1,32,128,256")
    parser.add_argument("--rates", default="8,16,24", help="of the open loop, requests a second")
    parser.add_argument("--steps", default="gateway,again,tuned")
    parser.add_argument("--search", default="24,8,88", help="first rate of a search, its step, the last")
    parser.add_argument(
        "--waves", type=float, default=2.0, help="least requests of a closed level, times its width"
    )
    parser.add_argument("--prompts", type=int, default=3000, help="different ones")
    parser.add_argument("--budget-s", type=float, default=1e9, help="no step is begun after this")
    parser.add_argument("--seconds", type=float, default=15.0, help="of a level")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    started = time.monotonic()
    report: dict[str, Any] = {
        "kind": "groundtune gpu serving",
        "command": " ".join(["python -m benchmarks.gpu.serving", *(argv or sys.argv[1:])]),
        "machine": {**describe_machine(_PACKAGES), "gpu": gpu_name()},
        "steps": {},
    }

    def step(name: str, work: Callable[[], Any]) -> Any:
        print(f"== {name}", file=sys.stderr, flush=True)
        began = time.monotonic()
        if began - started > options.budget_s:
            result = None
            report["steps"][name] = {"skipped": "no time left"}
        else:
            try:
                result = report["steps"][name] = work()
            except Exception as error:  # the other steps' figures are worth having all the same
                traceback.print_exc()
                result = None
                report["steps"][name] = {"error": f"{type(error).__name__}: {error}"[:2000]}
        print(f"== {name}: {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
        options.out.write_text(json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8")
        return result

    options.work.mkdir(parents=True, exist_ok=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    prompts = rag_prompts(options.tokenizer, options.prompts)
    closed = {
        int(number): Level(_closed_requests(int(number), options), concurrency=int(number))
        for number in options.concurrency.split(",")
    }
    rates = [float(rate) for rate in options.rates.split(",")]
    levels = [*closed.values(), *(_open_level(rate, options) for rate in rates)]
    name = options.model
    wanted = options.steps.split(",")
    step("model", lambda: ensure_model(options, "bf16"))
    if {"gateway", "again", "goodput"} & set(wanted):

        def defaults() -> None:
            with server(options, "bf16", ()) as url:
                if "gateway" in wanted:
                    step("direct", lambda: loaded(url, name, levels, prompts, seed=1))
                    step("gateway", lambda: through_gateway(url))
                if "again" in wanted:
                    # So that what the order of the two does can be told from what the gateway does.
                    step("direct, again", lambda: loaded(url, name, list(closed.values()), prompts, seed=1))
                step("shared prefix", lambda: first_tokens(url, name, prompts))
                if "goodput" in wanted:
                    step("goodput", lambda: search(url, name, prompts, options))

        def through_gateway(url: str) -> dict[str, Any]:
            with gateway(options.work, url, name) as through:
                return loaded(through, "tuned", levels, prompts, seed=1)

        step("defaults", defaults)
    for arm, weights in (("tuned", "bf16"), ("fp8", "fp8"), ("awq", "awq")):
        if arm in wanted:

            def tuned(arm: str = arm, weights: str = weights) -> None:
                if weights != "bf16":
                    step(f"{arm}: model", lambda: ensure_model(options, weights))
                with server(options, weights, TUNED) as url:
                    few = (
                        list(closed.values())
                        if arm == "tuned" and "goodput" not in wanted
                        else [closed[min(closed)]]
                    )
                    if arm == "tuned" and "goodput" not in wanted:
                        few += levels[len(closed) :]
                    step(arm, lambda: loaded(url, name, few, prompts, seed=1))
                    step(f"{arm}, shared prefix", lambda: first_tokens(url, name, prompts))
                    if "goodput" in wanted:
                        step(f"{arm}, goodput", lambda: search(url, name, prompts, options))

            step(f"{arm}: server", tuned)
    return int(any("error" in (result or {}) for result in report["steps"].values()))


def add_model_arguments(parser: argparse.ArgumentParser, shape: str) -> None:
    """Add what `ensure_model` and `server` read; `shape` is the default."""
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder with tokenizer.json")
    parser.add_argument("--shape", default=shape, help="of benchmarks.gpu.random_model")
    parser.add_argument("--work", type=Path, default=ROOT / "var" / "bench" / "gpu")
    parser.add_argument("--url", help="a server that runs already, in place of starting TurboMind")
    parser.add_argument("--model", default="tuned")


def ensure_model(options: argparse.Namespace, weights: str) -> dict[str, Any]:
    """Make the random model unless it is there; returns its size."""
    from benchmarks.gpu.random_model import make_random_model

    folder = model_folder(options, weights)
    if options.url is not None:
        return {"not needed": options.url}
    if (folder / "config.json").is_file():
        size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        embedding = 2 * config["vocab_size"] * config["hidden_size"]
        return {"shape": options.shape, "size_bytes": size, "read_a_token_bytes": size - embedding}
    if weights != "bf16":
        # One at a time: the disk need not hold all.
        for other in ("fp8", "awq"):
            shutil.rmtree(model_folder(options, other), ignore_errors=True)
    return make_random_model(options.shape, options.tokenizer, folder, device_name(), weights)


def model_folder(options: argparse.Namespace, weights: str) -> Path:
    """Return where the model of these weights lies."""
    folder: Path = options.work / (options.shape if weights == "bf16" else f"{options.shape}-{weights}")
    return folder


def rag_prompts(tokenizer: Path, count: int) -> list[str]:
    """Return prompts as the grounder makes them in shape: instructions, rows, question."""
    from tokenizers import Tokenizer

    from data.row_source import RowSource, read_rows
    from data.settings import PrepareSection

    known = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    sample = read_rows(RowSource(ROOT / "data" / "知识库内容.xlsx"))
    rows = [(row.question, row.answer) for row in sample]
    order = random.Random(17)
    system = PrepareSection().system_prompt
    prompts = []
    for _ in range(count):
        chosen = order.sample(rows, 3)
        parts = [system, "只根据下面的资料回答，并在句末标出资料的编号。", ""]
        for number, (question, answer) in enumerate(chosen, start=1):
            parts.append(f"[{number}] 问：{question}\n答：{answer}")
        text = "\n".join(parts)
        spare = _PROMPT_TOKENS - len(known.encode(text).ids) - 40
        while spare > 0:
            more = order.choice(rows)[1]
            text += "\n" + more
            spare -= len(known.encode(more).ids)
        prompts.append(f"{text}\n\n问题：{order.choice(rows)[0]}")
    return prompts


def loaded(
    url: str, model: str, levels: Sequence[Level], prompts: Sequence[str], seed: int
) -> dict[str, Any]:
    """Return the figures of each level."""
    plan = LoadPlan(
        url=url,
        settings=RequestSettings(model, _ANSWER_TOKENS),
        levels=tuple(levels),
        num_warmup=8,
        limits={"ttft_ms": _TTFT_LIMIT_MS},
        seed=seed,
    )
    report = run_load(plan, prompts, None)
    found = {}
    for level in report["levels"]:
        found[level["label"]] = level["figures"]
        if level["rate"] is not None:
            # Of an open loop every request: what made a late first token late is to be seen.
            found[level["label"]]["requests"] = level["requests"]
    return found


def search(url: str, model: str, prompts: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """Raise the rate of an open loop until first tokens come too late twice in a row; returns every level and the best
    goodput.

    Twice: at p99 the latest five of 500 decide, and one stall makes them. A level at the first rate goes before and is
    left out, for the engine's first batches of each size are slow.
    """
    first, step, last = (float(text) for text in options.search.split(","))
    loaded(url, model, [_open_level(first, options)], prompts, seed=1)
    late = 0
    levels: dict[str, Any] = {}
    rate = first
    while rate <= last:
        made = loaded(url, model, [_open_level(rate, options)], prompts, seed=int(rate))
        for figures in made.values():
            figures.pop("requests", None)
        levels |= made
        figures = next(iter(made.values()))
        if figures["ttft_ms"] is None or figures["ttft_ms"]["p99"] > _TTFT_LIMIT_MS:
            late += 1
        else:
            late = 0
        if late == 2:
            break
        rate += step
    within = [
        figures["goodput_per_s"]
        for figures in levels.values()
        if figures["ttft_ms"] and figures["ttft_ms"]["p99"] <= _TTFT_LIMIT_MS
    ]
    return {"levels": levels, "best_goodput_per_s": max(within, default=0.0)}


def first_tokens(url: str, model: str, prompts: Sequence[str]) -> dict[str, float]:
    """Return the median first-token time (ms) of new prompts, of the same again, and of the rows in another order.

    One request at a time. Where prefixes are cached, the second finds all but the last block of its prompt, the
    third what stands in front of the first row that moved.
    """
    found = {}
    fresh = list(prompts[-20:])
    other = [_rows_turned(prompt) for prompt in fresh]
    for name, texts in (("cold", fresh), ("same again", fresh), ("rows in another order", other)):
        plan = LoadPlan(
            url=url,
            settings=RequestSettings(model, 8),
            levels=(Level(len(texts), concurrency=1),),
            num_warmup=0,
        )
        figures = run_load(plan, texts, None)["levels"][0]["figures"]
        found[name] = figures["ttft_ms"]["p50"]
    return found


def _rows_turned(prompt: str) -> str:
    head, *rows = prompt.split("\n[")
    return "\n[".join([head, *rows[:-1][::-1], rows[-1]])


def _closed_requests(concurrency: int, options: argparse.Namespace) -> int:
    """Return how many requests take about `--seconds`, at a guess of a 7B model on one H100."""
    per_s = {1: 1.0, 32: 15.0}.get(concurrency, 25.0)
    return int(max(10, round(options.waves * concurrency), round(per_s * options.seconds)))


def _open_level(rate: float, options: argparse.Namespace) -> Level:
    return Level(max(10, round(rate * options.seconds)), rate=rate)


@contextmanager
def server(options: argparse.Namespace, weights: str, flags: Sequence[str]) -> Iterator[str]:
    """Run TurboMind on the model of these weights; yields its URL. With --url, yields that."""
    if options.url is not None:
        yield options.url
        return
    (port,) = free_ports(1)
    folder = model_folder(options, weights)
    command = [
        *(sys.executable, "-m", "lmdeploy", "serve", "api_server", str(folder), "--backend", "turbomind"),
        *("--server-name", "127.0.0.1", "--server-port", str(port), "--model-name", options.model),
        *("--log-level", "ERROR", *flags),
    ]
    with running(command, options.work / "turbomind.log", f"http://127.0.0.1:{port}/v1/models"):
        yield f"http://127.0.0.1:{port}/v1"


if __name__ == "__main__":
    sys.exit(main())
