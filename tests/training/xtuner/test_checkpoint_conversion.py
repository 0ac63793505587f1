"""XTuner's checkpoints become the adapter that they are of, and pickles that ask for more are refused."""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from data.errors import InputError
from tests.training.shapes import merged_by_peft, write_adapter, write_base
from tests.training.xtuner.zero_folder import CONFIG, trained_names, write_zero
from training.checkpoint_conversion import convert_checkpoint
from training.merge import merge_adapter
from training.zero_checkpoint import Opaque, load_tensors


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base") / "tiny", "qwen2", tied=True, dtype=torch.bfloat16)


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adapter(tmp_path_factory.mktemp("adapter") / "own", base)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "work" / "config.py"
    path.parent.mkdir()
    path.write_text(CONFIG)
    return path


def same(out: Path, adapter: Path) -> bool:
    made, own = (load_file(folder / "adapter_model.safetensors") for folder in (out, adapter))
    return made.keys() == own.keys() and all(torch.equal(made[name], own[name]) for name in own)


@pytest.mark.parametrize("stage", [2, 3])
@pytest.mark.parametrize("num_ranks", [1, 2, 3, 12])
def test_a_folder_of_any_number_of_ranks(
    tmp_path: Path, config: Path, adapter: Path, num_ranks: int, stage: int
) -> None:
    folder = write_zero(config.parent / "epoch_1.pth", trained_names(adapter), num_ranks, stage)
    convert_checkpoint(folder, tmp_path / "hf")
    assert same(tmp_path / "hf", adapter)


class _Stage:
    """A member of DeepSpeed's ZeroStageEnum, as one Python or another pickles it."""

    def __init__(self, *pickled: object) -> None:
        self._pickled = pickled

    def __reduce__(self) -> object:
        function, *arguments = self._pickled
        return function, tuple(arguments)


@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize(("number", "name"), [(2, "gradients"), (3, "weights")])
def test_a_stage_is_read_however_python_pickles_an_enum(
    tmp_path: Path,
    config: Path,
    adapter: Path,
    monkeypatch: pytest.MonkeyPatch,
    by_name: bool,
    number: int,
    name: str,
) -> None:
    module = types.ModuleType("deepspeed.runtime.zero.config")
    enum = type("ZeroStageEnum", (), {"__module__": module.__name__})
    module.ZeroStageEnum = enum  # type: ignore[attr-defined]
    folder = write_zero(config.parent / "epoch_1.pth", trained_names(adapter), 2, number)
    stage = _Stage(getattr, enum, name) if by_name else _Stage(enum, number)
    with monkeypatch.context() as patch:
        for parent in ("deepspeed", "deepspeed.runtime", "deepspeed.runtime.zero"):
            patch.setitem(sys.modules, parent, types.ModuleType(parent))
        patch.setitem(sys.modules, module.__name__, module)
        for path in folder.glob("*_optim_states.pt"):
            states = torch.load(path, weights_only=True)
            states["optimizer_state_dict"]["zero_stage"] = stage
            torch.save(states, path)
    convert_checkpoint(folder, tmp_path / "hf")
    assert same(tmp_path / "hf", adapter)


def test_a_stage_that_is_none_is_an_input_error(tmp_path: Path, config: Path, adapter: Path) -> None:
    folder = write_zero(config.parent / "epoch_1.pth", trained_names(adapter), 1, 2)
    (path,) = folder.glob("*_optim_states.pt")
    states = torch.load(path, weights_only=True)
    states["optimizer_state_dict"]["zero_stage"] = "everything"
    torch.save(states, path)
    with pytest.raises(InputError, match="unknown ZeRO stage"):
        convert_checkpoint(folder, tmp_path / "hf")


def test_one_file_merges_as_peft_merges_it(tmp_path: Path, config: Path, base: Path, adapter: Path) -> None:
    torch.save({"state_dict": trained_names(adapter), "meta": {"iter": 3}}, config.parent / "iter_3.pth")
    manifest = convert_checkpoint(config.parent / "iter_3.pth", tmp_path / "hf")
    assert (manifest.facts["lora_rank"], manifest.facts["lora_alpha"]) == (4, 8)
    merge_adapter(base, tmp_path / "hf", tmp_path / "merged", 1_000_000_000)
    merged = load_file(tmp_path / "merged" / "model.safetensors")
    expected = merged_by_peft(base, tmp_path / "hf")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in merged.items())


def test_a_missing_rank_is_named(tmp_path: Path, config: Path, adapter: Path) -> None:
    folder = write_zero(config.parent / "iter_1.pth", trained_names(adapter), 3, 2)
    (folder / "bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt").unlink()
    with pytest.raises(InputError, match="trained by 3 processes, and holds the optimizer states of 2"):
        convert_checkpoint(folder, tmp_path / "hf")
    assert not (tmp_path / "hf").exists()


def test_another_configuration_is_refused(tmp_path: Path, config: Path, adapter: Path) -> None:
    folder = write_zero(config.parent / "iter_1.pth", trained_names(adapter), 1, 2)
    other = tmp_path / "other.py"
    other.write_text(CONFIG.replace("rank = 4", "rank = 8"))
    with pytest.raises(InputError, match=r"the configuration says rank 8; .*--config"):
        convert_checkpoint(folder, tmp_path / "hf", other)


def test_what_is_more_than_plain_lora_is_refused(tmp_path: Path, config: Path) -> None:
    config.write_text(CONFIG.replace("r=rank", "r=rank, use_rslora=True"))
    torch.save({}, config.parent / "iter_1.pth")
    with pytest.raises(InputError, match="use_rslora; only plain LoRA"):
        convert_checkpoint(config.parent / "iter_1.pth", tmp_path / "hf")


class _Malicious:
    def __init__(self, path: Path, call: str) -> None:
        self.path, self.call = path, call

    def __reduce__(self) -> object:
        if self.call == "getattr":
            return getattr, ("text", "upper")
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("form", ["file", "model states", "optimizer states"])
def test_a_pickle_that_would_run_code_is_refused(
    tmp_path: Path, config: Path, adapter: Path, form: str
) -> None:
    weights, trap = trained_names(adapter), tmp_path / "ran"
    bad = {"state_dict": {**weights, "x": _Malicious(trap, "mkdir")}}
    path = config.parent / "iter_1.pth"
    if form == "file":
        torch.save(bad, path)
    else:
        write_zero(path, weights, 1, 2)
        torch.save(bad, next(path.glob("*model_states.pt" if form == "model states" else "*optim_states.pt")))
    with pytest.raises(InputError, match=r"posix\.mkdir.*refused, nothing was run"):
        convert_checkpoint(path, tmp_path / "hf")
    assert not trap.exists()


def test_names_that_are_passed_over_are_not_called(tmp_path: Path, config: Path, adapter: Path) -> None:
    # XTuner's own files name getattr, so it must not refuse them; what it would return must not come out.
    state = {"state_dict": trained_names(adapter), "history": _Malicious(tmp_path, "getattr")}
    torch.save(state, config.parent / "iter_1.pth")
    assert isinstance(load_tensors(config.parent / "iter_1.pth")["history"], Opaque)
    convert_checkpoint(config.parent / "iter_1.pth", tmp_path / "hf")
    assert same(tmp_path / "hf", adapter)
