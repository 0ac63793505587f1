"""What results about training say: its speed beside other trainers, and what a sweep found. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.tables.shape import Result, Section, table

_NAMES = {"plain": "transformers' Trainer + PEFT in float32", "xtuner": "XTuner"}


def _train_lines(result: Result) -> list[tuple[str, str]]:
    arms, rows = result["arms"], result["rows"]
    others = [
        f"{_NAMES[name]} {arms[name]['useful_tokens_per_s']:.0f} ({result['times_faster'][name]:.1f} times)"
        for name in _NAMES
        if name in arms
    ]
    losses = ", ".join(
        f"{_NAMES.get(name, 'GroundTune')} {arm['held_out_loss']['paraphrases']:.2f}"
        for name, arm in arms.items()
        if name in ("groundtune", *_NAMES)
    )
    return [
        (
            f"training on {rows['trained']} rows, {arms['groundtune']['num_steps']} steps, useful tokens a second",
            f"{arms['groundtune']['useful_tokens_per_s']:.0f}; {'; '.join(others)}; loss on paraphrased questions: "
            f"{losses}",
        )
    ]


def _train_body(result: Result) -> str:
    sets = list(result["untrained_held_out_loss"])
    rows = [
        (
            name,
            f"{arm['useful_tokens_per_s']:.1f}",
            "" if name == "groundtune" else f"{result['times_faster'][name]:.2f}",
            arm["num_steps"],
            f"{arm['train_s']:.0f} / {arm['wall_s']:.0f}",
            f"{arm['peak_rss_bytes'] / 1e9:.1f}",
            f"{arm['final_training_loss']:.3f}",
            *(f"{arm['held_out_loss'][kind]:.3f}" for kind in sets),
        )
        for name, arm in result["arms"].items()
    ]
    untrained = result["untrained_held_out_loss"]
    rows.append(("(untrained)", *[""] * 6, *(f"{untrained[kind]:.3f}" for kind in sets)))
    head = (
        *(
            "arm",
            "useful tokens/s",
            "the default is faster by",
            "steps",
            "seconds: steps / command",
            "peak GB",
        ),
        "training loss, last 6 steps",
        *(f"loss, {kind}" for kind in sets),
    )
    described = "\n".join(f"- `{name}`: {arm['what']}." for name, arm in result["arms"].items())
    given = result["rows"]
    return "\n\n".join(
        [
            f"{given['base']} on {given['trained']} rows of {given['workbook']}, {given['epochs']} epochs, the same "
            f"steps and {given['useful_tokens']:,} tokens of rows (padding, and a system prompt that is shared, not "
            "counted or counted once a row: in every arm alike). Learning rate, schedule, rank, alpha, target modules "
            "and labels (the answer and its end of turn) are equal. Held-out losses are a label, by one script for "
            "all adapters.",
            described,
            table(head, rows),
            "The default's held-out loss less the other's, with its 95% interval over rows, and the range of the "
            "default's loss over three seeds:",
            table(
                ("arm", "rows", "difference", "interval", "range over seeds"),
                list(_differences(result["loss_differences"])),
            ),
        ]
    )


def _differences(found: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (
            name,
            kind,
            f"{item['difference']:+.3f}",
            f"[{item['interval'][0]:+.3f}, {item['interval'][1]:+.3f}]",
            f"{item['seed_range']:.3f}",
        )
        for name, by_rows in found.items()
        for kind, item in by_rows.items()
    ]


def _sweep_lines(result: Result) -> list[tuple[str, str]]:
    default = next(trial for trial in result["trials"] if trial["is_default"])
    state = (
        f"best {result['best']['rouge_l']:.1f}, default {default['rouge_l']:.1f}"
        if result["beats_default"]
        else f"none beat the default's {default['rouge_l']:.1f}"
    )
    return [
        (
            f"`train sweep`, {result['minutes']:g} minutes, {len(result['trials'])} trials: held-out ROUGE-L",
            f"{state} (ended after {result['wall_s'] / 60:.1f} minutes)",
        )
    ]


def _sweep_body(result: Result) -> str:
    fixed = ("trial", "is_default", "state", "rouge_l", "seconds")
    keys = [key for key in result["trials"][0] if key not in fixed]
    rows = [
        (
            f"{trial['trial']}{' (default)' if trial['is_default'] else ''}",
            *(f"{value:.3g}" if isinstance(value := trial[key], float) else value for key in keys),
            trial["state"],
            "" if trial["rouge_l"] is None else f"{trial['rouge_l']:.2f}",
            "" if trial["seconds"] is None else f"{trial['seconds']:.0f}",
        )
        for trial in result["trials"]
    ]
    return (
        f"{result['base']} on {result['workbook']}: {result['verdict']}. A trial that is pruned or is running when "
        "the minutes end has no figure. All trials answer the same questions, so the best figure flatters itself.\n\n"
        + table(("trial", *keys, "state", "ROUGE-L", "seconds"), rows)
    )


def _resume_lines(result: Result) -> list[tuple[str, str]]:
    equal = all(result[name] for name in ("metrics_equal", "adapter_bytes_equal", "merged_bytes_equal"))
    killed = sum(kill["of"] == "training" for kill in result["kills"])
    return [
        (
            f"kill -9 at {killed} random moments of training and once in the merge",
            "curve, adapter and merged model bit-equal to an undisturbed run's"
            if equal
            else f"the loss differs by up to {result['max_loss_difference']:g}",
        )
    ]


def _resume_body(result: Result) -> str:
    rows = [(kill["of"], kill.get("steps_written", ""), f"{kill['delay_s']:.2f}") for kill in result["kills"]]
    return f"{result['base']}, {result['num_steps']} steps, stopped early as the other was.\n\n" + table(
        ("killed in", "after steps", "seconds later"), rows
    )


_TAUGHT = {"bare": "bare questions", "both": "bare questions, and rows in the prompt"}


def _grounded_lines(result: Result) -> list[tuple[str, str]]:
    told = []
    for name, run in result["runs"].items():
        pair = _pair(run, "base-rag")
        told.append(f"tuned on {_TAUGHT[name]} {pair}")
    num = result["runs"]["both"]["num_answerable"]
    of = result.get("workbook", "the sample")
    return [(f"`tuned-rag` against `base-rag`, ROUGE-L points, {num} paraphrases of {of}", "; ".join(told))]


def _grounded_body(result: Result) -> str:
    rows = []
    for name, run in result["runs"].items():
        for arm, means in run["means"].items():
            if arm == "base-rag" and name != "bare":
                continue
            rows.append(
                (
                    arm,
                    "" if arm == "base-rag" else _TAUGHT[name],
                    *(interval(means[measure]) for measure in _SHOWN),
                    _pair(run, "base-rag") if arm == "tuned-rag" else "",
                )
            )
    counts = result["runs"]["both"]["num_conversations"]
    return (
        f"{result['runs']['both']['num_answerable']} held-out paraphrases of {result.get('workbook', 'the sample')}, "
        f"{result['epochs']} epochs of "
        f"{counts['plain']} bare questions, and of {counts['grounded']} with rows in the prompt where it says so. In "
        "brackets 95% intervals.\n\n"
        + table(
            ("model", "tuned on", "ROUGE-L", "facts kept (%)", "right row cited (%)", "against `base-rag`"),
            rows,
        )
    )


def _pair(run: Mapping[str, Any], other: str) -> str:
    """Return how much better tuned-rag is than another arm, with its interval."""
    (found,) = [pair for pair in run["rouge_l_pairs"] if other in (pair["first"], pair["second"])]
    difference = found["difference"]
    sign = 1 if found["first"] == "tuned-rag" else -1
    low, high = sorted((sign * difference["low"], sign * difference["high"]))
    return f"{sign * difference['mean']:+.1f} [{low:.1f}, {high:.1f}]"


def interval(figure: Mapping[str, float] | None) -> str:
    """Return a mean with its interval; a model that cites nothing has none of citing."""
    if figure is None:
        return "–"
    return f"{figure['mean']:.1f} [{figure['low']:.1f}, {figure['high']:.1f}]"


_SHOWN = ("rouge_l", "facts_kept", "citation_recall")
TRAINING_SECTIONS = (
    Section("grounded-training", "Tuning for retrieval", _grounded_lines, _grounded_body),
    Section("grounded-training-shop-zh", "Tuning for retrieval, a shop", _grounded_lines, _grounded_body),
    Section("grounded-training-desk-en", "Tuning for retrieval, a desk", _grounded_lines, _grounded_body),
    Section("resume", "Killed and resumed", _resume_lines, _resume_body),
    Section("train", "Training", _train_lines, _train_body),
    Section("sweep", "The sweep", _sweep_lines, _sweep_body),
)
