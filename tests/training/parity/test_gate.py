"""The gate on a tiny model: open for a good run, and closed, naming the cause, for each planted fault."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from data.errors import GroundTuneError
from data.prepare import prepare_dataset
from data.settings import PrepareSection, WorkbookSection
from data.workspace import Workspace
from tests.data.test_workbook import HEADER, make_workbook
from tests.serving.live_server import live_server
from tests.serving.tiny_model import write_tiny_model
from tests.training.parity.chat_engine import chat_engine
from tests.training.shapes import write_adapter, write_base
from training.cli import app
from training.merge import merge_adapter
from training.parity.folders import Folders
from training.parity.gate import Limits, Request, check_parity

ROWS = [["高血压", "饮食", f"第{n}个问题是什么" + "呢" * n, f"这是第{n}个答案。"] for n in range(6)]
TEMPLATE = "chat_template.jinja"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    run = Workspace(root).run("r")
    workbook = make_workbook(root / "k.xlsx", {"S": [HEADER, *ROWS]})
    prepare_dataset(run.dataset, WorkbookSection(file=workbook), PrepareSection(own_questions=4))
    base = write_base(root / "base", "qwen2", tied=True, dtype=torch.bfloat16)
    write_adapter(run.adapter, base)
    merge_adapter(base, run.adapter, run.merged, 40_000)
    return root


@pytest.fixture
def request_(made: Path, workspace_root: Path) -> Request:
    shutil.copytree(made, workspace_root)
    run = Workspace(workspace_root).run("r")
    folders = Folders(workspace_root / "base", run.adapter, run.merged)
    return Request(folders, run.dataset, 4, 8, "cpu", Limits())


def check(request: Request) -> dict[str, Any]:
    return check_parity(request, lambda stage, done, total: None)


def test_a_good_run_passes(request_: Request) -> None:
    report = check(request_)
    assert report["passed"] and not report["faults"], report["faults"]
    assert report["tensors"]["num_adapted"] == 14 and report["tensors"]["median_factor"] == 1.0
    assert report["arms"]["merged"]["num_parted"] == 0
    assert report["logits"]["mean_kl"] < 0.02
    assert len(report["prompts"]) == 4 and len(report["prompts"][0]["ids"]) == 8
    assert any("served arm was left out" in note for note in report["notes"])


def changed_template(folders: Folders) -> None:
    path = folders.merged / TEMPLATE
    path.write_text(path.read_text().replace("<|im_start|>", "<|im_end|>"))


def wrong_alpha(folders: Folders) -> None:
    merge_with_alpha(folders, 12)


def doubled_alpha(folders: Folders) -> None:
    merge_with_alpha(folders, 16)


def merge_with_alpha(folders: Folders, alpha: int) -> None:
    path = folders.adapter / "adapter_config.json"
    text = path.read_text()
    path.write_text(json.dumps(json.loads(text) | {"lora_alpha": alpha}))
    merge_adapter(folders.base, folders.adapter, folders.merged, 40_000)
    path.write_text(text)


def alpha_edited_after_the_merge(folders: Folders) -> None:
    path = folders.adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"lora_alpha": 4}))


def merged_twice(folders: Folders) -> None:
    once = folders.merged.with_name("once")
    folders.merged.rename(once)
    merge_adapter(once, folders.adapter, folders.merged, 40_000)


def not_merged(folders: Folders) -> None:
    shutil.rmtree(folders.merged)
    shutil.copytree(folders.base, folders.merged)


def another_adapter_merged(folders: Folders) -> None:
    other = write_adapter(folders.adapter.with_name("other"), folders.base, std=0.2)
    path = other / "adapter_model.safetensors"
    save_file({name: tensor.flip(0).contiguous() for name, tensor in load_file(path).items()}, path)
    merge_adapter(folders.base, other, folders.merged, 40_000)


def another_revision(folders: Folders) -> None:
    path = folders.base / "model.safetensors"
    tensors = load_file(path)
    save_file({name: tensor * 1.01 for name, tensor in tensors.items()}, path, metadata={"format": "pt"})


def truncated_shard(folders: Folders) -> None:
    path = sorted(folders.merged.glob("model-*.safetensors"))[1]
    path.write_bytes(path.read_bytes()[:-100])


def truncated_adapter(folders: Folders) -> None:
    path = folders.adapter / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def corrupt_shard(folders: Folders) -> None:
    path = sorted(folders.merged.glob("model-*.safetensors"))[0]
    path.write_bytes(path.read_bytes()[:-64] + b"\x11" * 64)


def other_dtype(folders: Folders) -> None:
    for path in folders.merged.glob("model-*.safetensors"):
        tensors = {name: tensor.to(torch.float16) for name, tensor in load_file(path).items()}
        save_file(tensors, path, metadata={"format": "pt"})


def short_context(folders: Folders) -> None:
    path = folders.merged / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"max_position_embeddings": 100}))


FAULTS = [
    (changed_template, "template", "chat template writes"),
    (
        wrong_alpha,
        "merge",
        r"wrong LoRA alpha: 14 of 14 .* as with lora_alpha 12 where adapter_config.json says 8",
    ),
    (doubled_alpha, "merge", "wrong LoRA alpha: .* lora_alpha 16"),
    (alpha_edited_after_the_merge, "merge", "wrong LoRA alpha: .* lora_alpha 8 where .* says 4"),
    (merged_twice, "merge", "the adapter was merged twice"),
    (not_merged, "merge", "the adapter is not merged in 14 of 14"),
    (another_adapter_merged, "merge", "for any k: another adapter"),
    (another_revision, "base", "another revision"),
    (truncated_shard, "shard", r"model-00002-of.*cut short"),
    (truncated_adapter, "shard", r"adapter_model.safetensors.*cut short"),
    (corrupt_shard, "shard", "not what its manifest records"),
    (other_dtype, "dtype", "BF16 .* in the base, F16"),
    (short_context, "truncation", "the model takes 100"),
]


@pytest.mark.parametrize(("plant", "cause", "detail"), FAULTS, ids=[item[0].__name__ for item in FAULTS])
def test_a_planted_fault_is_named(
    request_: Request, plant: Callable[[Folders], None], cause: str, detail: str
) -> None:
    plant(request_.folders)
    report = check(request_)
    assert report["cause"] == cause, report["faults"]
    assert re.search(detail, report["faults"][0]["detail"]), report["faults"]
    assert not report["arms"], "a model was asked although the files say enough"


def test_another_revision_without_any_manifest_is_named(request_: Request) -> None:
    for folder in (request_.folders.adapter, request_.folders.merged):
        (folder / "groundtune.json").unlink(missing_ok=True)
    another_revision(request_.folders)
    assert check(request_)["cause"] == "base"


def test_the_command_fails_with_the_cause_and_leaves_a_report(
    request_: Request, workspace_root: Path
) -> None:
    arguments = [
        "verify",
        "--name",
        "r",
        "--base",
        str(request_.folders.base),
        "--prompts",
        "2",
        "--max-tokens",
        "4",
    ]
    good = CliRunner().invoke(app, arguments)
    assert good.exit_code == 0 and "parity gate passed" in good.output
    arguments.append("--if-changed")
    assert "parity gate up to date" in CliRunner().invoke(app, arguments).output
    merged_twice(request_.folders)
    for _ in range(2):  # a gate that failed stays shut
        bad = CliRunner().invoke(app, arguments)
        assert isinstance(bad.exception, GroundTuneError) and bad.exception.exit_status == 1
        assert "merge: the adapter was merged twice" in str(bad.exception)
    report = json.loads((workspace_root / "runs" / "r" / "parity.json").read_text())
    assert (report["passed"], report["cause"]) == (False, "merge")


@pytest.fixture
def served_from() -> Iterator[Callable[..., Any]]:
    yield lambda folder, **options: live_server(lambda _: chat_engine(folder, **options))


@pytest.mark.parametrize("token_ids", [False, True])
def test_the_served_model_is_compared(
    request_: Request, served_from: Callable[..., Any], token_ids: bool
) -> None:
    with served_from(request_.folders.merged, token_ids=token_ids) as url:
        report = check(replace(request_, url=f"{url}/v1"))
    assert report["passed"], report["faults"]
    assert report["arms"]["served"]["num_same"] == 4
    assert report["arms"]["served"]["token_ids"] == token_ids


def test_faults_of_the_served_side_are_named(
    request_: Request, served_from: Callable[..., Any], workspace_root: Path
) -> None:
    strict = replace(request_, limits=Limits(margin=0.0))
    with served_from(write_tiny_model(workspace_root / "other")) as url:
        other = check(replace(strict, url=f"{url}/v1"))
    assert other["cause"] == "served", other["prompts"]
    assert "other weights" in other["faults"][0]["detail"]
    with served_from(request_.folders.merged, max_prompt_tokens=218) as url:
        cut = check(replace(strict, url=f"{url}/v1"))
    assert cut["cause"] == "truncation" and "the API takes 218 tokens" in cut["faults"][0]["detail"]
    changed_template(Folders(request_.folders.base, request_.folders.adapter, request_.folders.base))
    with served_from(request_.folders.merged, system="你是一位医生。") as url:
        template = check(replace(strict, url=f"{url}/v1", folders=rebuilt(request_)))
    assert template["cause"] == "template" and "another chat template" in template["faults"][0]["detail"]


def rebuilt(request: Request) -> Folders:
    """The folders with the base's template changed, and a merge that took it over."""
    merge_adapter(request.folders.base, request.folders.adapter, request.folders.merged, 50_000)
    return request.folders


def test_a_server_without_the_model_is_an_error(request_: Request, served_from: Callable[..., Any]) -> None:
    with (
        served_from(request_.folders.merged) as url,
        pytest.raises(GroundTuneError, match=r"serves no model 'x' .it has tuned.; give --model"),
    ):
        check(replace(request_, url=f"{url}/v1", model="x"))
    with pytest.raises(GroundTuneError, match="does not answer"):
        check(replace(request_, url="http://127.0.0.1:9/v1"))
