"""Rank, alpha and dropout out of an XTuner configuration file, which is a Python program: read as text, never run."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from data.errors import InputError

# What makes a scale other than alpha / rank, or trains more than A and B.
_OTHER = ("use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "modules_to_save", "fan_in_fan_out")


@dataclass(frozen=True)
class LoraSettings:
    """`base` is the base model's name, without its folder."""

    rank: int
    alpha: float
    dropout: float
    base: str


def read_lora_settings(path: Path) -> LoraSettings:
    """Return what the file's `lora=dict(type=LoraConfig, ...)` says.

    Raises:
        InputError: not readable, or it says it in another way than as plain values.
    """
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: not readable as a configuration of XTuner ({error})") from error
    constants = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    calls = [
        {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict"
    ]
    loras = [call for call in calls if _type_name(call.get("type")) == "LoraConfig"]
    if len(loras) != 1:
        raise InputError(f"{path}: expected one lora=dict(type=LoraConfig, ...), found {len(loras)}")

    def value(name: str, default: Any) -> Any:
        node = loras[0].get(name)
        if isinstance(node, ast.Name):
            node = constants.get(node.id, node)
        if node is None:
            return default
        try:
            return ast.literal_eval(node)
        except ValueError:
            raise InputError(f"{path}: lora's {name} is no plain value; write it as a number") from None

    for name in _OTHER:
        if value(name, None):
            raise InputError(
                f"{path}: lora sets {name}; only plain LoRA is converted here, use XTuner for this"
            )
    if value("bias", "none") != "none":
        raise InputError(
            f"{path}: lora trains biases; only plain LoRA is converted here, use XTuner for this"
        )
    rank, alpha, dropout = value("r", 8), value("lora_alpha", 8), value("lora_dropout", 0.0)
    if not isinstance(rank, int) or rank < 1 or not all(isinstance(v, int | float) for v in (alpha, dropout)):
        raise InputError(f"{path}: lora's r, lora_alpha and lora_dropout must be numbers")
    return LoraSettings(rank, alpha, float(dropout), _base_name(constants))


def _type_name(node: ast.expr | None) -> str:
    if isinstance(node, ast.Name):
        return node.id
    return (
        node.value.rsplit(".", 1)[-1]
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        else ""
    )


def _base_name(constants: dict[str, ast.expr]) -> str:
    node = constants.get("pretrained_model_name_or_path")
    text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
    return PurePosixPath(text).name
