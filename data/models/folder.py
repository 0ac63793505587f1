"""Model folders: from what a user writes to a folder that can be loaded, and what is wrong if it cannot.

A check costs milliseconds: it reads headers, not weights. Loads nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.errors import InputError
from data.models.sources import LocalFolder, parse_source, source_folder
from data.models.weights import INDEX_FILE, SINGLE_FILE, read_header
from data.workspace import Workspace

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "spiece.model",
    "vocab.json",
    "vocab.txt",
    "*.tiktoken",
)
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def resolve_model(workspace: Workspace, reference: str) -> Path:
    """Return the checked folder of a catalogue name, hub reference or path.

    Raises:
        InputError: unknown, not fetched yet, or not a model folder that can be loaded.
    """
    source = parse_source(reference)
    folder = source_folder(workspace, source)
    if not isinstance(source, LocalFolder) and not folder.is_dir():
        raise InputError(f"model {reference!r} is not fetched; run `groundtune models fetch {reference}`")
    check_model_folder(folder)
    return folder


def check_model_folder(folder: Path) -> None:
    """Check that `folder` has a configuration, a tokenizer and whole weights in safetensors.

    Raises:
        InputError: naming the file that is missing or damaged, and the fix.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise InputError(f"{folder}: a LoRA adapter, not a whole model; merge it into its base first")
        raise InputError(f"{folder}: config.json is missing; give a Hugging Face model folder")
    if "model_type" not in _read_object(folder / "config.json"):
        raise InputError(f"{folder / 'config.json'}: 'model_type' is missing; fetch or copy the file again")
    if not any(any(folder.glob(pattern)) for pattern in _TOKENIZER_FILES):
        raise InputError(f"{folder}: no tokenizer (tokenizer.json or tokenizer.model); copy it there")
    for path in weight_files(folder):
        if not path.is_file():
            raise InputError(f"{path}: missing, though {INDEX_FILE} names it; fetch or copy it again")
        read_header(path)


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files that make up the model, by name; they may be missing.

    Raises:
        InputError: the folder has neither model.safetensors nor an index of shards.
    """
    index = folder / INDEX_FILE
    if index.is_file():
        names = _read_object(index).get("weight_map")
        if (
            not isinstance(names, dict)
            or not names
            or not all(_is_file_name(name) for name in names.values())
        ):
            raise InputError(f"{index}: 'weight_map' is not a table of tensors and files; fetch it again")
        return [folder / name for name in sorted(set(names.values()))]
    if (folder / SINGLE_FILE).is_file():
        return [folder / SINGLE_FILE]
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        raise InputError(
            f"{folder}: the weights are pickles only ({pickles[0]}), which can run code when they are opened; "
            "save the model as safetensors (save_pretrained) and give that folder"
        )
    raise InputError(f"{folder}: no weights ({SINGLE_FILE} or {INDEX_FILE}); fetch or copy them again")


def weights_bytes(folder: Path) -> int:
    """Return the size of the model's weights on disk."""
    return sum(path.stat().st_size for path in weight_files(folder))


@dataclass(frozen=True)
class WeightsSummary:
    """`dtype` as safetensors writes it (BF16, F32 ...): that of most values."""

    num_parameters: int
    dtype: str


def summarise_weights(folder: Path) -> WeightsSummary:
    """Count the values in the headers of the model's weights."""
    values: dict[str, int] = {}
    for path in weight_files(folder):
        for entry in read_header(path).values():
            values[entry["dtype"]] = values.get(entry["dtype"], 0) + math.prod(entry["shape"])
    return WeightsSummary(sum(values.values()), max(values, key=lambda dtype: values[dtype], default=""))


def _is_file_name(name: Any) -> bool:
    return isinstance(name, str) and bool(name) and Path(name).name == name


def _read_object(path: Path) -> Mapping[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as JSON ({error}); fetch or copy it again") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object; fetch or copy it again")
    return value
