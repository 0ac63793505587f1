"""The search for a better training configuration under a budget of minutes.

RUN/sweep/journal.log   Optuna's journal: what a killed sweep goes on from
RUN/sweep/trials/ID/    a real training run each; ID is the digest of its settings, so that it resumes
RUN/sweep/sweep.json    the table, the winner and the verdict
RUN/sweep/history.png   ROUGE-L by trial
RUN/sweep/best.yaml     the winner's configuration

The first trial is the default configuration, in the same budget. All trials answer the same held-out questions,
so the winner's figure is that of the luckiest of them: a small lead says little.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from data.artefacts import digest_of, write_json, write_text
from data.config import section
from data.errors import GroundTuneError, InputError, UsageError
from data.workspace import Run
from training.config import TrainSection
from training.sweep_config import Range, SweepSection
from training.sweep_trial import SCORES_FILE

_POLL_S = 0.5
# Training reports minus its loss, answering its ROUGE-L: two scales, compared only step by step.
_FIRST_ANSWER_STEP = 1_000_000
_STARTUP_TRIALS = 3


@dataclass(frozen=True)
class _Ended:
    """How a trial's process ended: a score, "pruned", or "late"."""

    outcome: str
    score: float | None


def run_sweep(
    run: Run,
    base: Path,
    raw: Mapping[str, Mapping[str, Any]],
    config: SweepSection,
    note: Callable[[str], None],
) -> dict[str, Any]:
    """Search until the minutes are spent; returns sweep.json's content.

    Raises:
        UsageError: a key that the section `train` does not have, or a value that it does not take.
        InputError: no held-out questions.
        GroundTuneError: the default configuration did not finish within the minutes, or a trial failed.
    """
    default = section(raw, "train", TrainSection)
    unknown = [key for key in config.search if key not in TrainSection.model_fields]
    if unknown:
        raise UsageError(f"sweep.search.{unknown[0]}: no key of the section train")
    questions = run.dataset / "paraphrases.jsonl"
    if not questions.is_file() or not questions.read_text(encoding="utf-8").strip():
        raise InputError(f"{questions}: no held-out questions to judge by; run `groundtune data prepare`")
    folder = run.folder / "sweep"
    folder.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name=digest_of(
            [
                config.model_dump(mode="json", exclude={"minutes", "max_trials"}),
                default.model_dump(mode="json"),
            ]
        ),
        storage=JournalStorage(JournalFileBackend(str(folder / "journal.log"))),
        sampler=optuna.samplers.TPESampler(seed=config.seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_STARTUP_TRIALS, n_warmup_steps=5),
        direction="maximize",
        load_if_exists=True,
    )
    _take_up(study, default, config)
    while (left_s := config.minutes * 60 - _spent_s(study)) > 0 and _num_begun(study) < config.max_trials:
        trial = study.ask()
        chosen = _settings(trial, raw, default, config)
        trial.set_user_attr("train", chosen.model_dump(mode="json"))
        started = time.monotonic()
        ended = _run(trial, run, base, chosen, config, started + left_s)
        trial.set_user_attr("seconds", time.monotonic() - started)
        if ended.score is None:
            study.tell(trial, state=TrialState.PRUNED if ended.outcome == "pruned" else TrialState.FAIL)
        else:
            study.tell(trial, ended.score)
        score = "" if ended.score is None else f", ROUGE-L {ended.score:.2f}"
        note(f"trial {trial.number}: {trial.params or 'default'}: {ended.outcome}{score}")
    return _conclude(study, folder, raw, config)


def _take_up(study: optuna.Study, default: TrainSection, config: SweepSection) -> None:
    """Put the default first; give back to the queue what a killed sweep was doing."""
    if not study.trials:
        study.enqueue_trial({}, user_attrs={"is_default": True})
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        is_default = bool(trial.user_attrs.get("is_default"))
        study.enqueue_trial(trial.params, user_attrs={"is_default": is_default})


