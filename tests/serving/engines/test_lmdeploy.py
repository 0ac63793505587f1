from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from data.errors import InputError
from serving.engines.lmdeploy import LmdeploySection, Seat, cache_share, lmdeploy_engine, seats
from serving.lineup import make_lineup
from serving.settings import ServeSection
from tests.serving.engines.lmdeploy_parser import fill, parsed

_EVERYTHING = LmdeploySection(
    python="/envs/lmdeploy/bin/python",
    tp=2,
    dp=1,
    cp=1,
    ep=1,
    communicator="cuda-ipc",
    session_len=8192,
    max_batch_size=256,
    cache_max_entry_count=0.5,
    cache_block_seq_len=128,
    quant_policy=8,
    model_format="awq",
    dtype="float16",
    max_prefill_token_num=4096,
    num_tokens_per_iter=1024,
    max_prefill_iters=4,
    rope_scaling_factor=2.0,
    use_async=False,
    chat_template="internlm2",
    tool_call_parser="qwen",
    reasoning_parser="qwen-qwq",
    enable_metrics=False,
    log_level="INFO",
    max_log_len=80,
    extra_args=("--hf-overrides", '{"rope_theta": 1}'),
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "merged"
    folder.mkdir()
    (folder / "config.json").write_text('{"max_position_embeddings": 32768}')
    return folder


@pytest.fixture(scope="module")
def lmdeploy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with LMDeploy 0.18: that of GROUNDTUNE_TEST_LMDEPLOY, or one made for these tests (10 s)."""
    given = os.environ.get("GROUNDTUNE_TEST_LMDEPLOY")
    if given:
        yield Path(given)
        return
    folder = tmp_path_factory.mktemp("lmdeploy")
    if (fault := fill(folder)) is not None:
        pytest.skip(f"LMDeploy 0.18 cannot be installed here: {fault}")
    yield folder
    shutil.rmtree(folder)


@pytest.mark.integration
def test_lmdeploys_parser_takes_every_setting(lmdeploy: Path, model: Path) -> None:
    engine, command = lmdeploy_engine("tuned", model, 4321, _EVERYTHING)
    assert command.argv[:4] == ("/envs/lmdeploy/bin/python", "-P", "-m", "lmdeploy")
    told = parsed(lmdeploy, command.argv[4:])
    # What the parser calls otherwise than the setting.
    renamed = {"use_async": ("async_", 0), "enable_metrics": ("disable_metrics", True)}
    for name in LmdeploySection.model_fields:
        if name not in ("python", "devices", "extra_args"):
            flag, value = renamed.get(name, (name, getattr(_EVERYTHING, name)))
            assert told[flag] == value, name
    assert told["hf_overrides"] == {"rope_theta": 1}
    assert (told["model_path"], told["model_name"]) == (str(model), "tuned")
    assert (told["server_name"], told["server_port"], told["backend"]) == ("127.0.0.1", 4321, "turbomind")
    assert told["allow_origins"] == ["http://127.0.0.1"]
    assert engine.context_tokens == 8192


@pytest.mark.integration
def test_lmdeploys_parser_takes_the_defaults(lmdeploy: Path, model: Path) -> None:
    _, command = lmdeploy_engine("base", model, 4321, LmdeploySection())
    told = parsed(lmdeploy, command.argv[4:])
    assert command.argv[0] == sys.executable
    assert told["enable_prefix_caching"]
    assert (told["session_len"], told["max_batch_size"]) == (None, None)


def test_engines_on_one_gpu_share_its_memory_and_start_in_turn(model: Path) -> None:
    config = ServeSection(engine="lmdeploy", lmdeploy=LmdeploySection(cache_max_entry_count=0.8))
    lineup = make_lineup(config, {"base": model, "tuned": model}, grounded=False, logs=model)
    assert [process.in_turn for process in lineup.processes] == [True, True]
    first, second = (cache_share(0.8, Seat(index=index, count=2)) for index in (0, 1))
    assert first == pytest.approx(0.4)
    assert second * (1 - first) == pytest.approx(first)


def test_engines_on_their_own_gpus_start_together(model: Path) -> None:
    places = seats(2, ("0,1", "2,3"))
    assert places == [Seat("0,1"), Seat("2,3")]
    _, command = lmdeploy_engine("tuned", model, 1, LmdeploySection(tp=2), places[1])
    assert command.environment["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert not command.in_turn
    assert command.argv[command.argv.index("--cache-max-entry-count") + 1] == "0.8"


def test_tools_only_with_a_parser_and_nothing_that_it_would_drop(model: Path) -> None:
    plain, _ = lmdeploy_engine("base", model, 1, LmdeploySection())
    with_tools, _ = lmdeploy_engine("base", model, 1, LmdeploySection(tool_call_parser="qwen"))
    assert plain.samples
    assert "tools" not in plain.accepts
    assert with_tools.accepts - plain.accepts == {"tools", "tool_choice"}
    assert {"stop", "seed", "response_format"} <= plain.accepts
    assert not {"presence_penalty", "logit_bias"} & plain.accepts


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no config\.json"):
        lmdeploy_engine("base", tmp_path, 1, LmdeploySection())
