"""kill -9 of real `train run` and `train merge` processes at random moments: same bits, nothing torn.

With evaluation and early stopping on, whose state is in the checkpoint. The moments differ from run to run; a
failure shows the seed they were drawn from.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from benchmarks.resume import NUM_KILLS, Bench, is_whole, run
from tests.training.shapes import SIZES, write_base
from tests.training.test_evaluation import make_run


@pytest.mark.integration
def test_a_run_killed_at_random_ends_as_one_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Wide enough that a step and the merge take long enough to be hit.
    monkeypatch.setitem(SIZES, "hidden_size", 256)
    monkeypatch.setitem(SIZES, "intermediate_size", 2048)
    monkeypatch.setitem(SIZES, "num_hidden_layers", 4)
    base = write_base(tmp_path / "base", "qwen2", tied=True, dtype=torch.bfloat16)
    settings = [
        "train.epochs=9", "train.max_train_tokens=null", "train.pack_tokens=700", "train.top_layers=2",
        "train.checkpoint_every_s=0.2", "train.learning_rate=0.02", "train.lora_dropout=0.1",
        "train.evaluation={every_steps: 3, patience: 4, min_delta: 1, generate: 1, max_answer_tokens: 4}",
    ]  # fmt: skip
    seed = random.SystemRandom().randrange(1 << 31)
    bench = Bench(tmp_path / "bench", base, make_run(tmp_path).dataset, settings, seed)
    found = run(bench)
    shown = f"seed {seed}: {found}"
    print(shown)
    assert [kill["of"] for kill in found["kills"]] == ["training"] * NUM_KILLS + ["merge"], shown
    assert found["metrics_equal"] and found["max_loss_difference"] == 0, shown
    # No evaluation is lower by 1 than the first, so the fifth ends the training, 3 steps before its time.
    assert (found["num_steps"], found["num_evaluations"]) == (15, 5), shown
    assert found["adapter_facts"]["stopped_early"], shown
    assert found["adapter_bytes_equal"] and found["merged_bytes_equal"], shown
    assert is_whole(bench.killed.merged) and not list(bench.killed.folder.glob(".*.partial"))
