"""A merged model or an adapter to a model hub: what goes, its card, and the upload.

Only the model's own files go: never the dataset, GroundTune's manifests or logs, and no file that names a folder
of this machine.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from data.artefacts import write_text
from data.errors import GroundTuneError, InputError
from data.manifest import read_manifest

_SUFFIXES = (".safetensors", ".json", ".jinja", ".txt", ".model", ".tiktoken")
_NEVER = ("groundtune.json", "README.md")
_CARD = "README.md"


@dataclass(frozen=True)
class PlannedFile:
    """A file that would go, and its size."""

    name: str
    size_bytes: int


@dataclass(frozen=True)
class Plan:
    """What an upload of `folder` consists of."""

    folder: Path
    files: tuple[PlannedFile, ...]
    card: str


class Hub(Protocol):
    """A place for models."""

    def upload(self, model_id: str, folder: Path, *, private: bool) -> str:
        """Create the repository if need be, upload all of `folder` to it, and return its address."""


def plan_push(
    folder: Path, dataset: Path, license_id: str | None, private_roots: Sequence[Path] = ()
) -> Plan:
    """Decide what of a merged model or adapter goes, and write its card.

    Args:
        private_roots: folders of this machine that no uploaded text may name.

    Raises:
        InputError: neither a merged model nor an adapter, or a file names a folder of this machine.
    """
    is_adapter = (folder / "adapter_config.json").is_file()
    if not is_adapter and not (folder / "config.json").is_file():
        raise InputError(
            f"{folder}: neither a merged model nor an adapter; run `groundtune train merge` first"
        )
    paths = [
        path
        for path in sorted(folder.iterdir())
        if path.is_file() and path.suffix in _SUFFIXES and path.name not in _NEVER
    ]
    if not any(path.suffix == ".safetensors" for path in paths):
        raise InputError(f"{folder}: holds no weights in safetensors")
    for path in paths:
        _require_impersonal(path, private_roots)
    card = _card(folder, dataset, license_id, is_adapter=is_adapter)
    files = [PlannedFile(path.name, path.stat().st_size) for path in paths]
    return Plan(folder, (*files, PlannedFile(_CARD, len(card.encode()))), card)


def push(plan: Plan, model_id: str, hub: Hub, *, private: bool) -> str:
    """Upload the plan's files and the card, in one go; returns the repository's address."""
    with tempfile.TemporaryDirectory(prefix="groundtune-push-") as name:
        staged = Path(name)
        for item in plan.files:
            if item.name != _CARD:
                (staged / item.name).symlink_to((plan.folder / item.name).resolve())
        write_text(staged / _CARD, plan.card)
        return hub.upload(model_id, staged, private=private)


def _require_impersonal(path: Path, private_roots: Sequence[Path]) -> None:
    if path.suffix == ".safetensors":
        return
    text = path.read_text(encoding="utf-8", errors="replace")
    for root in private_roots:
        if len(root.parts) > 1 and f"{root}/" in text:
            raise InputError(
                f"{path}: names {root}, a folder of this machine; remove it from the file before the upload"
            )


def _card(folder: Path, dataset: Path, license_id: str | None, *, is_adapter: bool) -> str:
    manifest = read_manifest(folder)
    facts: dict[str, Any] = dict(manifest.facts) if manifest else {}
    # A merged folder's manifest names its adapter's folder, which lies beside it and knows of the training.
    trained = read_manifest(folder.parent / str(facts.get("adapter", "adapter")))
    if not is_adapter and trained is not None and trained.kind == "adapter":
        facts = {**trained.facts, **facts}
    rows = read_manifest(dataset)
    if rows is not None and "num_rows" in rows.facts:
        facts["num_rows"] = rows.facts["num_rows"]
    base = str(facts.pop("base", "unknown"))
    facts.pop("adapter", None)
    head = [f"license: {license_id}"] if license_id else []
    head += [
        "library_name: peft" if is_adapter else "library_name: transformers",
        "pipeline_tag: text-generation",
    ]
    what = "A LoRA adapter" if is_adapter else "A LoRA adapter, merged into its base model,"
    return "\n".join(
        [
            *("---", *head, "---", f"# {base}, fine-tuned", ""),
            f"{what} trained by GroundTune on question-and-answer rows; the rows are not part of this repository.",
            *("", f"- base model: {base}", *_lines(facts)),
            *("", "Use is under the base model's license as well." if base != "unknown" else "", ""),
        ]
    )


def _lines(facts: Mapping[str, Any]) -> list[str]:
    return [f"- {name.replace('_', ' ')}: {value}" for name, value in facts.items()]


class HuggingFaceHub:
    """huggingface.co, or where $HF_ENDPOINT points; the token is the library's own ($HF_TOKEN, or its login)."""

    def __init__(self, api: Any = None) -> None:
        self._api = api

    def upload(self, model_id: str, folder: Path, *, private: bool) -> str:
        """See Hub."""
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

        api = self._api or HfApi()
        try:
            url = api.create_repo(model_id, private=private, exist_ok=True)
            api.upload_folder(repo_id=model_id, folder_path=str(folder), commit_message="Model and card")
        except (HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled, OSError) as error:
            raise GroundTuneError(
                f"hf:{model_id}: the upload failed ({' '.join(str(error).split())})"
            ) from error
        return str(url)


class ModelScopeHub:
    """modelscope.cn, through its own library, which is no dependency."""

    def upload(self, model_id: str, folder: Path, *, private: bool) -> str:
        """See Hub."""
        try:
            from modelscope.hub.api import HubApi
        except ImportError:
            raise GroundTuneError(
                f"modelscope:{model_id}: the package modelscope is not installed; `pip install modelscope`"
            ) from None
        api: Any = HubApi()
        api.create_repo(model_id, exist_ok=True, visibility="private" if private else "public")
        api.upload_folder(repo_id=model_id, folder_path=str(folder), commit_message="Model and card")
        return f"https://modelscope.cn/models/{model_id}"
