"""Where things lie under var/. Knows the names of the places, not what is in them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from data.errors import UsageError

_NAME = re.compile(r"[\w][\w.-]*")


@dataclass(frozen=True)
class Run:
    """The places of one named run."""

    name: str
    folder: Path
    index: Path

    @property
    def config(self) -> Path:
        """The resolved configuration that this run's steps use."""
        return self.folder / "config.yaml"

    @property
    def dataset(self) -> Path:
        """rows.jsonl, train.jsonl and the evaluation questions."""
        return self.folder / "dataset"

    @property
    def checkpoints(self) -> Path:
        """What a killed training run goes on from."""
        return self.folder / "checkpoints"

    @property
    def adapter(self) -> Path:
        """The trained LoRA adapter in PEFT's format, with metrics.jsonl and loss.png."""
        return self.folder / "adapter"

    @property
    def merged(self) -> Path:
        """The merged model, an ordinary Hugging Face folder."""
        return self.folder / "merged"

    @property
    def logs(self) -> Path:
        """Logs of child processes."""
        return self.folder / "logs"


@dataclass(frozen=True)
class Workspace:
    """The folder that holds everything GroundTune makes (`var/`, or $GROUNDTUNE_VAR)."""

    root: Path

    @property
    def models(self) -> Path:
        """Fetched models, one folder each."""
        return self.root / "models"

    @property
    def keys(self) -> Path:
        """The API keys that `groundtune serve` asks for, where there is such a file."""
        return self.root / "keys.json"

    @property
    def chat_history(self) -> Path:
        """What was typed into `groundtune chat`."""
        return self.root / "chat_history"

    def run(self, name: str) -> Run:
        """Return the places of run `name`.

        Raises:
            UsageError: the name cannot be a folder's name.
        """
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"--name {name!r}: use letters, digits, '-', '_' and '.', beginning with a letter or digit"
            )
        return Run(name, self.root / "runs" / name, self.root / "index" / name)


def open_workspace() -> Workspace:
    """Return the workspace of this process: $GROUNDTUNE_VAR, or var/ in the working directory."""
    return Workspace(Path(os.environ.get("GROUNDTUNE_VAR", "var")).resolve())
