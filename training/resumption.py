"""What a run is told of a checkpoint that lies in its place: one of other inputs is not gone on from, and says so.

An unfinished one is moved aside rather than overwritten: it may hold hours.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.artefacts import digest_of
from training.checkpoint import read_state
from training.packing import Pack

# These decide how a step is computed, not what it computes: another one goes on, with other rounding.
_ARITHMETIC = ("device", "dtype", "attention", "liger")
_WHAT = {
    "base": "another base model",
    "train.jsonl": "another train.jsonl",
    "held_out": "other held-out rows",
    "packs": "rows packed otherwise",
}


def packs_digest(packs: Sequence[Pack]) -> str:
    """Return the digest of what the steps are made of; another tokenizer, template or attention changes it."""
    return digest_of([[pack.ids[0].tolist(), pack.lengths] for pack in packs])


def notices_of_checkpoint(folder: Path, inputs: Mapping[str, str], settings: Mapping[str, Any]) -> list[str]:
    """Compare the checkpoint in `folder` with what is to be trained now; return what the user should know.

    An unfinished checkpoint of other inputs is moved to `<folder>.set-aside`, in the place of an earlier one.
    """
    found = read_state(folder)
    if found is None:
        return []
    changes = setting_changes(found.get("settings", {}), settings)
    done = len(found.get("history", ()))
    if found.get("inputs") == dict(inputs):
        changed = [changes[key] for key in _ARITHMETIC if key in changes]
        if not changed or found.get("is_finished", True):
            return []
        return [f"{folder}: goes on after step {done} with {', '.join(changed)}: rounding differs from there"]
    other = [
        text
        for name, text in _WHAT.items()
        if found.get("inputs", {}).get(name) != inputs.get(name) and name in inputs
    ]
    reasons = ", ".join([*changes.values(), *other]) or "other inputs"
    if found.get("is_finished", True):
        return [f"{folder}: was trained with {reasons}; training begins anew"]
    aside = folder.with_name(f"{folder.name}.set-aside")
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)
    return [
        f"{folder}: an unfinished training of {done} steps was begun with {reasons}; training begins anew. It is "
        f"kept as {aside.name}: to go on with it, put that back and rename it to {folder.name}"
    ]


def setting_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """Return by key what of the recorded settings is otherwise now, as "lora_rank 16 (now 8)"."""
    changes: dict[str, str] = {}
    for key, value in now.items():
        if key not in before or before[key] == value:
            continue
        if isinstance(value, dict) and isinstance(before[key], dict):
            below = setting_changes(before[key], value)
            changes |= {f"{key}.{name}": f"{key}.{text}" for name, text in below.items()}
        else:
            changes[key] = f"{key} {before[key]!r} (now {value!r})"
    return changes
