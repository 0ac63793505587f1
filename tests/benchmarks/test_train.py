from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from benchmarks.cli import app
from benchmarks.train import held_out, plain
from benchmarks.train.arms import OURS, PLAIN, xtuner_steps
from benchmarks.train.figures import held_out_losses, loss_differences, ratios, speeds
from benchmarks.train.rows import PARAPHRASES, UNSEEN, choose_rows
from data.artefacts import write_text
from data.conversations import Conversation, render
from data.errors import GroundTuneError, InputError, UsageError
from tests.serving.tiny_model import write_tiny_model
from tests.training.shapes import write_base

ROWS = [Conversation(f"r{n}", "plain", "Be kind.", f"question {n}?", f"answer {n * n}.") for n in range(8)]
LOG = """\
11/25 23:59:58 - mmengine - INFO - Iter(train) [1/3]  lr: 1.0e-03  eta: 0:00:04  time: 2.0478  loss: 5.4261
11/25 23:59:59 - mmengine - INFO - before a checkpoint
11/26 00:00:01 - mmengine - INFO - Iter(train) [2/3]  lr: 9.3e-04  eta: 0:00:02  time: 2.1508  loss: 5.1989
11/26 00:00:05 - mmengine - INFO - Iter(train) [3/3]  lr: 7.5e-04  eta: 0:00:00  time: 2.1455  loss: 4.9069
"""


def test_xtuners_time_is_between_the_first_steps_end_and_the_lasts() -> None:
    assert xtuner_steps(LOG) == {"step_s": [3.5, 3.5, 3.5], "losses": [5.4261, 5.1989, 4.9069]}
    with pytest.raises(GroundTuneError, match="has 1 steps"):
        xtuner_steps(LOG.splitlines()[0])


def test_rows_are_apart_and_the_same_every_time(tmp_path: Path) -> None:
    seed_style = [Conversation(item.row_id, "seed", "", "关于?", item.output) for item in ROWS]
    write_text(tmp_path / "train.jsonl", render([*ROWS, *seed_style], "conversation"))
    questions = [
        {"question": f"ask {n}", "row_id": f"r{n}", "answer": "", "source": "", "row_number": n}
        for n in range(8)
    ]
    write_text(
        tmp_path / "paraphrases.jsonl",
        "".join(json.dumps({k: v for k, v in q.items() if k != "row_number"}) + "\n" for q in questions),
    )
    chosen = choose_rows(tmp_path, 4, 3, seed=1)
    assert chosen == choose_rows(tmp_path, 4, 3, seed=1)
    trained = {item.row_id for item in chosen.trained}
    assert len(trained) == 4 and {item.style for item in chosen.trained} == {"plain"}
    assert not trained & {item.row_id for item in chosen.held_out[UNSEEN]}
    for item in chosen.held_out[PARAPHRASES]:
        assert item.row_id in trained
        assert item.input == f"ask {item.row_id[1:]}"
        assert item.output in {row.output for row in chosen.trained}
    with pytest.raises(InputError, match=r"8 rows, and 6 to train on with 3 unseen"):
        choose_rows(tmp_path, 6, 3, seed=1)


def test_rates_ratios_and_differences() -> None:
    arms = {
        OURS: {"step_s": [1.0, 1.0], "losses": [3.0, 2.0], "adapter": "a", "num_tokens": 400},
        PLAIN: {"step_s": [4.0, 4.0], "losses": [3.0, 2.2], "adapter": "b"},
    }
    made = speeds(arms, 400)
    assert made[OURS]["useful_tokens_per_s"] == 200 and made[PLAIN]["useful_tokens_per_s"] == 50
    assert "adapter" not in made[OURS] and made[OURS]["num_steps"] == 2
    assert ratios(made) == {PLAIN: 4.0}
    labels = [2, 4, 2, 2, 2, 4]
    found = {
        "labels": {"f": labels},
        "losses": {
            OURS: {"f": [2.0 * n for n in labels]},
            "seed": {"f": [2.1 * n for n in labels]},
            PLAIN: {"f": [2.5 * n for n in labels]},
        },
    }
    assert held_out_losses(found)[PLAIN]["f"] == 2.5
    difference = loss_differences(found, [PLAIN], ["seed"])[PLAIN]["f"]
    assert difference == {"difference": -0.5, "interval": [-0.5, -0.5], "seed_range": 0.1}


# Trainer imports DeepSpeed where it is installed, and that an old torch.jit.
@pytest.mark.filterwarnings("default::DeprecationWarning")
def test_the_plain_script_learns_the_tokens_that_held_out_loss_counts(tmp_path: Path) -> None:
    """Its first step, with B still zero, has the base model's own loss by the other script."""
    base = write_base(tmp_path / "base", "qwen2", tied=True, dtype=torch.float32)
    rows = tmp_path / "rows.jsonl"
    write_text(rows, render(ROWS[:4], "conversation"))
    settings = {
        "max_tokens": 512, "lora_rank": 2, "lora_alpha": 4, "lora_dropout": 0.0, "batch": 4, "epochs": 2,
        "learning_rate": 1e-2, "seed": 3, "target_modules": ["q_proj", "up_proj"],
    }  # fmt: skip
    steps = plain.train(base, rows, tmp_path / "out", settings)
    assert len(steps) == 2
    found = held_out.evaluate(base, [rows], {"made": tmp_path / "out" / "adapter"})
    losses = held_out_losses(found)
    assert losses[held_out.BASE_ALONE]["rows"] == pytest.approx(steps[0]["loss"], abs=0.01)
    made = load_file(tmp_path / "out" / "adapter" / "adapter_model.safetensors")
    assert all(tensor.any() for name, tensor in made.items() if "lora_B" in name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rows", "10"], r"--rows 10: must be a multiple of 4"),
        (["--workbook", "no.xlsx"], r"--workbook 'no.xlsx': no such file"),
        (["--xtuner", "nowhere"], r"no XTuner there; make it with `groundtune train env xtuner`"),
        (["--only", "groundtuna"], r"--only 'groundtuna': no such arm; arms: 'groundtune', 'groundtune, all"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_trained(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    write_tiny_model(tmp_path / "base")
    result = CliRunner().invoke(app, ["train", "--base", str(tmp_path / "base"), *arguments])
    assert isinstance(result.exception, UsageError)
    assert re.search(message, str(result.exception))
