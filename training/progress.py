"""Training shown while it runs: a bar with rate and time left on stderr, and metrics.jsonl."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

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
from training.tensorboard import EventFile
from training.watch import EvaluationMetrics


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
    """Writes every step and evaluation to `metrics_path` (a resumed run's earlier ones too) and shows the bar.

    Where stderr is no terminal, a line every `plain_every_steps` steps takes the bar's place.
    """

    def __init__(
        self, metrics_path: Path, events: EventFile | None = None, *, plain_every_steps: int = 10
    ) -> None:
        self._path = metrics_path
        self._events = events
        self._plain_every_steps = plain_every_steps
        self._beside = metrics_path.with_name(f".{metrics_path.name}.partial")
        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.3f}{task.fields[held_out]}"),
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
        self._write(asdict(metrics))
        if self._events:
            self._events.add(
                metrics.step,
                {
                    "train/loss": metrics.loss,
                    "train/learning_rate": metrics.learning_rate,
                    "train/grad_norm": metrics.grad_norm,
                    "train/tokens_per_s": metrics.tokens_per_s,
                    "train/epoch": metrics.epoch,
                },
            )
        if self._task is None:
            self._task = self._bar.add_task("training", total=num_steps, loss=0.0, rate=0.0, held_out="")
        self._bar.update(self._task, completed=metrics.step, loss=metrics.loss, rate=metrics.tokens_per_s)
        if self._bar.disable and (metrics.step % self._plain_every_steps == 0 or metrics.step == num_steps):
            self._console.print(
                f"training: step {metrics.step}/{num_steps}, loss {metrics.loss:.3f}, {metrics.tokens_per_s:.0f} tok/s",
                highlight=False,
            )

    def evaluated(self, point: EvaluationMetrics) -> None:
        """Record one evaluation."""
        self._write(asdict(point))
        if self._events:
            self._events.add(point.step, {"eval/loss": point.eval_loss, "eval/rouge_l": point.eval_rouge_l})
        score = "" if point.eval_rouge_l is None else f", ROUGE-L {point.eval_rouge_l:.1f}"
        if self._task is not None:
            self._bar.update(self._task, held_out=f" (held out {point.eval_loss:.3f}{score})")
        if self._bar.disable:
            self._console.print(
                f"evaluation: step {point.step}, held-out loss {point.eval_loss:.3f}{score} "
                f"({point.eval_seconds:.1f} s)",
                highlight=False,
            )

    def _write(self, line: dict[str, Any]) -> None:
        assert self._file is not None
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        assert self._file is not None
        self._file.close()
        if kind is None:
            self._beside.replace(self._path)
