"""One trial of a sweep, as a process of its own: trains, answers held-out questions, says how well.

Started as `python -m training.sweep_trial`; what it has found so far is in FOLDER/scores.jsonl, a line a question,
so that the sweep can stop a poor trial early.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rapidfuzz.distance import LCSseq

from data.records import HeldOutQuestion, read_records
from data.workspace import Run
from training.config import TrainSection

SCORES_FILE = "scores.jsonl"


def rouge_l(answer: str, reference: str) -> float:
    """Return the F1 of the longest common subsequence of characters without white space, 0 to 100."""
    one, two = ("".join(text.split()) for text in (answer, reference))
    if not one or not two:
        return 0.0
    return 200.0 * LCSseq.similarity(one, two) / (len(one) + len(two))


def run_trial(folder: Path, base: Path, config: TrainSection, num_questions: int, max_tokens: int) -> float:
    """Train in `folder`, whose dataset/ is there already, and return the mean ROUGE-L of greedy answers."""
    import torch

    from training.adapter import train_adapter
    from training.parity.generation import Arm
    from training.parity.prompts import Prompt, encode, held_out_messages, load_tokenizer, render

    run = Run(folder.name, folder, folder / "index")
    train_adapter(run, base, config)
    tokenizer = load_tokenizer(base)
    answers = {
        item.question: item.answer
        for item in read_records(run.dataset / "paraphrases.jsonl", HeldOutQuestion)
    }
    arm = Arm(base, getattr(torch, config.dtype), "cpu", run.adapter)
    turns = held_out_messages(run.dataset, num_questions)
    prompts = [Prompt(item, encode(tokenizer, render(tokenizer, item))) for item in turns]
    scores: list[float] = []
    with (folder / SCORES_FILE).open("w", encoding="utf-8") as file:
        # In two halves: after the first, a trial that answers poorly can be given up.
        for half in (prompts[: len(prompts) // 2], prompts[len(prompts) // 2 :]):
            for prompt, ids in zip(half, arm.answer_together(half, max_tokens) if half else (), strict=True):
                text = tokenizer.decode(list(ids), skip_special_tokens=True)
                scores.append(rouge_l(text, answers[prompt.question]))
                line = {"question": prompt.question, "answer": text, "rouge_l": round(scores[-1], 2)}
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
