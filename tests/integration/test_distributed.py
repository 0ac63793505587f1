"""Training in two processes, by data parallelism and by DeepSpeed ZeRO, killed and resumed: the run of one process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

from data.artefacts import write_text
from data.config import save_config
from data.conversations import SEED_SYSTEM_PROMPT, Conversation, render
from data.manifest import write_manifest
from data.workspace import Run, open_workspace
from tests.serving.tiny_model import write_tiny_model
from training.adapter import train_adapter
from training.config import TrainSection

REPOSITORY = Path(__file__).parents[2]
pytestmark = [pytest.mark.integration, pytest.mark.slow]
# In float32, so that what is left between one process and two is the order of sums.
SETTINGS: dict[str, Any] = {
    "dtype": "float32", "styles": ["seed"], "epochs": 60, "max_train_tokens": None, "pack_tokens": 500,
    "packs_per_step": 3, "top_layers": 1, "lora_rank": 3, "lora_alpha": 6, "learning_rate": 1e-2,
    "checkpoint_every_s": 1e-9, "device": "cpu", "max_tokens": 500, "evaluation": {"every_steps": 30},
}  # fmt: skip
LOSS_TOLERANCE, WEIGHT_TOLERANCE = 1e-4, 2e-3
_NEEDED = ("deepspeed", "einops", "hjson", "msgpack", "ninja", "py-cpuinfo")


@pytest.fixture(scope="session")
def deepspeed_folder() -> Path:
    """Where DeepSpeed is: $GROUNDTUNE_TEST_DEEPSPEED, or var/envs/deepspeed, which is made if it is not there.

    Apart from this project's packages, because transformers imports it, in seconds, wherever it finds it.
    """
    folder = Path(os.environ.get("GROUNDTUNE_TEST_DEEPSPEED", REPOSITORY / "var" / "envs" / "deepspeed"))
    if not (folder / "deepspeed").is_dir():
        lock = (REPOSITORY / "requirements-xtuner.lock").read_text(encoding="utf-8").splitlines()
        lines = [line for line in lock if line.partition("==")[0] in _NEEDED]
        assert len(lines) == len(_NEEDED)
        pip = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "-q",
            "--no-deps",
            "--no-compile",
            "--no-build-isolation",
        ]
        made = subprocess.run(
            [*pip, "--target", str(folder), *lines],
            env={**os.environ, "DS_BUILD_OPS": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            pytest.skip(f"DeepSpeed cannot be installed here: {made.stderr[-300:]}")
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("base") / "tiny")


def prepared(name: str, **distributed: Any) -> Run:
    run = open_workspace().run(name)
    made = [
        Conversation(f"r{i}", "seed", SEED_SYSTEM_PROMPT, f"第{i}条是什么?", f"盐少于{i}克。" * (1 + i % 3))
        for i in range(17)
    ]
    write_text(run.dataset / "train.jsonl", render(made, "conversation"))
    write_text(run.dataset / "validation.jsonl", render(made[:3], "conversation"))
    write_manifest(run.dataset, "dataset", {}, {})
    save_config(run, {"train": {**SETTINGS, "distributed": distributed}})
    return run


@pytest.fixture
def alone(base: Path) -> Run:
    """The run of one process."""
    run = prepared("alone")
    train_adapter(run, base, TrainSection.model_validate(SETTINGS))
    return run


def start(run: Run, base: Path, packages: Path | None = None) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "serving.cli", "train", "run", "--name", run.name, "--base", str(base)]
    path = os.pathsep.join([str(REPOSITORY), *([str(packages)] if packages else [])])
    return subprocess.Popen(argv, env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said


def wait_for_step(run: Run, step: int) -> None:
    deadline = time.monotonic() + 240
    log = run.logs / "train.log"
    while not (log.is_file() and f"training: step {step}/" in log.read_text(encoding="utf-8")):
        assert time.monotonic() < deadline, log.read_text(encoding="utf-8") if log.is_file() else "no log"
        time.sleep(0.02)


def processes_of(run: Run) -> dict[int, str]:
    """Return the ids of living processes that train this run or start those, with their RANK ("": none)."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes()
            if b"training.worker" in command and str(run.folder).encode() in command:
                values = dict(
                    pair.split("=", 1) for pair in (entry / "environ").read_text().split("\0") if "=" in pair
                )
                found[int(entry.name)] = values.get("RANK", "")
        except (OSError, ValueError):
            continue
    return found


