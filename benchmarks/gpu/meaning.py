"""Does TurboMind serve what training made? A real small model, and InternLM v1's shape, on a GPU.

    python -m benchmarks.gpu.meaning --out meaning.json                                       a GPU with LMDeploy
    python -m benchmarks.gpu.meaning --out m.json --engine transformers --questions 4 ...     rehearsal on a CPU

Part `tuned`: the default model is trained on the sample workbook's rows, merged and served with retrieval through the
gateway; 24 held-out questions go to base, tuned, base-rag and tuned-rag, and `train verify` compares what is served
with what transformers computes. Part `internlm`: a random folder of InternLM v1's shape is converted by
`models convert`; TurboMind's logits on it are set against transformers' in the same float16, in float32, and without
the attention biases, which says what an engine that left them out would be off by; then it is served.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.gpu.steps import Steps, device_name, groundtune, serving_settings, settings
from benchmarks.processes import ROOT

_PACKAGES = (
    "torch", "transformers", "peft", "lmdeploy", "chromadb", "sentence-transformers", "liger-kernel", "openai",
)  # fmt: skip
SAMPLE = ROOT / "data" / "知识库内容.xlsx"
FOUR = ("base", "tuned", "base-rag", "tuned-rag")
# Every layer and a few epochs, which take seconds there; the quickstart's defaults are cut to two CPU cores.
GPU_TRAINING: dict[str, Any] = {
    "train.top_layers": None,
    "train.max_train_tokens": None,
    "train.pack_tokens": 1024,
    "train.epochs": 5,
    "train.learning_rate": 5e-4,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the parts that are asked for; returns 0 if no step failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--var", type=Path, help="workspace with models/; default: $GROUNDTUNE_VAR or var/")
    parser.add_argument("--parts", default="tuned,internlm")
    parser.add_argument("--name", default="meaning", help="the run's name")
    parser.add_argument("--engine", choices=("lmdeploy", "transformers"), default="lmdeploy")
    parser.add_argument("--base", default="qwen2.5-coder-0.5b-instruct")
    parser.add_argument("--embedding", default="multilingual-e5-small-asked")
    parser.add_argument("--cache-share", type=float, default=0.2)
    parser.add_argument("--questions", type=int, default=24)
    parser.add_argument("--prompts", type=int, default=20, help="of the parity gate")
    parser.add_argument("--epochs", type=int, default=GPU_TRAINING["train.epochs"])
    parser.add_argument("--rows", type=int, help="only the first so many rows, for a rehearsal")
    parser.add_argument("--size", default="small", help="of benchmarks.gpu.internlm_shape")
    options = parser.parse_args(argv)
    if options.var:
        os.environ["GROUNDTUNE_VAR"] = str(options.var.resolve())
    steps = Steps("groundtune gpu meaning", options.out, _PACKAGES)
    if "tuned" in options.parts:
        tuned(options, steps)
    if "internlm" in options.parts:
        internlm(options, steps)
    return steps.status


def tuned(options: argparse.Namespace, steps: Steps) -> None:
    """Train, merge, index, serve, ask, verify."""
    from benchmarks.compare.server import run_server
    from data.workspace import open_workspace

    device = device_name()
    run = open_workspace().run(options.name)
    here = ("--name", options.name)
    chosen = {
        "workbook.file": str(SAMPLE),
        "models.base": options.base,
        "models.embedding": options.embedding,
        **GPU_TRAINING,
        "train.epochs": options.epochs,
        **serving_settings(options.engine, device, options.cache_share),
    }
    if options.rows:
        chosen["workbook.rows"] = options.rows
    steps.run("prepare", lambda: groundtune(("data", "prepare", *here, *settings(chosen)), 60))
    steps.run("train", lambda: groundtune(("train", "run", *here), 180))
    steps.run("merge", lambda: groundtune(("train", "merge", *here), 90))
    steps.run("index", lambda: groundtune(("rag", "index", *here), 120))

    def served() -> dict[str, Any]:
        with run_server(run) as url:
            steps.run("answers", lambda: ask(run.dataset, url, options.questions))
            steps.run("parity", lambda: parity(options, device, url))
        return {"engine": options.engine}

    steps.run("serve", served)


def ask(dataset: Path, url: str, count: int) -> dict[str, Any]:
    """Put held-out questions to the four models; returns how many answers cite, and every answer."""
    from data.records import HeldOutQuestion, read_records
    from serving.quickstart.asking import Answers, Asked, ask_all
    from serving.quickstart.flow import choose_questions
    from serving.quickstart.report import summarise
    from serving.quickstart.settings import AskSection

    questions = choose_questions(
        read_records(dataset / "paraphrases.jsonl", HeldOutQuestion), AskSection(questions=count)
    )
    answers: Answers = {}
    asyncio.run(ask_all(url, FOUR, questions, 8, 256, {}, answers.update))
    asked = [
        Asked(question, {model: answers[place, model] for model in FOUR})
        for place, question in enumerate(questions)
    ]
    return {
        "num_questions": len(questions),
        "cite": {
            model: sum(bool(item.answers[model].citations) for item in asked)
            for model in FOUR
            if model.endswith("rag")
        },
        "cite_the_right_row": {
            model: sum(bool(item.answers[model].cites_right_row) for item in asked)
            for model in FOUR
            if model.endswith("rag")
        },
        "summary": {model: asdict(summary) for model, summary in summarise(asked).items()},
        "questions": [
            {
                "question": item.question.question,
                "reference": item.question.answer,
                "answers": {model: asdict(answer) for model, answer in item.answers.items()},
            }
            for item in asked
        ],
    }


def parity(options: argparse.Namespace, device: str, url: str) -> dict[str, Any]:
    """Run the parity gate: adapter on base and merged by transformers, served by the engine."""
    return groundtune(
        ("train", "verify", "--name", options.name, "--prompts", str(options.prompts), "--max-tokens", "32",
         "--device", device, "--url", url),
        180,
    )  # fmt: skip


def internlm(options: argparse.Namespace, steps: Steps) -> None:
    """Make the folder, convert it, compare logits, serve it."""
    from benchmarks.gpu.internlm_shape import write_internlm_shape
    from data.row_source import RowSource, read_rows
    from data.workspace import open_workspace

    work = open_workspace().root / "internlm-shape"
    shutil.rmtree(work, ignore_errors=True)
    rows = read_rows(RowSource(SAMPLE))
    texts = [text for row in rows for text in (row.question, row.answer)]
    source, converted = work / "published", work / "converted"
    steps.run("internlm folder", lambda: write_internlm_shape(source, texts, options.size))
    steps.run(
        "internlm convert",
        lambda: groundtune(("models", "convert", "internlm-chat-7b", str(source), str(converted)), 60),
    )
    asked = [row.question + row.answer for row in rows[:24]]
    # Each in a process of its own: the engine's memory is free again before it is served.
    steps.run("internlm logits", lambda: _in_process(_logits, converted, asked, options.engine))
    steps.run(
        "internlm served", lambda: serve_converted(options, converted, [row.question for row in rows[:8]])
    )


def _in_process(work: Any, *arguments: Any) -> dict[str, Any]:
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found: dict[str, Any] = pool.apply_async(work, arguments).get(timeout=180)
        return found


def _logits(folder: Path, texts: Sequence[str], engine: str) -> dict[str, Any]:
    """Return how far the engine's logits are from transformers', and from transformers' in float32."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    prompts = [tokenizer(text)["input_ids"][:200] for text in texts]
    device = device_name()
    half = "float16" if device == "cuda" else "float32"
    exact = _transformers_logits(folder, prompts, "float32", device)
    same = _transformers_logits(folder, prompts, half, device)
    unbiased = _transformers_logits(folder, prompts, "float32", device, without_bias=True)
    found: dict[str, Any] = {
        "num_prompts": len(prompts),
        "num_tokens": sum(len(prompt) for prompt in prompts),
        f"transformers {half} against float32": distance(exact, same),
        "transformers without attention biases against float32": distance(exact, unbiased),
    }
    if engine == "lmdeploy":
        served = _turbomind_logits(folder, prompts)
        found["turbomind against transformers float32"] = distance(exact, served)
        found[f"turbomind against transformers {half}"] = distance(same, served)
    return found


