"""Training shown while it runs: a bar with rate and time left on stderr, and metrics.jsonl."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from training.checkpoint import StepMetrics


@contextmanager
def counted(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar with rate and time left on a terminal's stderr; yields what to call with (done, in all)."""
    console = Console(stderr=True)
    columns = (
        TextColumn(title),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class TrainingProgress:
    """Writes every step to `metrics_path` (a resumed run's earlier steps too) and shows the bar.

    Where stderr is no terminal, a line every `plain_every_steps` steps takes the bar's place.
    """

    def __init__(self, metrics_path: Path, *, plain_every_steps: int = 10) -> None:
        self._path = metrics_path
        self._plain_every_steps = plain_every_steps
        self._beside = metrics_path.with_name(f".{metrics_path.name}.partial")
        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.3f}"),
            TextColumn("{task.fields[rate]:.0f} tok/s"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID | None = None
        self._file: TextIO | None = None

    def __enter__(self) -> TrainingProgress:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._beside.open("w", encoding="utf-8")
        self._bar.start()
        return self

    def advance(self, metrics: StepMetrics, num_steps: int) -> None:
        """Record one finished step."""
        assert self._file is not None
        self._file.write(json.dumps(asdict(metrics)) + "\n")
        self._file.flush()
        if self._task is None:
            self._task = self._bar.add_task("training", total=num_steps, loss=0.0, rate=0.0)
        self._bar.update(self._task, completed=metrics.step, loss=metrics.loss, rate=metrics.tokens_per_s)
        if self._bar.disable and (metrics.step % self._plain_every_steps == 0 or metrics.step == num_steps):
            self._console.print(
                f"training: step {metrics.step}/{num_steps}, loss {metrics.loss:.3f}, {metrics.tokens_per_s:.0f} tok/s",
                highlight=False,
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        assert self._file is not None
        self._file.close()
        if kind is None:
            self._beside.replace(self._path)
