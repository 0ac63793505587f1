"""`train merge` of a 7B shape: seconds and peak memory, against merge_and_unload and against the disk itself.

    python -m benchmarks.gpu.merge --tokenizer FOLDER --work FOLDER --out merge.json
    python -m benchmarks.gpu.merge --shape tiny ...                                     rehearsal

Random weights of benchmarks.gpu.random_model and a random adapter of rank 16 on every projection. `copy` reads and
writes the same weights with nothing between: no merge that makes a folder of its own is faster. Each method is one
fresh process, measured by the kernel; os.sync() counts for each, so that what is still in memory is not a gain. Needs
room for three times the weights. Imports nothing large: a child's peak begins with its parent's.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.steps import Steps
from benchmarks.processes import ROOT, run_measured

_PACKAGES = ("torch", "transformers", "peft", "safetensors")
_RANK = 16
_PIECE_BYTES = 16 << 20
_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the methods, or one step in a process of its own; returns 0 if no step failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder with tokenizer.json")
    parser.add_argument("--shape", default="7b-gqa", help="of benchmarks.gpu.random_model")
    parser.add_argument("--work", type=Path, default=ROOT / "var" / "bench" / "gpu")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--step", choices=("model", "adapter", "copy"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    base, folder = options.work / options.shape, options.work / "merge"
    if options.step == "model":
        from benchmarks.gpu.random_model import make_random_model
        from benchmarks.gpu.steps import device_name

        print(json.dumps(make_random_model(options.shape, options.tokenizer, base, device_name())))
        return 0
    if options.step == "adapter":
        make_adapter(base, folder / "adapter")
        return 0
    if options.step == "copy":
        copy(base, folder / "copy")
        return 0
    return measure(options, base, folder)


def measure(options: argparse.Namespace, base: Path, folder: Path) -> int:
    """Make what is missing, run each method once, compare."""
    steps = Steps("groundtune gpu merge", options.out, _PACKAGES)
    again: tuple[str, ...] = (
        sys.executable,
        "-m",
        "benchmarks.gpu.merge",
        "--tokenizer",
        str(options.tokenizer),
    )
    again += ("--shape", options.shape, "--work", str(options.work), "--out", str(options.out), "--step")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if not (base / "config.json").is_file():
        steps.run("model", lambda: run_measured((*again, "model"), "making the model"))
    (folder / "base").symlink_to(base.resolve())
    steps.run("adapter", lambda: run_measured((*again, "adapter"), "making the adapter"))
    size = sum(path.stat().st_size for path in base.glob("*.safetensors"))
    steps.report["model"] = {
        "shape": options.shape,
        "weights_bytes": size,
        "rank": _RANK,
        "adapted": _PROJECTIONS,
    }
    places = (str(base), str(folder / "adapter"), str(folder / "groundtune"))
    ours = (sys.executable, "-m", "serving.cli", "train", "merge", *places, "--max-shard-size", "2GB")
    theirs = (sys.executable, "-m", "benchmarks.merge", "--folder", str(folder), "--step", "peft")
    for name, command in (("copy", (*again, "copy")), ("groundtune", ours), ("peft", theirs)):
        steps.run(name, lambda command=command, name=name: measured(command, name, size))  # type: ignore[misc]
        if name == "copy":
            shutil.rmtree(folder / "copy", ignore_errors=True)
        if name == "groundtune" and shutil.disk_usage(folder).free < 1.2 * size:
            steps.report["compare"] = "left out: the disk does not hold both results"
            shutil.rmtree(folder / "groundtune")
    compared = (sys.executable, "-m", "benchmarks.merge", "--folder", str(folder), "--step", "compare")
    if "compare" not in steps.report:
        steps.run("compare", lambda: json.loads(subprocess.check_output(compared, text=True, timeout=120)))
    shutil.rmtree(folder)
    return steps.status


def measured(command: Sequence[str], title: str, size_bytes: int) -> dict[str, Any]:
    """Return seconds (the disk's part included), peak memory, and bytes written a second."""
    os.sync()
    started = time.perf_counter()
    facts: dict[str, Any] = dict(run_measured(command, title))
    os.sync()
    synced = time.perf_counter() - started
    return {
        **facts,
        "wall_with_sync_s": round(synced, 2),
        "gb_written_per_s": round(size_bytes / synced / 1e9, 3),
    }


def copy(base: Path, out: Path) -> None:
    """Read and write every shard, piece by piece; no reflink, which would copy nothing."""
    out.mkdir(parents=True)
    for path in sorted(base.glob("*.safetensors")):
        with path.open("rb", buffering=0) as source, (out / path.name).open("wb", buffering=0) as target:
            while piece := source.read(_PIECE_BYTES):
                target.write(piece)


def make_adapter(base: Path, folder: Path) -> None:
    """Write a random adapter on every projection of the base."""
    import torch
    from peft import LoraConfig
    from safetensors.torch import save_file

    from training.shards import stored_tensors

    folder.mkdir(parents=True)
    made: Any = LoraConfig
    made(
        r=_RANK, lora_alpha=2 * _RANK, target_modules=list(_PROJECTIONS), task_type="CAUSAL_LM",
        base_model_name_or_path="base",
    ).save_pretrained(str(folder))  # fmt: skip
    generator = torch.Generator().manual_seed(2)
    tensors = {}
    for tensor in stored_tensors(base):
        module = tensor.name.removesuffix(".weight")
        if tensor.name.endswith(".weight") and module.endswith(_PROJECTIONS):
            rows, columns = tensor.shape
            at = f"base_model.model.{module}"
            tensors[f"{at}.lora_A.weight"] = torch.randn(_RANK, columns, generator=generator) * 0.02
            tensors[f"{at}.lora_B.weight"] = torch.randn(rows, _RANK, generator=generator) * 0.02
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})


if __name__ == "__main__":
    sys.exit(main())
