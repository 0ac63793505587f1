"""Time and memory of `groundtune train merge` against PEFT's merge_and_unload, on a synthetic model.

    python -m benchmarks.merge                 a 2.2 GB model under var/bench/merge (7 GB of disk in all)
    python -m benchmarks.merge --layers 2      a small one, to try the script
    python -m benchmarks.merge --from-result benchmarks/results/merge.json     only draw the chart again

Both do the whole job from a fresh process: start Python, read base and adapter from disk, write a merged model
folder with tokenizer in 2 GB shards. Ours also writes its manifest, with the digests of base and result. Wall time and
peak resident memory are the kernel's own counts for each process (wait4). They run in turn, `--repeats` times
each; the order changes every time. Then every tensor of the two results is compared bit by bit.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# This process starts the measured ones, and a child's peak begins with its parent's: so nothing large is
# imported here, and everything that needs torch is a process of its own.
from benchmarks.machine import describe_machine
from benchmarks.processes import ROOT, run_measured

RESULT = ROOT / "benchmarks" / "results" / "merge.json"
# Of TinyLlama-1.1B.
SIZES: dict[str, Any] = {
    "hidden_size": 2048, "intermediate_size": 5632, "num_attention_heads": 32, "num_key_value_heads": 4,
    "vocab_size": 32000, "max_position_embeddings": 2048,
}  # fmt: skip
RANK = 16
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
METHODS = ("groundtune", "peft")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark, or one of its steps in a process of its own; returns 0 if the results are bit-equal."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--layers", type=int, default=22, help="layers of the synthetic model (22: 2.2 GB)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=ROOT / "var" / "bench" / "merge")
    parser.add_argument("--out", type=Path, default=RESULT, help="the JSON; the chart lies beside it")
    parser.add_argument("--from-result", type=Path, help="draw the chart of a JSON made before")
    parser.add_argument("--step", choices=("make", "peft", "compare", "draw"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.from_result:
        draw(
            json.loads(options.from_result.read_text(encoding="utf-8")),
            options.from_result.with_suffix(".png"),
        )
        return 0
    if options.step == "make":
        make_model(options.folder / "base", options.layers)
        make_adapter(options.folder / "adapter", options.layers)
    elif options.step == "peft":
        merge_with_peft(options.folder)
    elif options.step == "compare":
        print(json.dumps(compare(options.folder / "groundtune", options.folder / "peft")))
    else:
        return measure(options)
    return 0


def measure(options: argparse.Namespace) -> int:
    """Make the model, run both methods, write JSON and chart; returns the exit status."""
    folder: Path = options.folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    step = (
        sys.executable,
        "-m",
        "benchmarks.merge",
        "--folder",
        str(folder),
        "--layers",
        str(options.layers),
    )
    run_measured((*step, "--step", "make"), "making the model")
    ours = (sys.executable, "-m", "serving.cli", "train", "merge")
    places = (str(folder / "base"), str(folder / "adapter"), str(folder / "groundtune"))
    commands = {"groundtune": (*ours, *places, "--max-shard-size", "2GB"), "peft": (*step, "--step", "peft")}
    runs: dict[str, list[dict[str, float]]] = {method: [] for method in METHODS}
    for number in range(options.repeats):
        for method in METHODS if number % 2 else METHODS[::-1]:
            shutil.rmtree(folder / method, ignore_errors=True)
            os.sync()
            runs[method].append(run_measured(commands[method], f"{method}, run {number + 1}"))
    compared = json.loads(output_of((*step, "--step", "compare")))
    figures = {method: summary(runs[method]) for method in METHODS}
    ours_, theirs = figures["groundtune"], figures["peft"]
    result: dict[str, Any] = {
        "what": "merging a LoRA adapter: groundtune train merge against PEFT's merge_and_unload",
        "command": "python -m benchmarks.merge " + " ".join(sys.argv[1:]),
        **describe_machine(("torch", "transformers", "peft", "safetensors")),
        "model": {
            **SIZES,
            "num_hidden_layers": options.layers,
            "dtype": "bfloat16",
            "weights_bytes": sum(path.stat().st_size for path in (folder / "base").glob("*.safetensors")),
            "adapter": f"rank {RANK}, {', '.join(PROJECTIONS)}, float32",
        },
        "groundtune": ours_,
        "peft": theirs,
        "time_ratio": round(ours_["wall_s"] / theirs["wall_s"], 3),
        "memory_ratio": round(ours_["peak_rss_bytes"] / theirs["peak_rss_bytes"], 3),
        **compared,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    run_measured((*step, "--from-result", str(options.out)), "drawing")
    print(json.dumps(result, indent=2))
    shutil.rmtree(folder)
    return 0 if compared["bit_equal"] else 1


def output_of(command: Sequence[str]) -> str:
    """Return what a process writes to stdout."""
    import subprocess

    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout


def summary(runs: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Return the medians, and every run."""
    return {
        "wall_s": statistics.median(item["wall_s"] for item in runs),
        "peak_rss_bytes": int(statistics.median(item["peak_rss_bytes"] for item in runs)),
        "runs": list(runs),
    }


