"""What an engine's caller has to know of a model folder before the engine opens it."""

from __future__ import annotations

import json
from pathlib import Path

from data.errors import InputError

_DEFAULT_POSITIONS = 4096


def longest_sequence(model: Path) -> int:
    """Return the longest sequence, in tokens, that the model was made for.

    Raises:
        InputError: the folder is not a model that transformers can open.
    """
    path = model / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        return int(config.get("max_position_embeddings") or _DEFAULT_POSITIONS)
    except FileNotFoundError:
        raise InputError(
            f"{model}: not a model folder (no config.json); name one, or fetch it first"
        ) from None
    except (ValueError, TypeError, AttributeError, OSError) as error:
        raise InputError(f"{path}: not readable as a model configuration ({error})") from error


def tokenizer_of(model: Path) -> Path | None:
    """Return the folder's tokenizer.json, None where there is none."""
    path = model / "tokenizer.json"
    return path if path.is_file() else None
