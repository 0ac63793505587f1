"""Environments of their own for what cannot live beside this project's packages, made from a lock file.

PATH/                  a link to the folder below, switched when the new one is whole
.NAME-DIGEST/          the virtual environment, with groundtune.json; it is made where it stays, because a
                       virtual environment's scripts name their own place
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path

from data.artefacts import digest_of
from data.errors import InputError
from data.manifest import is_current, write_manifest
from training.child import run_child

KIND = "environment"
_LOCK = Path(__file__).parent.parent / "requirements-xtuner.lock"
# Built from source, by a setup that imports torch.
_BUILT_LATER = ("deepspeed",)
_CHECK = """
import datasets, deepspeed, peft, torch, transformers, xtuner.tools.train, xtuner.tools.model_converters.pth_to_hf
from xtuner.engine import DeepSpeedStrategy
assert transformers.__version__ == "4.48.0", transformers.__version__
print("imports: torch", torch.__version__, "deepspeed", deepspeed.__version__)
"""


def interpreter(environment: Path) -> Path:
    """Return the environment's Python.

    Raises:
        InputError: it was not made, or not finished.
    """
    python = environment / "bin" / "python"
    if not python.is_file() or not (environment / "groundtune.json").is_file():
        raise InputError(f"{environment}: no XTuner environment; run `groundtune train env xtuner`")
    return python


def make_xtuner_environment(path: Path, log: Path, *, cuda: bool = False) -> bool:
    """Make the environment at `path` unless it is there already; returns whether work was done.

    Raises:
        InputError: no lock file, or `path` holds something else.
        GroundTuneError: a package cannot be installed, or the result does not import.
    """
    inputs = environment_inputs(cuda=cuda)
    if is_current(path, KIND, inputs) and (path / "bin" / "python").is_file():
        return False
    if path.exists() and not path.is_symlink():
        raise InputError(f"{path}: holds something that `train env` did not make; remove it or give --path")
    folder = path.with_name(f".{path.name}-{digest_of(inputs)[:12]}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    try:
        _install(folder, log, cuda=cuda)
        write_manifest(
            folder, KIND, inputs, {"name": "xtuner"}, unrecorded=[p.name for p in folder.iterdir()]
        )
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    retired = path.resolve() if path.is_symlink() else None
    beside = path.with_name(f".{path.name}.partial")
    beside.unlink(missing_ok=True)
    beside.symlink_to(folder.name)
    beside.replace(path)
    if retired is not None and retired != folder.resolve() and retired.parent == folder.resolve().parent:
        shutil.rmtree(retired, ignore_errors=True)
    return True


def environment_inputs(*, cuda: bool) -> dict[str, str]:
    """Return what decides the environment: the lock, this Python, and whether torch brings CUDA along."""
    if not _LOCK.is_file():
        raise InputError(f"{_LOCK}: not there; run from a clone of GroundTune, which has it")
    return {
        "lock": hashlib.sha256(_LOCK.read_bytes()).hexdigest(),
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "torch": "cuda" if cuda else "cpu",
    }


def _install(folder: Path, log: Path, *, cuda: bool) -> None:
    lines = [line for line in _LOCK.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    later = [line for line in lines if line.partition("==")[0] in _BUILT_LATER]
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", "--no-compile"]
    pip += ["--disable-pip-version-check"]
    quiet = {"DS_BUILD_OPS": "0", "PYTHONPATH": ""}

    def step(argv: list[str]) -> None:
        run_child("train env xtuner", argv, log, folder.parent, quiet)

    step([sys.executable, "-m", "venv", str(folder)])
    step([*pip, "--no-deps", *(line for line in lines if line not in later)])
    if cuda:
        # The CUDA libraries come as needs of torch, and 4-bit weights need bitsandbytes.
        step([*pip, *(line for line in lines if line.startswith("torch==")), "bitsandbytes>=0.45,<1"])
    step([*pip, "--no-deps", "--no-build-isolation", *later])
    step([str(folder / "bin" / "python"), "-W", "ignore", "-c", _CHECK])
