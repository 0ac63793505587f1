"""A merged model folder to 4-bit AWQ, by LMDeploy's own `lite auto_awq` in LMDeploy's environment."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from data.artefacts import folder_beside
from data.errors import GroundTuneError, InputError
from data.models.folder import check_model_folder


def awq_command(python: Path, model: Path, out: Path) -> list[str]:
    """Return the command; the settings are LMDeploy's own (4 bits, groups of 128), calibrated on 128 samples."""
    return [
        *(str(python), "-m", "lmdeploy", "lite", "auto_awq", str(model), "--work-dir", str(out)),
        *("--w-bits", "4", "--w-group-size", "128"),
    ]


def export_awq(
    model: Path,
    out: Path,
    python: Path,
    run: Callable[[Sequence[str]], int] = lambda command: subprocess.run(command, check=False).returncode,
) -> None:
    """Write the quantised folder `out`, whole or not at all.

    Raises:
        InputError: the model is damaged, or `python` is not there.
        GroundTuneError: LMDeploy failed, as it does without a CUDA device.
    """
    check_model_folder(model)
    if not python.is_file():
        raise InputError(
            f"{python}: no such interpreter; AWQ export needs LMDeploy's environment (give its python with --python)"
        )
    with folder_beside(out) as beside:
        status = run(awq_command(python, model, beside))
        if status or not (beside / "config.json").is_file():
            raise GroundTuneError(
                f"lmdeploy lite auto_awq ended with status {status}; it needs a CUDA device and LMDeploy in "
                f"{python}; for a CPU, export --format gguf --type q4_0"
            )
