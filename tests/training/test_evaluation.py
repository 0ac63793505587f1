"""Evaluation during training on a tiny real model: what it measures, that it changes nothing, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tensorboardX.proto.event_pb2 import Event
from torch.nn import functional
from transformers import AutoTokenizer

from data.conversations import messages
from data.errors import InputError
from data.prepare import prepare_dataset
from data.settings import PrepareSection, SplitSection, WorkbookSection
from data.workspace import Run, Workspace
from tests.data.test_workbook import HEADER, make_workbook
from tests.serving.tiny_model import write_tiny_model
from training.adapter import train_adapter
from training.config import TrainSection
from training.evaluation import load_evaluator
from training.examples import encode
from training.held_out import held_out_conversations, spread
from training.lora import AdaptedModel
from training.packing import pack_examples
from training.parity.generation import Arm
from training.parity.prompts import Prompt, render
from training.parity.prompts import encode as encode_prompt

ROWS = [["高血压", "饮食", f"第{n}个问题是什么", f"这是第{n}个答案。" + "好" * (n % 5)] for n in range(12)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model to which the bytes of Chinese are not all alike, so that losses tell something."""
    folder = write_tiny_model(tmp_path_factory.mktemp("base") / "tiny")
    weights = load_file(folder / "model.safetensors")
    torch.manual_seed(1)
    weights["model.embed_tokens.weight"].normal_(std=0.5)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def make_run(root: Path, name: str = "r", validation: float = 0.25) -> Run:
    run = Workspace(root / "var").run(name)
    root.mkdir(exist_ok=True)
    workbook = make_workbook(root / "k.xlsx", {"S": [HEADER, *ROWS]})
    split = SplitSection(validation=validation, threshold=1.0)
    prepare_dataset(run.dataset, WorkbookSection(file=workbook), PrepareSection(own_questions=2), split)
    return run


def settings(**changed: Any) -> TrainSection:
    usual: dict[str, Any] = {
        "max_train_tokens": None, "epochs": 3, "pack_tokens": 700, "lora_rank": 4, "learning_rate": 3e-2,
        "max_tokens": 700, "checkpoint_every_s": 1e-9, "top_layers": 1, "evaluation": {"every_epochs": 1},
        "dtype": "bfloat16",  # the same on every machine
    }  # fmt: skip
    return TrainSection.model_validate({**usual, **changed})


def lines(run: Run) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the lines of metrics.jsonl: steps, evaluations."""
    found = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if "loss" in line], [line for line in found if "eval_loss" in line]


@pytest.mark.parametrize("attention", ["mask", "varlen"])
def test_the_loss_is_that_of_each_row_alone_by_tokens(tmp_path: Path, base: Path, attention: str) -> None:
    """Against the model's own logits of one row at a time, unpacked, averaged over all answer tokens."""
    run = make_run(tmp_path)
    config = settings(dtype="float32", attention=attention, lora_dropout=0.5)
    tokenizer = AutoTokenizer.from_pretrained(base)
    evaluator = load_evaluator(run.dataset, tokenizer, config)
    assert evaluator is not None
    model = AdaptedModel(base, config)
    with torch.no_grad():  # an adapter that does something
        for name, weight in model.parameters().items():
            weight.normal_(std=0.2, generator=torch.Generator().manual_seed(len(name)))
    found = evaluator.judge(model, lambda kept, pack: model.trunk(pack))
    model.peft.eval()
    losses: list[torch.Tensor] = []
    for row in held_out_conversations(run.dataset, "validation", 99):
        example = encode(row, tokenizer, 700)
        ids = torch.tensor([example.ids])
        with torch.no_grad():
            logits = model.model(input_ids=ids, use_cache=False).logits[0]
        first = len(example.ids) - example.num_labels
        losses.append(functional.cross_entropy(logits[first - 1 : -1], ids[0, first:], reduction="none"))
    assert len({len(row) for row in losses}) > 1, "rows of one length cannot tell tokens from rows"
    assert found.eval_loss == pytest.approx(float(torch.cat(losses).mean()), rel=1e-5)
    assert found.eval_loss != pytest.approx(
        float(torch.stack([row.mean() for row in losses]).mean()), rel=1e-5
    )
    assert found.eval_rouge_l is None


