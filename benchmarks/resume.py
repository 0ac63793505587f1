"""kill -9 at random moments of training and of the merge: does the run end as one that was left alone?

    python -m benchmarks.resume --base var/models/NAME --dataset var/runs/NAME/dataset --out FILE.json

Two runs of `groundtune train run` and `train merge`, a process each, with the same rows and settings. One is left
alone. The other is killed three times at random moments of its steps and started again, then once at a random
moment of the merge. Then loss curves and evaluations are compared number by number, adapter and merged folder byte
by byte. After every kill, adapter and merged model must be absent or whole.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine
from data.artefacts import sha256_file, write_json
from data.manifest import MANIFEST_NAME, read_manifest
from data.workspace import Run, Workspace

ROOT = Path(__file__).parents[1]
NUM_KILLS = 3
_POLL_S = 0.002
# Of a line of metrics.jsonl, what says how fast it was rather than what was computed.
_TIMES = ("tokens_per_s", "eval_seconds")


class Bench:
    """The two runs: where they lie, how their commands are started, and what killed them when."""

    def __init__(self, folder: Path, base: Path, dataset: Path, settings: Sequence[str], seed: int) -> None:
        self.workspace = Workspace(folder)
        self.base = base
        self.settings = settings
        self.random = random.Random(seed)
        self.kills: list[dict[str, Any]] = []
        for run in (self.alone, self.killed):
            shutil.rmtree(run.folder, ignore_errors=True)
            shutil.copytree(dataset, run.dataset)

    @property
    def alone(self) -> Run:
        """The run that nobody disturbs."""
        return self.workspace.run("alone")

    @property
    def killed(self) -> Run:
        """The run that is killed."""
        return self.workspace.run("killed")

    def start(self, step: str, run: Run) -> subprocess.Popen[bytes]:
        """Start `groundtune train run` or `merge`."""
        words = ["--name", run.name, *(word for item in self.settings for word in ("--set", item))]
        given = ["--base", str(self.base)] if step == "run" else [str(self.base)]
        log = run.folder / f"{step}.log"
        with log.open("ab") as file:
            return subprocess.Popen(
                [sys.executable, "-m", "serving.cli", "train", step, *given, *words],
                stdout=file,
                stderr=file,
                cwd=ROOT,
                env={**os.environ, "GROUNDTUNE_VAR": str(self.workspace.root)},
            )

    def finish(self, step: str, run: Run) -> float:
        """Run a step to its end; returns its seconds."""
        started = time.monotonic()
        code = self.start(step, run).wait()
        if code:
            raise RuntimeError(f"{step} of {run.name}: status {code}; see {run.folder / f'{step}.log'}")
        return time.monotonic() - started

    def kill_training(self, target: int, step_s: float) -> None:
        """Start training and kill it at a random moment of the step after step `target`."""
        begun_at = time.time()
        delay_s = self.random.uniform(0, step_s)
        process = self.start("run", self.killed)
        if self._kill(process, lambda: len(self.killed_lines(begun_at)) >= target, delay_s):
            self.kills.append(
                {"of": "training", "steps_written": len(self.killed_lines(begun_at)), "delay_s": delay_s}
            )

    def killed_lines(self, since: float) -> list[dict[str, Any]]:
        """Return the steps in the file that training is writing; none if it was written before `since`."""
        path = self.killed.folder / ".metrics.jsonl.partial"
        try:
            if path.stat().st_mtime < since:
                return []
            text = path.read_text(encoding="utf-8")
        except OSError:
            return []
        return [json.loads(line) for line in text.split("\n")[:-1] if '"loss"' in line]

    def kill_merge(self, window_s: float) -> None:
        """Start merges until one is killed between the first byte written beside and the end."""
        while True:
            delay_s = self.random.uniform(0, window_s)
            beside = self.killed.merged.with_name(f".{self.killed.merged.name}.partial")
            if self._kill(self.start("merge", self.killed), beside.exists, delay_s):
                files = {path.name: path.stat().st_size for path in beside.glob("*")}
                self.kills.append({"of": "merge", "delay_s": delay_s, "left_beside": files})
                return
            shutil.rmtree(self.killed.merged)  # it was faster

    def merge_window(self) -> float:
        """Merge the run that is left alone; returns the seconds from the first byte written to the end."""
        beside = self.alone.merged.with_name(f".{self.alone.merged.name}.partial")
        process = self.start("merge", self.alone)
        while not beside.exists() and process.poll() is None:
            time.sleep(_POLL_S)
        began = time.monotonic()
        while beside.exists():
            time.sleep(_POLL_S)
        window = time.monotonic() - began
        if process.wait():
            raise RuntimeError(f"merge failed; see {self.alone.folder / 'merge.log'}")
        return window

    def _kill(self, process: subprocess.Popen[bytes], begun: Callable[[], bool], delay_s: float) -> bool:
        """Kill -9 `delay_s` after `begun`; returns whether it was still running. Checks what is left."""
        while not begun() and process.poll() is None:
            time.sleep(_POLL_S)
        time.sleep(delay_s)
        process.send_signal(signal.SIGKILL)
        killed = process.wait() == -signal.SIGKILL
        for folder in (self.killed.adapter, self.killed.merged):
            if folder.exists() and not is_whole(folder):
                raise RuntimeError(f"{folder}: torn by the kill")
        return killed


def is_whole(folder: Path) -> bool:
    """Return whether every file is there with the digest that the folder's manifest records."""
    manifest = read_manifest(folder)
    return manifest is not None and all(
        (folder / name).is_file() and sha256_file(folder / name) == stamp.sha256
        for name, stamp in manifest.files.items()
    )


