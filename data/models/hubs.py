"""Repositories of the Hugging Face hub and of ModelScope, fetched through their own clients.

Only safetensors weights, configurations and tokenizers are asked for: no pickles and no Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from data.errors import InputError
from data.models.capacity import require_disk
from data.models.sources import HubModel

ALLOWED = (
    "*.safetensors",
    "*.json",
    "*.jinja",
    "*.model",
    "*.tiktoken",
    "vocab.txt",
    "merges.txt",
    "LICENSE*",
)
# Other frameworks' and other precisions' copies that some repositories keep in folders beside the model.
IGNORED = ("onnx/*", "openvino/*", "original/*", "*.bin", "*.pt", "*.py")


@dataclass(frozen=True)
class HubSnapshot:
    """What came: the revision that it is, and the licence that the repository names."""

    revision: str
    license: str | None


def download_repository(model: HubModel, folder: Path, endpoint: str | None = None) -> HubSnapshot:
    """Bring the repository's files into `folder`; files that are there already are not fetched again.

    `endpoint` is the Hugging Face hub's address; None is the client's own setting.

    Raises:
        InputError: no such repository or revision, no network, or the hub's client is not installed.
    """
    if model.hub == "hf":
        return _from_hugging_face(model, folder, endpoint)
    return _from_modelscope(model, folder)


def _from_hugging_face(model: HubModel, folder: Path, endpoint: str | None) -> HubSnapshot:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    api = HfApi(endpoint=endpoint)
    try:
        info = api.model_info(model.repository, revision=model.revision, files_metadata=True)
        files = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        wanted = [name for name in files if _matches(name, ALLOWED) and not _matches(name, IGNORED)]
        if not any(name.endswith(".safetensors") for name in wanted):
            raise InputError(
                f"{model}: the repository has no safetensors weights; choose one that has, or convert a copy "
                "and give its folder"
            )
        require_disk(folder, sum(files[name] for name in wanted), f"fetching {model}")
        revision = info.sha or model.revision or "main"
        api.snapshot_download(
            model.repository,
            revision=revision,
            local_dir=folder,
            allow_patterns=list(ALLOWED),
            ignore_patterns=list(IGNORED),
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise InputError(
            f"{model}: {_first_line(error)}; check the name, the network and HF_TOKEN"
        ) from error
    return HubSnapshot(revision, getattr(info.card_data, "license", None))


def _from_modelscope(model: HubModel, folder: Path) -> HubSnapshot:
    try:
        from modelscope.hub.snapshot_download import snapshot_download
    except ImportError as error:
        raise InputError(f"{model}: ModelScope's client is missing; `pip install modelscope`") from error
    try:
        snapshot_download(
            model.repository,
            revision=model.revision,
            local_dir=str(folder),
            allow_patterns=list(ALLOWED),
            ignore_patterns=list(IGNORED),
        )
    except Exception as error:  # its client raises requests', its own and bare exceptions alike
        raise InputError(f"{model}: {_first_line(error)}; check the name and the network") from error
    return HubSnapshot(model.revision or "master", None)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__