def kill_rank(run: Run, rank: str) -> None:
    (pid,) = [pid for pid, found in processes_of(run).items() if found == rank]
    os.kill(pid, signal.SIGKILL)


def assert_same(run: Run, alone: Run) -> None:
    read = [
        [json.loads(line) for line in (place.folder / "metrics.jsonl").read_text().splitlines()]
        for place in (run, alone)
    ]
    assert [item["step"] for item in read[0]] == [item["step"] for item in read[1]]
    for mine, theirs in zip(*read, strict=True):
        for key in ("loss", "eval_loss", "learning_rate"):
            assert mine.get(key) == pytest.approx(theirs.get(key), abs=LOSS_TOLERANCE), (mine, theirs)
        assert mine.get("num_tokens") == theirs.get("num_tokens")
    assert read[0][-2]["loss"] < read[0][0]["loss"] - 0.01
    mine, theirs = (load_file(place.adapter / "adapter_model.safetensors") for place in (run, alone))
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert (tensor - theirs[name]).abs().max() < WEIGHT_TOLERANCE, name
    same = [(place.adapter / "adapter_config.json").read_bytes() for place in (run, alone)]
    assert same[0] == same[1]
    assert sorted(path.name for path in run.folder.iterdir() if path.name != "logs") == sorted(
        path.name for path in alone.folder.iterdir()
    )


def test_zero_2_goes_on_after_a_process_was_killed(base: Path, alone: Run, deepspeed_folder: Path) -> None:
    run = prepared("zero2", num_processes=2, zero_stage=2)
    process = start(run, base, deepspeed_folder)
    wait_for_step(run, 20)
    kill_rank(run, "1")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1 and "process 1 was ended by signal 9" in said, said
    assert not processes_of(run) and not run.adapter.exists()
    finish(start(run, base, deepspeed_folder))
    assert "step 1/" not in (run.logs / "train.log").read_text(encoding="utf-8").partition("step 15/")[2]
    assert_same(run, alone)


@pytest.mark.xfail(
    strict=False,
    reason="step 1 was wrong (another loss, NaN) in 2 of 6 runs, both in a suite, before DeepSpeed's fetching ahead "
    "was switched off on a CPU; not seen since, and not seen often enough to know (docs/training.md)",
)
def test_zero_3_with_offload(base: Path, alone: Run, deepspeed_folder: Path) -> None:
    run = prepared("zero3", num_processes=2, zero_stage=3, offload="cpu")
    finish(start(run, base, deepspeed_folder))
    assert_same(run, alone)


def test_a_killed_command_leaves_nothing_behind_and_one_process_finishes(base: Path, alone: Run) -> None:
    run = prepared("parallel", num_processes=2)
    process = start(run, base)
    wait_for_step(run, 20)
    # Beside the two, the launcher and what started them.
    assert sorted(processes_of(run).values()) == ["", "", "0", "1"]
    process.kill()
    deadline = time.monotonic() + 20
    while processes_of(run):
        assert time.monotonic() < deadline, "still there"
        time.sleep(0.1)
    process.communicate()
    # The number of processes is no part of what a run is: one finishes what two began.
    train_adapter(run, base, TrainSection.model_validate(SETTINGS))
    assert_same(run, alone)


def test_a_fault_is_told_with_its_cause(base: Path, deepspeed_folder: Path) -> None:
    run = prepared("faulty", num_processes=2)
    raw = yaml.safe_load(run.config.read_text(encoding="utf-8"))
    raw["train"]["target_modules"] = ["no_such_module"]
    save_config(run, raw)
    process = start(run, base)
    _, said = process.communicate(timeout=200)
    assert process.returncode == 1 and "no_such_module" in said and "ended with status 1" in said, said