def _transformers_logits(
    folder: Path, prompts: Sequence[Sequence[int]], dtype: str, device: str, *, without_bias: bool = False
) -> list[Any]:
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=getattr(torch, dtype), use_safetensors=True, local_files_only=True
    )
    model = model.to(device).eval()
    with torch.inference_mode():
        if without_bias:
            for name, parameter in model.named_parameters():
                if name.endswith(".bias"):
                    parameter.zero_()
        return [model(torch.tensor([list(ids)], device=device)).logits[0].float().cpu() for ids in prompts]


def _turbomind_logits(folder: Path, prompts: Sequence[Sequence[int]]) -> list[Any]:
    from lmdeploy import TurbomindEngineConfig, pipeline

    # Nothing cached: a prefix that is found again would have no logits.
    config = TurbomindEngineConfig(cache_max_entry_count=0.05, session_len=2048, enable_prefix_caching=False)
    with pipeline(str(folder), backend_config=config, log_level="ERROR") as engine:
        # What its get_reward_score and get_ppl call; there is no public method for a language model's logits.
        work = engine.async_engine.async_get_logits(input_ids=[list(ids) for ids in prompts])
        logits = engine._run(coro=work).result()
        return [rows.float().cpu() for rows in logits]


def distance(wanted: Sequence[Any], found: Sequence[Any]) -> dict[str, float]:
    """Return how far logits (T, V) are apart over all tokens: root mean square against the wanted ones' spread, largest
    difference, mean KL in nats a token, and how often both put the same token first."""
    import torch

    one, two = torch.cat(list(wanted)), torch.cat([rows[:, : wanted[0].shape[1]] for rows in found])
    log_p, log_q = one.log_softmax(-1), two.log_softmax(-1)
    return {
        "relative_rms": float((one - two).pow(2).mean().sqrt() / one.std()),
        "max_abs": float((one - two).abs().max()),
        "mean_kl": float((log_p.exp() * (log_p - log_q)).sum(-1).mean()),
        "same_first": float((one.argmax(-1) == two.argmax(-1)).float().mean()),
    }


