"""Starts the processes of this machine that train together, and shows how far they are.

Loads neither torch nor the model. What the processes print is in RUN/logs/train.log, and of those after the
first in RUN/logs/train.N.log. A process that torchrun or DeepSpeed's launcher started is one of a group already.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from data.errors import InputError
from data.workspace import Run
from training.child import run_child
from training.config import TrainSection

# torchrun and DeepSpeed's launcher set all of these, and so do training.ranks and this module.
_PLACE = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_DEEPSPEED = ("0.16.2", "0.19.6")
_STEP = re.compile(r"training: step (\d+)/(\d+), (loss .*)")
_TOLD = ("evaluation: ", "note: ", "warning: ")
_PLAIN_EVERY_STEPS = 10
# The last line of a process that is the first of its node: what there is to say of the adapter.
FACTS = "trained: "


def is_launched(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether a launcher started this process as one of a group."""
    return all(environment.get(name) for name in _PLACE)


def is_main(config: TrainSection, environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether it is for this process to write what belongs to the run."""
    rank = environment["RANK"] if is_launched(environment) else "0"
    return rank == "0" and config.distributed.node_rank == 0


def require_deepspeed(config: TrainSection) -> None:
    """Check that DeepSpeed is there where the settings ask for it; does not import it.

    Raises:
        InputError: it is not installed, or its version is one that this project does not know.
    """
    stage = config.distributed.zero_stage
    if not stage:
        return
    try:
        found = version("deepspeed")
    except PackageNotFoundError:
        found = "none"
    first, last, here = (tuple(map(int, re.findall(r"\d+", text)[:3])) for text in (*_DEEPSPEED, found))
    if not first <= here <= last:
        raise InputError(
            f"train.distributed.zero_stage: {stage} needs deepspeed {_DEEPSPEED[0]} to {_DEEPSPEED[1]}, found "
            f"{found}; `DS_BUILD_OPS=0 pip install --no-build-isolation 'groundtune[deepspeed]'`, or set it to 0"
        )


def train_in_processes(run: Run, base: Path, config: TrainSection) -> dict[str, Any]:
    """Run `training.worker` in as many processes as the settings ask for, to their end; returns the adapter's facts.

    Raises:
        GroundTuneError: one of them failed; carries the last lines of its log. The others were ended.
    """
    shared = config.distributed
    log = run.logs / "train.log"
    log.unlink(missing_ok=True)
    worker = ["training.worker", str(run.folder.absolute()), str(base.absolute()), config.model_dump_json()]
    first = shared.node_rank * shared.num_processes
    ranks = ["training.ranks", str(shared.num_processes), str(first), str(run.logs.absolute())]
    argv = [sys.executable, "-m", *ranks, sys.executable, "-m", *worker]
    facts: dict[str, Any] = {}
    with _shown(facts) as on_line:
        run_child("training", argv, log, Path.cwd(), _environment(config), on_line)
    return facts


def _environment(config: TrainSection) -> dict[str, str]:
    shared = config.distributed
    alone = shared.num_nodes == 1
    values = {
        "WORLD_SIZE": str(shared.world_size),
        "MASTER_ADDR": "127.0.0.1" if alone else str(shared.main_address),
        "MASTER_PORT": str(_free_port() if alone else shared.main_port),
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
        # Modules are found where this process found them, whatever folder it was started in.
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    if "OMP_NUM_THREADS" not in os.environ:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        values["OMP_NUM_THREADS"] = str(max(1, cores // shared.num_processes))
    return values


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _shown(facts: dict[str, Any]) -> Iterator[Callable[[str], None]]:
    """Show the bar that one process would show; yields what to call with each line of the log."""
    console = Console(stderr=True)
    columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    bar = Progress(
        *columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, disable=not console.is_terminal
    )
    with bar:
        task = bar.add_task("training", total=None, rate="")

        def on_line(line: str) -> None:
            if step := _STEP.match(line):
                done, total = int(step[1]), int(step[2])
                bar.update(task, completed=done, total=total, rate=step[3])
                if bar.disable and (done % _PLAIN_EVERY_STEPS == 0 or done == total):
                    console.print(line, highlight=False, markup=False)
            elif line.startswith(FACTS):
                facts.update(json.loads(line.removeprefix(FACTS)))
            elif line.startswith(_TOLD):
                console.print(line, highlight=False, markup=False)

        yield on_line