def curve(run: Run) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl without the times."""
    lines = (run.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in _TIMES} for line in lines]


def same_files(one: Path, two: Path) -> bool:
    """Return whether two folders hold the same names and bytes."""
    names = [sorted(path.name for path in folder.iterdir()) for folder in (one, two)]
    return names[0] == names[1] and all(
        (one / name).read_bytes() == (two / name).read_bytes() for name in names[0]
    )


def compare(bench: Bench) -> dict[str, Any]:
    """Return how far the two runs are apart."""
    one, two = curve(bench.alone), curve(bench.killed)
    pairs = [(a, b) for a, b in zip(one, two, strict=False) if "loss" in a and "loss" in b]
    return {
        "num_steps": sum("loss" in line for line in one),
        "num_evaluations": sum("eval_loss" in line for line in one),
        "metrics_equal": one == two,
        "max_loss_difference": max(abs(a["loss"] - b["loss"]) for a, b in pairs),
        "final_loss": pairs[-1][0]["loss"],
        "adapter_bytes_equal": same_files(bench.alone.adapter, bench.killed.adapter),
        "merged_bytes_equal": same_files(bench.alone.merged, bench.killed.merged),
    }


def run(bench: Bench) -> dict[str, Any]:
    """Train and merge both runs; returns the comparison."""
    alone_s = bench.finish("run", bench.alone)
    steps = [line for line in curve(bench.alone) if "loss" in line]
    lines = (bench.alone.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rates = [json.loads(line) for line in lines if '"loss"' in line]
    step_s = sum(item["num_tokens"] / item["tokens_per_s"] for item in rates) / len(rates)
    for target in sorted(bench.random.sample(range(1, len(steps)), NUM_KILLS)):
        bench.kill_training(target, step_s)
    bench.finish("run", bench.killed)
    bench.kill_merge(bench.merge_window())
    bench.finish("merge", bench.killed)
    manifest = read_manifest(bench.alone.adapter)
    return {
        "alone_s": round(alone_s, 1),
        "step_s": round(step_s, 3),
        "kills": bench.kills,
        **compare(bench),
        "adapter_facts": dict(manifest.facts) if manifest else {},
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 0 if the killed run ends with the bits of the other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--base", type=Path, required=True, help="base model folder")
    parser.add_argument(
        "--dataset", type=Path, required=True, help=f"a run's dataset folder ({MANIFEST_NAME})"
    )
    parser.add_argument("--folder", type=Path, default=ROOT / "var" / "bench" / "resume")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "resume.json")
    parser.add_argument("--set", action="append", default=[], help="SECTION.KEY=VALUE, as of `train run`")
    parser.add_argument("--seed", type=int, help="of the moments; default: another each time")
    options = parser.parse_args(argv)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 31)
    bench = Bench(options.folder, options.base.resolve(), options.dataset.resolve(), options.set, seed)
    found = run(bench)
    result = {
        **describe_machine(["torch", "transformers", "peft"]),
        "command": f"python -m benchmarks.resume --seed {seed} "
        + " ".join(f"--set {item}" for item in options.set),
        "base": options.base.name,
        "settings": options.set,
        "seed_of_moments": seed,
        **found,
    }
    write_json(options.out, result)
    equal = found["metrics_equal"] and found["adapter_bytes_equal"] and found["merged_bytes_equal"]
    print(json.dumps({"equal": equal, **found}, ensure_ascii=False))
    return 0 if equal else 1


if __name__ == "__main__":
    raise SystemExit(main())
