from __future__ import annotations

from pathlib import Path

import pytest

from data.errors import InputError
from serving.engines.transformers_serve import TransformersSettings, transformers_engine


def test_command_keeps_off_the_network_and_out_of_the_model_folder(tmp_path: Path) -> None:
    model = tmp_path / "a@b" / "model"
    model.mkdir(parents=True)
    (model / "config.json").write_text('{"max_position_embeddings": 2048}')
    engine, command = transformers_engine("base", model, 4242, TransformersSettings(threads=3))
    assert engine.base_url == "http://127.0.0.1:4242/v1"
    assert engine.context_tokens == 2048
    assert not engine.samples
    assert command.argv[1] == "-P"
    assert command.folder == str(model.parent)
    assert "@" not in engine.model
    assert "--trust-remote-code" not in command.argv
    environment = command.environment
    assert environment["HF_HUB_OFFLINE"] == environment["TRANSFORMERS_OFFLINE"] == "1"
    assert environment["OMP_NUM_THREADS"] == "3"


def test_context_is_never_longer_than_the_cache(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 131072}')
    engine, command = transformers_engine("base", tmp_path, 1, TransformersSettings(cache_tokens=1000))
    assert engine.context_tokens == 1000
    assert command.argv[command.argv.index("--cb-num-blocks") + 1] == "4"


@pytest.mark.parametrize(("content", "told"), [(None, "no config.json"), ("[", "not readable")])
def test_folder_that_is_no_model(tmp_path: Path, content: str | None, told: str) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=told):
        transformers_engine("base", tmp_path, 1, TransformersSettings())
