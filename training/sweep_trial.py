"""One trial of a sweep, as a process of its own: trains, answers held-out questions, says how well.

Started as `python -m training.sweep_trial`; what it has found so far is in FOLDER/scores.jsonl, a line a question,
so that the sweep can stop a poor trial early.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from data.workspace import Run
from training.config import TrainSection

SCORES_FILE = "scores.jsonl"


def run_trial(folder: Path, base: Path, config: TrainSection, num_questions: int, max_tokens: int) -> float:
    """Train in `folder`, whose dataset/ is there already, and return the mean ROUGE-L of greedy answers."""
    import torch

    from training.adapter import train_adapter
    from training.held_out import held_out_conversations, score_answers
    from training.parity.generation import Arm
    from training.parity.prompts import load_tokenizer

    run = Run(folder.name, folder, folder / "index")
    manifest, _ = train_adapter(run, base, config)
    arm = Arm.load(base, getattr(torch, manifest.facts["dtype"]), "cpu", run.adapter)
    questions = held_out_conversations(run.dataset, "paraphrases", num_questions)
    scores: list[float] = []
    with (folder / SCORES_FILE).open("w", encoding="utf-8") as file:
        # In two halves: after the first, a trial that answers poorly can be given up.
        for half in (questions[: len(questions) // 2], questions[len(questions) // 2 :]):
            for scored in score_answers(
                half, load_tokenizer(base), lambda prompts: arm.answer_together(prompts, max_tokens)
            ):
                scores.append(scored.rouge_l)
                line = {**asdict(scored), "rouge_l": round(scored.rouge_l, 2)}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()
    return sum(scores) / len(scores)


def main(arguments: list[str]) -> None:
    """Take FOLDER BASE CONFIG QUESTIONS TOKENS."""
    folder, base, config, questions, tokens = arguments
    chosen = TrainSection.model_validate_json(config)
    run_trial(Path(folder), Path(base), chosen, int(questions), int(tokens))


if __name__ == "__main__":
    main(sys.argv[1:])
