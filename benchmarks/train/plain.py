"""The script that tutorials write: transformers' Trainer, PEFT's LoRA, float32, padding to the batch's longest.

    python -m benchmarks.train.plain --base DIR --rows train.jsonl --out DIR --settings '{...}'

Nothing of GroundTune's trainer is in it. Token ids and labels are those of `training.examples`, so that the losses
compare: the chat template's own rendering, and a label for the answer and its end of turn alone; everything else
is -100. No gradient checkpointing: the model fits, and it would cost a third more. Writes DIR/adapter as PEFT does,
and DIR/steps.json: seconds and loss of each optimizer step.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path
from typing import Any


def main() -> None:
    """Train and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--settings", type=json.loads, required=True, help="as benchmarks.train.arms makes them"
    )
    options = parser.parse_args()
    steps = train(options.base, options.rows, options.out, options.settings)
    (options.out / "steps.json").write_text(json.dumps(steps), encoding="utf-8")


def train(base: Path, rows: Path, out: Path, settings: dict[str, Any]) -> list[dict[str, float]]:
    """Train an adapter into `out`/adapter; returns each step's `seconds` and `loss`."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        DataCollatorForSeq2Seq,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    from training.examples import encode, read_conversations

    tokenizer = AutoTokenizer.from_pretrained(base)
    examples = [encode(item, tokenizer, settings["max_tokens"]) for item in read_conversations(rows)]
    dataset: Any = [
        {
            "input_ids": list(item.ids),
            "attention_mask": [1] * len(item.ids),
            "labels": [-100] * (len(item.ids) - item.num_labels) + list(item.ids[-item.num_labels :]),
        }
        for item in examples
    ]
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    lora = LoraConfig(
        r=settings["lora_rank"],
        lora_alpha=settings["lora_alpha"],
        lora_dropout=settings["lora_dropout"],
        target_modules=settings["target_modules"],
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(model, lora)
    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            if not ends:
                ends.append(time.perf_counter())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

    arguments = TrainingArguments(
        output_dir=str(out / "trainer"),
        per_device_train_batch_size=settings["batch"],
        num_train_epochs=settings["epochs"],
        learning_rate=settings["learning_rate"],
        lr_scheduler_type="cosine",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        seed=settings["seed"],
    )
    trainer: Any = Trainer(
        model=model,
        args=arguments,
        train_dataset=dataset,
        data_collator=DataCollatorForSeq2Seq(tokenizer, padding=True),
        callbacks=[Clock()],
    )
    trainer.train()
    model.save_pretrained(str(out / "adapter"))
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    times = [after - before for before, after in itertools.pairwise(ends)]
    return [{"seconds": s, "loss": loss} for s, loss in zip(times, losses, strict=True)]


if __name__ == "__main__":
    main()