def test_answers_do_not_depend_on_how_rows_are_kept_apart(tmp_path: Path, base: Path) -> None:
    """Against a plain model without cache; afterwards the model still trains."""
    run = make_run(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(base)
    turns = tuple(messages(held_out_conversations(run.dataset, "validation", 1)[0])[:-1])
    prompt = Prompt(turns, encode_prompt(tokenizer, render(tokenizer, turns)))
    said = []
    for attention in ("mask", "varlen"):
        config = settings(dtype="float32", attention=attention, gradient_checkpointing=True)
        model = AdaptedModel(base, config)
        with model.evaluating():
            said.append(Arm(model.model, model.device).answer(prompt, 8).ids)
            ids = torch.tensor([[*prompt.ids, *said[-1]]])
            greedy = model.model(input_ids=ids, use_cache=False).logits[0].argmax(-1)
        assert greedy[len(prompt.ids) - 1 : -1].tolist() == list(said[-1])
        (pack,) = pack_examples(
            [encode(row, tokenizer, 700) for row in held_out_conversations(run.dataset, "validation", 1)],
            700, 1, share_prefix=False,
        )  # fmt: skip
        model.loss(pack, model.trunk(pack)).backward()  # type: ignore[no-untyped-call]
        assert all(weight.grad is not None for weight in model.parameters().values())
    assert said[0] == said[1]


def test_evaluation_changes_nothing_of_training_and_is_told_of(
    tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path)
    for name in ("without", "with"):
        other = Workspace(tmp_path / "var").run(name)
        other.folder.mkdir(parents=True)
        (other.folder / "dataset").symlink_to(run.dataset)
    without, judged = (Workspace(tmp_path / "var").run(name) for name in ("without", "with"))
    dropout = {"lora_dropout": 0.2}
    evaluation = {"every_epochs": 1, "generate": 2, "max_answer_tokens": 5}
    train_adapter(without, base, settings(**dropout, evaluation={"rows": 0}, tensorboard=False))
    assert not train_adapter(without, base, settings(**dropout, evaluation=evaluation))[1], "trained again"
    assert "trained without train.evaluation.generate" in capsys.readouterr().err
    manifest, _ = train_adapter(judged, base, settings(**dropout, evaluation=evaluation))
    one, two = (load_file(each.adapter / "adapter_model.safetensors") for each in (without, judged))
    assert all(torch.equal(one[name], two[name]) for name in one)
    steps, evaluations = lines(judged)
    assert [line["loss"] for line in steps] == [line["loss"] for line in lines(without)[0]]
    assert not lines(without)[1] and not (without.folder / "tensorboard").exists()
    assert [round(line["epoch"]) for line in evaluations] == [1, 2, 3]
    assert all(0 <= line["eval_rouge_l"] <= 100 for line in evaluations)
    assert manifest.facts["held_out_loss"] == evaluations[-1]["eval_loss"] < evaluations[0]["eval_loss"]
    curves = events(judged.folder / "tensorboard")
    assert curves["train/loss"] == {line["step"]: pytest.approx(line["loss"]) for line in steps}
    assert curves["eval/loss"] == {line["step"]: pytest.approx(line["eval_loss"]) for line in evaluations}
    assert (without.folder / "loss.png").read_bytes() != (judged.folder / "loss.png").read_bytes()


def events(folder: Path) -> dict[str, dict[int, float]]:
    """Return the curves of the one event file there: records of length, its checksum, data, its checksum."""
    (path,) = folder.iterdir()
    raw = path.read_bytes()
    curves: dict[str, dict[int, float]] = {}
    while raw:
        size = int.from_bytes(raw[:8], "little")
        event = Event.FromString(raw[12 : 12 + size])
        for value in event.summary.value:
            curves.setdefault(value.tag, {})[event.step] = value.simple_value
        raw = raw[16 + size :]
    return curves


def test_early_stopping_keeps_the_best_adapter_and_says_so(
    tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path)
    wild = settings(epochs=12, learning_rate=0.5, evaluation={"every_steps": 1, "patience": 2})
    manifest, _ = train_adapter(run, base, wild)
    steps, evaluations = lines(run)
    best = min(evaluations, key=lambda line: line["eval_loss"])
    assert len(steps) == evaluations[-1]["step"] == best["step"] + 2 < 12 * 2
    assert manifest.facts["stopped_early"] and manifest.facts["kept_step"] == best["step"]
    assert f"kept the adapter of step {best['step']}" in capsys.readouterr().err
    config = settings(epochs=12)
    evaluator = load_evaluator(run.dataset, AutoTokenizer.from_pretrained(base), config)
    model = AdaptedModel(base, config)
    saved = load_file(run.adapter / "adapter_model.safetensors")
    with torch.no_grad():
        for name, weight in model.parameters().items():
            weight.copy_(saved[name.replace(".default", "")])
    assert evaluator is not None
    found = evaluator.judge(model, lambda kept, pack: model.trunk(pack))
    assert found.eval_loss == best["eval_loss"], "the adapter on disk is not the one that was judged best"


def test_the_same_seed_gives_the_same_curve(tmp_path: Path, base: Path) -> None:
    curves = []
    for number, seed in enumerate((5, 5, 6)):
        run = make_run(tmp_path / str(number))
        train_adapter(run, base, settings(seed=seed, lora_dropout=0.1, epochs=2))
        curves.append([[line.get("loss"), line.get("eval_loss")] for part in lines(run) for line in part])
    assert curves[0] == curves[1]
    assert curves[0] != curves[2]


def test_what_cannot_be_judged_is_refused_and_what_is_not_there_is_left_out(
    tmp_path: Path, base: Path
) -> None:
    run = make_run(tmp_path, validation=0.0)
    with pytest.raises(InputError, match=r"patience: 3, and there are no held-out rows.*--validation 0\.1"):
        train_adapter(run, base, settings(evaluation={"patience": 3}))
    with pytest.raises(InputError, match=r"train\.evaluation\.generate: 1"):
        train_adapter(run, base, settings(evaluation={"generate": 1}))
    manifest, _ = train_adapter(run, base, settings(epochs=1))
    assert not lines(run)[1] and "held_out_loss" not in manifest.facts
    train_adapter(
        run, base, settings(epochs=1, seed=2, evaluation={"source": "paraphrases", "every_steps": 99})
    )
    assert len(lines(run)[1]) == 1


def test_spread() -> None:
    assert spread(list(range(10)), 3) == [0, 3, 6]
    assert spread(list(range(3)), 3) == spread(list(range(3)), 9) == [0, 1, 2]
    assert spread([], 0) == spread([1], 0) == []


def test_the_system_prompt_is_that_of_training(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (row,) = held_out_conversations(run.dataset, "paraphrases", 1)
    (other,) = held_out_conversations(run.dataset, "validation", 1)
    assert messages(row)[0] == messages(other)[0]
