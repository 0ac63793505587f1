"""The merged weights against base + s·B·A, tensor by tensor, without loading a model.

Where they differ, the factor k in merged - base = k · s·B·A, fitted by least squares, says what was done: 0 not
merged, 2 merged twice, anything else another LoRA alpha. What no factor explains is another adapter or another
base. One matrix in float32 and its product are the most that is in memory.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import safe_open

from training.lora_adapter import CONFIG_FILE, LoraDelta, read_adapter, read_adapter_config
from training.shards import StoredTensor, stored_tensors

Verdict = Literal["equal", "unmerged", "twice", "scaled", "unexplained"]

_FACTOR_TOLERANCE = 0.02
# Of the change's energy, how much may be left over beside what rounding the sum to the stored type explains.
_LEFT_OVER = 1e-3
_ROUNDING_SLACK = 4.0


@dataclass(frozen=True)
class Adapted:
    """What became of one adapted matrix; `factor` is k in merged - base = k · s·B·A."""

    name: str
    verdict: Verdict
    factor: float


@dataclass(frozen=True)
class TensorReport:
    """What the comparison of two folders' tensors found.

    `foreign` names tensors that the adapter leaves alone and that differ all the same; `missing` those that one
    folder has and the other lacks; `retyped` those of another dtype or shape, with both.
    """

    num_tensors: int
    adapted: tuple[Adapted, ...]
    foreign: tuple[str, ...]
    missing: tuple[str, ...]
    retyped: tuple[str, ...]

    @property
    def wrong(self) -> list[Adapted]:
        """The adapted matrices that are not base + s·B·A."""
        return [item for item in self.adapted if item.verdict != "equal"]


def compare_tensors(
    base: Path, adapter: Path, merged: Path, on_tensor: Callable[[int, int], None] = lambda done, total: None
) -> TensorReport:
    """Compare every tensor of the merged folder with what base and adapter make of it.

    Raises:
        InputError: a file is missing, cut short, or the adapter is not plain LoRA.
    """
    deltas = read_adapter(adapter)
    before = {tensor.name: tensor for tensor in stored_tensors(base)}
    after = {tensor.name: tensor for tensor in stored_tensors(merged)}
    adapted, foreign, retyped = [], [], []
    shared = [name for name in before if name in after]
    for number, name in enumerate(shared, start=1):
        one, two = before[name], after[name]
        delta = deltas.get(name.removesuffix(".weight"))
        if (one.dtype, one.shape) != (two.dtype, two.shape):
            retyped.append(f"{name}: {one.dtype} {_shape(one)} in the base, {two.dtype} {_shape(two)} merged")
        elif delta is not None and delta.shape == one.shape:
            adapted.append(_judge(name, _read(one), _read(two), delta))
        elif not torch.equal(_read(one).view(torch.uint8), _read(two).view(torch.uint8)):
            foreign.append(name)
        on_tensor(number, len(shared))
    return TensorReport(
        len(shared),
        tuple(adapted),
        tuple(foreign),
        tuple(sorted(before.keys() ^ after.keys())),
        tuple(retyped),
    )


def _shape(tensor: StoredTensor) -> str:
    return "x".join(map(str, tensor.shape))


def _read(tensor: StoredTensor) -> torch.Tensor:
    with safe_open(tensor.path, "pt") as file:
        values: torch.Tensor = file.get_tensor(tensor.name)
    return values if values.ndim else values.reshape(1)


def _judge(name: str, before: torch.Tensor, after: torch.Tensor, delta: LoraDelta) -> Adapted:
    step = delta.product().mul_(delta.scale)
    wide = before.float()
    if torch.equal((wide + step).to(before.dtype), after):
        return Adapted(name, "equal", 1.0)
    change = after.float() - wide
    energy = float(step.square().sum(dtype=torch.float64))
    factor = float((change * step).sum(dtype=torch.float64)) / energy if energy else 0.0
    left_over = float((change - factor * step).square().sum(dtype=torch.float64))
    # A value rounded to p bits is off by a uniform amount within half a step of 2^-p to 2^(1-p) of it.
    rounding = float((torch.finfo(before.dtype).eps * after.float()).square().sum(dtype=torch.float64)) / 12
    changed = float(change.square().sum(dtype=torch.float64))
    if not left_over <= _ROUNDING_SLACK * rounding + _LEFT_OVER * changed:  # also where it is not a number
        return Adapted(name, "unexplained", factor)
    if abs(factor - 1) <= _FACTOR_TOLERANCE:
        return Adapted(name, "equal", factor)  # added on another device: off by a last bit here and there
    if abs(factor) <= _FACTOR_TOLERANCE:
        return Adapted(name, "unmerged", factor)
    if abs(factor - 2) <= _FACTOR_TOLERANCE and _added_twice(wide, step, after):
        return Adapted(name, "twice", factor)
    return Adapted(name, "scaled", factor)


def _added_twice(before: torch.Tensor, step: torch.Tensor, after: torch.Tensor) -> bool:
    """Tell two additions, each rounded, from one of twice the size, which is what twice the alpha gives."""
    twice = ((before + step).to(after.dtype).float() + step).to(after.dtype)
    at_once = (before + 2 * step).to(after.dtype)
    return int((twice == after).sum()) >= int((at_once == after).sum())


def merge_fault(report: TensorReport, adapter: Path) -> str | None:
    """Say in a sentence what is wrong with the merged matrices, or None where nothing is."""
    wrong = report.wrong
    if not wrong:
        return None
    verdict, count = Counter(item.verdict for item in wrong).most_common(1)[0]
    first = next(item for item in wrong if item.verdict == verdict)
    where = f"{count} of {len(report.adapted)} adapted matrices (first {first.name})"
    factor = statistics.median(item.factor for item in wrong if item.verdict == verdict)
    if verdict == "unmerged":
        return f"the adapter is not merged in {where}: they equal the base's; merge it again"
    if verdict == "twice":
        return (
            f"the adapter was merged twice: {where} are base + 2·s·B·A, rounded after each; merge it once, into "
            "the base it was trained on"
        )
    if verdict == "scaled":
        alpha = read_adapter_config(adapter)["lora_alpha"]
        return (
            f"wrong LoRA alpha: {where} are base + {factor:.3f}·s·B·A, as with lora_alpha {alpha * factor:.3g} "
            f"where {CONFIG_FILE} says {alpha}; merge again "
            "with the adapter as it was trained"
        )
    return (
        f"{where} are not base + k·s·B·A for any k: another adapter or another base was merged; merge again"
    )


def facts_of(report: TensorReport) -> Mapping[str, object]:
    """Return the report's figures for parity.json."""
    return {
        "num_tensors": report.num_tensors,
        "num_adapted": len(report.adapted),
        "num_adapted_wrong": len(report.wrong),
        "num_foreign": len(report.foreign),
        "median_factor": statistics.median(item.factor for item in report.adapted)
        if report.adapted
        else None,
    }