def _settings(
    trial: optuna.Trial, raw: Mapping[str, Mapping[str, Any]], default: TrainSection, config: SweepSection
) -> TrainSection:
    if trial.user_attrs.get("is_default"):
        return default
    changed: dict[str, Any] = {}
    for key, values in config.search.items():
        if isinstance(values, Range):
            changed[key] = trial.suggest_float(key, values.low, values.high, log=values.log)
        else:
            changed[key] = trial.suggest_categorical(key, values)
    if "lora_alpha" not in config.search:
        # As the default has it: the scale alpha / rank stays when the rank changes.
        rank = int(changed.get("lora_rank", default.lora_rank))
        changed["lora_alpha"] = max(1, default.lora_alpha * rank // default.lora_rank)
    return section({"train": {**raw.get("train", {}), **changed}}, "train", TrainSection)


def _run(
    trial: optuna.Trial, run: Run, base: Path, chosen: TrainSection, config: SweepSection, deadline: float
) -> _Ended:
    """Run one trial's process until it ends, is pruned, or the time is up."""
    folder = run.folder / "sweep" / "trials" / digest_of(chosen.model_dump(mode="json"))[:12]
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "dataset").is_symlink():
        (folder / "dataset").symlink_to(run.dataset.resolve())
    (folder / SCORES_FILE).unlink(missing_ok=True)
    numbers = (str(config.questions), str(config.max_tokens))
    argv = [
        sys.executable,
        "-m",
        "training.sweep_trial",
        str(folder),
        str(base),
        chosen.model_dump_json(),
        *numbers,
    ]
    with (folder / "trial.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None:
                if time.monotonic() > deadline:
                    return _Ended("late", None)
                if _report(trial, folder) and not trial.user_attrs.get("is_default"):
                    return _Ended("pruned", None)
                time.sleep(_POLL_S)
        finally:
            process.kill()
            process.wait()
    scores = _scores(folder)
    if process.returncode != 0 or not scores:
        tail = (folder / "trial.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise GroundTuneError(f"{folder}: the trial failed: {tail[-1] if tail else process.returncode}")
    return _Ended("finished", sum(scores) / len(scores))


def _report(trial: optuna.Trial, folder: Path) -> bool:
    """Tell Optuna how far the trial is; returns whether it is to be given up."""
    scores = _scores(folder)
    if scores:
        step, value = _FIRST_ANSWER_STEP + len(scores), sum(scores) / len(scores)
    else:
        steps = _lines(folder / ".metrics.jsonl.partial")
        losses = [item["loss"] for item in steps if "loss" in item]  # the others are evaluations
        if not losses:
            return False
        recent = losses[-10:]
        step, value = len(losses), -sum(recent) / len(recent)
    if trial.user_attrs.get("reported") == step:
        return False
    trial.set_user_attr("reported", step)
    trial.report(value, step)
    return trial.should_prune()


def _scores(folder: Path) -> list[float]:
    return [float(item["rouge_l"]) for item in _lines(folder / SCORES_FILE)]


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return the finished lines of a file that is being written."""
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return []
    return [json.loads(line) for line in text.split("\n")[:-1] if line]


def _num_begun(study: optuna.Study) -> int:
    return sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in study.trials)


def _spent_s(study: optuna.Study) -> float:
    return sum(float(trial.user_attrs.get("seconds", 0.0)) for trial in study.trials)


def _conclude(
    study: optuna.Study, folder: Path, raw: Mapping[str, Mapping[str, Any]], config: SweepSection
) -> dict[str, Any]:
    table: list[dict[str, Any]] = [
        {
            "trial": trial.number,
            "is_default": bool(trial.user_attrs.get("is_default")),
            "state": trial.state.name.lower(),
            "rouge_l": None if trial.state != TrialState.COMPLETE else trial.value,
            "seconds": trial.user_attrs.get("seconds"),
            **{key: (trial.user_attrs.get("train") or {}).get(key) for key in config.search},
        }
        for trial in study.trials
        if trial.state != TrialState.WAITING
    ]
    done = [row for row in table if row["rouge_l"] is not None]
    default = next((row for row in done if row["is_default"]), None)
    if default is None:
        raise GroundTuneError(
            f"the default configuration did not finish within {config.minutes:g} minutes; raise sweep.minutes"
        )
    best = max(done, key=lambda row: row["rouge_l"])
    won = best["rouge_l"] > default["rouge_l"]
    train = study.trials[best["trial"]].user_attrs["train"]
    changed = {key: train[key] for key in (*config.search, "lora_alpha")}
    winner = {**raw, "train": {**raw.get("train", {}), **(changed if won else {})}}
    write_text(folder / "best.yaml", yaml.safe_dump(winner, allow_unicode=True, sort_keys=True))
    verdict = (
        f"trial {best['trial']} beats the default configuration: ROUGE-L {best['rouge_l']:.2f} against "
        f"{default['rouge_l']:.2f} on {config.questions} held-out questions"
        if won
        else f"no trial beat the default configuration (ROUGE-L {default['rouge_l']:.2f}); best.yaml holds it"
    )
    result = {
        "verdict": verdict,
        "beats_default": won,
        "minutes": config.minutes,
        "best": best,
        "trials": table,
    }
    _draw(done, default["rouge_l"], folder / "history.png")
    write_json(folder / "sweep.json", result)
    return result


def _draw(done: list[dict[str, Any]], default: float, path: Path) -> None:
    from data.charts import new_figure, save_figure

    figure = new_figure(7, 4)
    axes = figure.add_subplot()
    numbers, scores = [row["trial"] for row in done], [row["rouge_l"] for row in done]
    axes.plot(numbers, scores, "o", label="trial")
    axes.step(numbers, [max(scores[: i + 1]) for i in range(len(scores))], where="post", label="best so far")
    axes.axhline(default, color="black", linewidth=1, linestyle="--", label="default configuration")
    axes.set(xlabel="trial", ylabel="ROUGE-L, characters (0 to 100)", title="Sweep: held-out answers")
    axes.legend()
    save_figure(figure, path)
