"""Weights out of torch.save files and DeepSpeed's ZeRO folders, without DeepSpeed and without running a pickle.

A pickle may name any function to be called. torch.load(weights_only=True) calls none but those that rebuild
tensors and plain containers; what else XTuner's files name is listed below, and anything further is refused.

DeepSpeed's layout (zero stages 1 and 2): every rank keeps its part of one flat float32 vector a parameter group;
the parts in rank order, then padding, hold the group's parameters in the order of `param_shapes`. In stage 3
every parameter is cut into equal parts of its own, one a rank, the last padded.
"""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from data.errors import InputError

_OPTIMIZER = "optimizer_state_dict"
_STAGES = {"disabled": 0, "optimizer_states": 1, "gradients": 2, "weights": 3, "max_stage": 3}
_RANK = re.compile(r"zero_pp_rank_(\d+)_mp_rank_")


class Opaque:
    """Stands for an object or function of the file that is not needed: takes anything and does nothing with it."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.arguments = args

    def __setstate__(self, state: object) -> None:
        """Drop the state."""

    def __setitem__(self, key: object, value: object) -> None:
        """Drop the item."""

    def append(self, value: object) -> None:
        """Drop the value."""


# What XTuner's checkpoints name beside tensors, for settings, counters and the log's history. None of it is
# called or even imported, getattr least of all: Opaque stands in its place.
_NOT_NEEDED = (
    "builtins.getattr",
    "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler",
    "deepspeed.runtime.fp16.loss_scaler.LossScaler",
    "deepspeed.runtime.zero.config.ZeroStageEnum",
    "deepspeed.utils.tensor_fragment.fragment_address",
    "mmengine.config.config.ConfigDict",
    "mmengine.logging.history_buffer.HistoryBuffer",
    "numpy.dtype",
    "numpy.ndarray",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
)


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """Return name to tensor of everything that was trained.

    Raises:
        InputError: not there, incomplete, or a pickle that asks for more than tensors.
    """
    if path.is_file():
        loaded = load_tensors(path)
        state = loaded.get("state_dict", loaded) if isinstance(loaded, Mapping) else {}
        return {str(name): value for name, value in state.items() if isinstance(value, torch.Tensor)}
    if not path.is_dir():
        raise InputError(f"{path}: no such checkpoint; give XTuner's iter_N.pth or epoch_N.pth")
    return _read_zero_folder(path)


def load_tensors(path: Path) -> Any:
    """Return what torch.save wrote, if it is tensors and plain values.

    Raises:
        InputError: a pickle that names any other function or class; it was not called.
    """
    try:
        with torch.serialization.safe_globals([(Opaque, name) for name in _NOT_NEEDED]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=False)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error)) or re.search(r"callable\s+([\w.]+)", str(error))
        what = f" (it names {named[1]})" if named else ""
        raise InputError(
            f"{path}: its pickle asks for more than tensors{what}, which could run code; refused, nothing was run"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not readable as a file of torch.save ({_line(error)})") from error


def _read_zero_folder(folder: Path) -> dict[str, torch.Tensor]:
    models = sorted(folder.glob("*_model_states.pt"), key=_rank)
    optimizers = sorted(folder.glob("*_optim_states.pt"), key=_rank)
    if not models:
        raise InputError(f"{folder}: no *_model_states.pt in it; give DeepSpeed's checkpoint folder")
    states = load_tensors(models[0])
    if not isinstance(states, Mapping):
        raise InputError(f"{models[0]}: not DeepSpeed's model states")
    module = states.get("module")
    if not optimizers:
        return {k: v for k, v in (module or {}).items() if isinstance(v, torch.Tensor)}
    loaded = [_zero_state(path) for path in optimizers]
    stage, count = loaded[0]["zero_stage"], loaded[0]["partition_count"]
    num_ranks = max(count) if isinstance(count, Sequence) else count
    if num_ranks != len(loaded):
        raise InputError(
            f"{folder}: trained by {num_ranks} processes, and holds the optimizer states of {len(loaded)}; "
            "copy every *_optim_states.pt there"
        )
    shapes = states.get("param_shapes")
    if not isinstance(shapes, Sequence) or not shapes:
        raise InputError(f"{models[0]}: has no param_shapes; not a ZeRO checkpoint")
    try:
        if stage >= 3:
            return _join_stage_3(shapes, [state["fp32_flat_groups"] for state in loaded])
        return _join_groups(shapes, [state["single_partition_of_fp32_groups"] for state in loaded])
    except (KeyError, RuntimeError, IndexError, TypeError, ValueError) as error:
        raise InputError(f"{folder}: its parts do not fit together ({_line(error)})") from error


def _zero_state(path: Path) -> dict[str, Any]:
    loaded = load_tensors(path)
    state = loaded.get(_OPTIMIZER) if isinstance(loaded, Mapping) else None
    if not isinstance(state, dict) or not {"zero_stage", "partition_count"} <= state.keys():
        raise InputError(f"{path}: not the optimizer states of a ZeRO training")
    return {**state, "zero_stage": _stage_number(state["zero_stage"], path)}


def _stage_number(stage: object, path: Path) -> int:
    """Return the number of DeepSpeed's ZeroStageEnum, which some Pythons (3.11.2) pickle by name, others by value."""
    named = stage.arguments[-1] if isinstance(stage, Opaque) and stage.arguments else stage
    found = _STAGES.get(named) if isinstance(named, str) else named
    if not isinstance(found, int):
        raise InputError(f"{path}: of an unknown ZeRO stage ({named!r})")
    return found


def _join_groups(
    shapes: Sequence[Mapping[str, Sequence[int]]], ranks: Sequence[Sequence[torch.Tensor]]
) -> dict[str, torch.Tensor]:
    found = {}
    for number, group in enumerate(shapes):
        flat = torch.cat([rank[number].flatten() for rank in ranks])
        offset = 0
        for name, shape in group.items():
            size = math.prod(shape)
            found[name] = flat.narrow(0, offset, size).view(*shape)
            offset += size
        # Padded to a multiple of 2 a rank.
        if flat.numel() - offset >= 2 * len(ranks):
            raise ValueError(f"{flat.numel() - offset} values are left over")
    return found


def _join_stage_3(
    shapes: Sequence[Mapping[str, Sequence[int]]], ranks: Sequence[Sequence[torch.Tensor]]
) -> dict[str, torch.Tensor]:
    parts = [torch.cat([part.flatten() for part in rank]) for rank in ranks]
    found, offset = {}, 0
    for name, shape in _items(shapes):
        size = math.prod(shape)
        share = math.ceil(size / len(parts))
        joined = torch.cat([part.narrow(0, offset, share) for part in parts])
        found[name] = joined[:size].view(*shape)
        offset += share
    return found


def _items(shapes: Iterable[Mapping[str, Sequence[int]]]) -> Iterable[tuple[str, Sequence[int]]]:
    for group in shapes:
        yield from group.items()


def _rank(path: Path) -> int:
    match = _RANK.search(path.name)
    return int(match[1]) if match else -1


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
