"""`train run --backend xtuner`: from a dataset and a base model to an adapter, trained by XTuner.

RUN/xtuner/internlm_chat_7b_qlora_cq_e3.py   the seed's file
RUN/xtuner/BASE/, data/dataset_cq.jsonl      what it names, beside it as in the seed
RUN/xtuner/work_dirs/...                     XTuner's checkpoints and its log
RUN/logs/xtuner.log                          everything it printed
RUN/adapter/                                 the last checkpoint in PEFT's format
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from data.artefacts import digest_of, write_text
from data.conversations import render as render_dataset
from data.errors import GroundTuneError, InputError
from data.manifest import Manifest, folder_digest, is_current, read_manifest
from data.models.folder import check_model_folder
from data.workspace import Run
from training.checkpoint_conversion import convert_checkpoint
from training.child import failure, run_child
from training.environment import interpreter
from training.examples import of_styles, read_conversations, require_styles
from training.progress import counted
from training.xtuner.base_view import write_base_view
from training.xtuner.config import XtunerSection
from training.xtuner.config_file import CONFIG_NAME, SOURCE_FILE, render

_STEP = re.compile(r"Iter\(train\) \[\s*(\d+)/(\d+)\].*?loss: ([0-9.naninf]+)")
DATA_FILE = Path("data/dataset_cq.jsonl")


def train_with_xtuner(
    run: Run, base: Path, config: XtunerSection, environment: Path
) -> tuple[Manifest, bool]:
    """Train and write RUN/adapter unless it is there already; returns (manifest, whether work was done).

    Raises:
        InputError: no dataset, base model or environment.
        GroundTuneError: XTuner failed, or ended without a checkpoint.
    """
    check_model_folder(base)
    dataset = read_manifest(run.dataset)
    train_file = dataset.files.get("train.jsonl") if dataset else None
    inputs = {
        "base": folder_digest(base),
        "train.jsonl": train_file.sha256 if train_file else "absent",
        "settings": digest_of(["xtuner", config.model_dump(mode="json", exclude={"environment"})]),
    }
    if is_current(run.adapter, "adapter", inputs):
        manifest = read_manifest(run.adapter)
        assert manifest is not None
        return manifest, False
    python = interpreter(environment)
    folder = run.folder / "xtuner"
    shutil.rmtree(folder, ignore_errors=True)
    rendered = write_job(run, base, config, environment, folder)
    log = run.logs / "xtuner.log"
    log.unlink(missing_ok=True)
    argv = [str(python.with_name("xtuner")), "train", rendered.name, "--deepspeed", config.deepspeed]
    with counted("training (XTuner)") as advance:
        run_child("xtuner train", argv, log, folder, _environment(config, environment), _watch(advance))
    checkpoint = last_checkpoint(folder, log)
    facts = {"backend": "xtuner", "base": base.name, "num_processes": config.num_processes}
    return convert_checkpoint(
        checkpoint, run.adapter, rendered, base=base.name, inputs=inputs, facts=facts
    ), True


def write_job(run: Run, base: Path, config: XtunerSection, environment: Path, folder: Path) -> Path:
    """Write the seed's file and what it names into `folder`; returns the file."""
    found = sorted((environment / "lib").glob(f"python3.*/site-packages/{SOURCE_FILE}"))
    if not found:
        raise InputError(f"{environment}: has no {SOURCE_FILE}; run `groundtune train env xtuner` again")
    source = found[0].read_text(encoding="utf-8")
    text = render(source, config, f"./{base.name}", f"./{DATA_FILE.as_posix()}")
    made = read_conversations(run.dataset / "train.jsonl")
    require_styles(made, config.styles, run.dataset / "train.jsonl")
    write_text(folder / DATA_FILE, render_dataset(of_styles(made, config.styles), "json-array"))
    write_base_view(base, folder / base.name)
    write_text(folder / CONFIG_NAME, text)
    return folder / CONFIG_NAME


def _environment(config: XtunerSection, environment: Path) -> dict[str, str]:
    values = {
        # XTuner starts `python` and `torchrun` by name.
        "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONPATH": "",
        "NPROC_PER_NODE": str(config.num_processes),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(environment.resolve() / "datasets"),
        "TOKENIZERS_PARALLELISM": "false",
        "DS_BUILD_OPS": "0",
    }
    if config.num_processes == 1:
        # XTuner starts one process without torchrun, and DeepSpeed would look for MPI to learn that it is alone.
        values |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
        values["MASTER_PORT"] = str(_free_port())
    if config.device == "cpu":
        values |= {"CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}
        values["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // config.num_processes))
    return values


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _watch(advance: Callable[[int, int], None]) -> Callable[[str], None]:
    def on_line(line: str) -> None:
        if step := _STEP.search(line):
            advance(int(step[1]), int(step[2]))
            if not sys.stderr.isatty():
                print(f"training: step {step[1]}/{step[2]}, loss {step[3]}", file=sys.stderr)

    return on_line


def last_checkpoint(folder: Path, log: Path) -> Path:
    """Return the checkpoint that XTuner wrote last.

    Raises:
        GroundTuneError: there is none: XTuner's command ends with status 0 whatever its training did.
    """
    work = folder / "work_dirs" / Path(CONFIG_NAME).stem
    note = work / "last_checkpoint"
    name = Path(note.read_text(encoding="utf-8").strip()).name if note.is_file() else ""
    if not name or not (work / name).exists():
        raise GroundTuneError(failure("xtuner train", "ended without a checkpoint", log))
    return work / name
