"""The base model as transformers 4.48 must find it: the same weights under a configuration in its words.

transformers 5 writes `rope_parameters` and `dtype`, which 4.48 ignores: it would train with rope_theta 10000 in
another dtype, and say nothing. The weights are linked; code and `auto_map` of the folder are left out, so that
XTuner's trust_remote_code finds none to run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from data.artefacts import folder_beside, write_json
from data.errors import InputError
from data.models.folder import weight_files
from data.models.weights import INDEX_FILE

_COPIED = (
    "generation_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.json", "vocab.json",
    "merges.txt", "tokenizer.model",
)  # fmt: skip
_TOKENIZER_CLASSES = {"qwen2": "Qwen2Tokenizer"}
# Newer names of what 4.48 calls otherwise.
_PLAIN_FAST = "PreTrainedTokenizerFast"


def write_base_view(base: Path, out: Path) -> None:
    """Write a folder at `out` that transformers 4.48 loads as transformers 5 loads `base`.

    Raises:
        InputError: the configuration scales rotary positions in a way that 4.48 has no words for.
    """
    with folder_beside(out) as beside:
        for path in [*weight_files(base), base / INDEX_FILE]:
            if path.is_file():
                (beside / path.name).symlink_to(path.resolve())
        for name in _COPIED:
            if (base / name).is_file():
                (beside / name).symlink_to((base / name).resolve())
        config = _read(base / "config.json")
        write_json(beside / "config.json", older_config(config))
        write_json(beside / "tokenizer_config.json", _tokenizer_config(base, config))


def older_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return config.json in the words of transformers 4.48."""
    older = {
        key: value for key, value in config.items() if key not in ("rope_parameters", "dtype", "auto_map")
    }
    if "dtype" in config:
        older["torch_dtype"] = config["dtype"]
    rope = config.get("rope_parameters")
    if isinstance(rope, dict):
        if any(isinstance(value, dict) for value in rope.values()):
            raise InputError(
                "config.json: rope_parameters differ by layer, which transformers 4.48 (XTuner) cannot express; "
                "train this model with --backend peft"
            )
        rest = {key: value for key, value in rope.items() if key != "rope_theta"}
        older["rope_theta"] = rope.get("rope_theta", config.get("rope_theta", 10000.0))
        older["rope_scaling"] = None if rest.get("rope_type", "default") == "default" else rest
    return older


def _tokenizer_config(base: Path, config: dict[str, Any]) -> dict[str, Any]:
    path = base / "tokenizer_config.json"
    tokenizer = _read(path) if path.is_file() else {}
    tokenizer.pop("auto_map", None)
    named = str(tokenizer.get("tokenizer_class", ""))
    if named in ("", "TokenizersBackend") or config.get("model_type") in _TOKENIZER_CLASSES:
        tokenizer["tokenizer_class"] = _TOKENIZER_CLASSES.get(str(config.get("model_type")), _PLAIN_FAST)
    # A list in transformers 5, a table of names in 4.
    if isinstance(tokenizer.get("extra_special_tokens"), list):
        tokenizer["additional_special_tokens"] = tokenizer.pop("extra_special_tokens")
    template = base / "chat_template.jinja"
    if "chat_template" not in tokenizer and template.is_file():
        tokenizer["chat_template"] = template.read_text(encoding="utf-8")
    return tokenizer


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as JSON ({error}); fetch or copy it again") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object; fetch or copy it again")
    return value
