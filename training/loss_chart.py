"""The loss curve as a picture. The only file that imports matplotlib for training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from training.checkpoint import StepMetrics
from training.watch import EvaluationMetrics

_SMOOTHING = 0.8


def draw_loss(
    history: Sequence[StepMetrics],
    path: Path,
    evaluations: Sequence[EvaluationMetrics] = (),
    kept_step: int | None = None,
) -> None:
    """Draw loss against step, raw and exponentially smoothed, with the learning rate; written atomically.

    Evaluations are a curve of their own; the one whose adapter was kept is marked, if it was chosen by them.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps = [item.step for item in history]
    smooth: list[float] = []
    for item in history:
        smooth.append(item.loss if not smooth else _SMOOTHING * smooth[-1] + (1 - _SMOOTHING) * item.loss)
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(steps, [item.loss for item in history], color="tab:blue", alpha=0.3, label="loss")
    axes.plot(steps, smooth, color="tab:blue", label="loss, smoothed")
    if evaluations:
        held_out = {item.step: item.eval_loss for item in evaluations}
        axes.plot(list(held_out), list(held_out.values()), "o-", color="tab:orange", label="held-out loss")
        if kept_step is not None:
            axes.plot(
                [kept_step], [held_out[kept_step]], "*", color="tab:red", markersize=14, label="adapter kept"
            )
    axes.set(xlabel="optimizer step", ylabel="cross-entropy per answer token (nats)", title="Training loss")
    axes.grid(alpha=0.3)
    rate = axes.twinx()
    rate.plot(
        steps,
        [item.learning_rate for item in history],
        color="tab:gray",
        linewidth=0.8,
        label="learning rate",
    )
    rate.set_ylabel("learning rate")
    figure.legend(loc="upper right", bbox_to_anchor=(0.88, 0.9))
    beside = path.with_name(f".{path.stem}.partial.png")
    figure.savefig(beside, dpi=120, metadata={"Software": None})
    beside.replace(path)