def make_model(folder: Path, num_layers: int) -> None:
    """Write a random Llama in bf16, tensor by tensor: never more than one of them in memory."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, PreTrainedTokenizerFast

    from training.shards import ShardWriter, TensorSpec

    folder.mkdir(parents=True)
    config = LlamaConfig(**SIZES, num_hidden_layers=num_layers, tie_word_embeddings=False, dtype="bfloat16")
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(folder)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytes_only = Tokenizer(models.BPE(vocab={letter: n for n, letter in enumerate(alphabet)}, merges=[]))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer_class: Any = PreTrainedTokenizerFast
    tokenizer_class(tokenizer_object=bytes_only).save_pretrained(folder)
    generator = torch.Generator().manual_seed(1)
    specs = [TensorSpec(name, "BF16", shape) for name, shape in tensor_shapes(num_layers)]
    with ShardWriter(folder, specs, 2_000_000_000) as writer:
        for spec in specs:
            values = torch.empty(spec.shape, dtype=torch.bfloat16).normal_(std=0.02, generator=generator)
            writer.write(spec.name, values)


def make_adapter(folder: Path, num_layers: int) -> None:
    """Write a random adapter on every projection of that model."""
    import torch
    from peft import LoraConfig
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    LoraConfig(
        r=RANK,
        lora_alpha=2 * RANK,
        target_modules=list(PROJECTIONS),
        task_type="CAUSAL_LM",
        base_model_name_or_path="base",
    ).save_pretrained(str(folder))
    generator = torch.Generator().manual_seed(2)
    tensors = {}
    for name, shape in tensor_shapes(num_layers):
        if name.removesuffix(".weight").endswith(PROJECTIONS):
            module = f"base_model.model.{name.removesuffix('.weight')}"
            tensors[f"{module}.lora_A.weight"] = torch.randn(RANK, shape[1], generator=generator) * 0.02
            tensors[f"{module}.lora_B.weight"] = torch.randn(shape[0], RANK, generator=generator) * 0.02
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})


def tensor_shapes(num_layers: int) -> list[tuple[str, tuple[int, ...]]]:
    """Return name and shape of every tensor of the model."""
    hidden, inner = SIZES["hidden_size"], SIZES["intermediate_size"]
    narrow = hidden // SIZES["num_attention_heads"] * SIZES["num_key_value_heads"]
    shapes: list[tuple[str, tuple[int, ...]]] = [("model.embed_tokens.weight", (SIZES["vocab_size"], hidden))]
    for number in range(num_layers):
        at = f"model.layers.{number}"
        shapes += [
            (f"{at}.self_attn.q_proj.weight", (hidden, hidden)),
            (f"{at}.self_attn.k_proj.weight", (narrow, hidden)),
            (f"{at}.self_attn.v_proj.weight", (narrow, hidden)),
            (f"{at}.self_attn.o_proj.weight", (hidden, hidden)),
            (f"{at}.mlp.gate_proj.weight", (inner, hidden)),
            (f"{at}.mlp.up_proj.weight", (inner, hidden)),
            (f"{at}.mlp.down_proj.weight", (hidden, inner)),
            (f"{at}.input_layernorm.weight", (hidden,)),
            (f"{at}.post_attention_layernorm.weight", (hidden,)),
        ]
    return [*shapes, ("model.norm.weight", (hidden,)), ("lm_head.weight", (SIZES["vocab_size"], hidden))]


def merge_with_peft(folder: Path) -> None:
    """Do what PEFT's documentation and XTuner's `convert merge` do."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = folder / "base"
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16, low_cpu_mem_usage=True)
    merged = PeftModel.from_pretrained(model, str(folder / "adapter")).merge_and_unload()
    merged.save_pretrained(folder / "peft", max_shard_size="2GB")
    AutoTokenizer.from_pretrained(base).save_pretrained(folder / "peft")


def compare(ours: Path, theirs: Path) -> dict[str, Any]:
    """Compare the bytes of all tensors of two model folders."""
    from training.shards import StoredTensor, stored_tensors

    def content(tensor: StoredTensor) -> bytes:
        with tensor.path.open("rb") as file:
            file.seek(tensor.offset)
            return file.read(tensor.size_bytes)

    expected = {tensor.name: tensor for tensor in stored_tensors(theirs)}
    found = {tensor.name: tensor for tensor in stored_tensors(ours)}
    different = [
        name
        for name in sorted(expected.keys() | found.keys())
        if name not in expected
        or name not in found
        or (expected[name].dtype, expected[name].shape) != (found[name].dtype, found[name].shape)
        or content(expected[name]) != content(found[name])
    ]
    return {"bit_equal": not different, "num_tensors_compared": len(found), "different": different[:10]}


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Draw the two measures side by side."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    labels = ["groundtune\ntrain merge", "PEFT\nmerge_and_unload"]
    measures = (("wall_s", 1.0, "wall time (s)"), ("peak_rss_bytes", 1e9, "peak resident memory (GB)"))
    for place, (key, unit, title) in enumerate(measures, start=1):
        axes = figure.add_subplot(1, 2, place)
        bars = axes.bar(labels, [result[m][key] / unit for m in METHODS], color=["tab:blue", "tab:gray"])
        axes.bar_label(bars, fmt="%.2f")
        for column, method in enumerate(METHODS):
            points = [item[key] / unit for item in result[method]["runs"]]
            axes.plot([column] * len(points), points, "k.", markersize=4)
        axes.set_title(title)
        axes.margins(y=0.15)
    size = result["model"]["weights_bytes"] / 1e9
    figure.suptitle(
        f"Merging a rank-{RANK} adapter into {size:.1f} GB of bf16 weights; bars are medians, dots runs"
    )
    figure.savefig(path, dpi=120, metadata={"Software": None})


if __name__ == "__main__":
    sys.exit(main())