def serve_converted(options: argparse.Namespace, folder: Path, questions: Sequence[str]) -> dict[str, Any]:
    """Serve the converted folder through the gateway; its greedy answers against transformers'."""
    from openai import OpenAI

    from benchmarks.compare.server import run_server
    from data.config import save_config
    from data.workspace import open_workspace

    run = open_workspace().run("internlm-shape")
    serve: dict[str, Any] = {"engine": options.engine}
    if options.engine == "lmdeploy":
        serve["lmdeploy"] = {"cache_max_entry_count": 0.05, "session_len": 2048}
    save_config(run, {"models": {"base": f"path:{folder}"}, "serve": serve, "prepare": {"system_prompt": ""}})
    with run_server(run) as url:
        client = OpenAI(base_url=url, api_key="none", max_retries=0, timeout=60)
        answers = [
            client.chat.completions.create(
                model="base", messages=[{"role": "user", "content": text}], temperature=0, max_tokens=16
            )
            for text in questions
        ]
    return {
        "num_answers": len(answers),
        "completion_tokens": [answer.usage.completion_tokens if answer.usage else None for answer in answers],
        "prompt_tokens": [answer.usage.prompt_tokens if answer.usage else None for answer in answers],
        "texts": [answer.choices[0].message.content for answer in answers],
    }


if __name__ == "__main__":
    sys.exit(main())
