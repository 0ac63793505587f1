from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
import threading
from pathlib import Path

import pytest
from openai import OpenAI

from data.errors import InputError
from serving.engines.client import engine_client
from serving.engines.folder_model import FolderChoice, FolderModel
from serving.engines.llamacpp import LlamacppSection, gguf_of, llamacpp_engine
from serving.engines.ports import free_ports
from serving.engines.supervisor import EngineProcess, start_engines, stop_engines
from tests.serving.tiny_gguf import write_tiny_gguf

_QUESTION = [{"role": "user", "content": "hello"}]


def _python() -> str:
    """An interpreter that has xllamacpp."""
    given = os.environ.get("GROUNDTUNE_TEST_LLAMACPP")
    if given:
        return given
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip(
            "xllamacpp is not installed; GROUNDTUNE_TEST_LLAMACPP may name an interpreter that has it"
        )
    return sys.executable


@pytest.mark.integration
def test_llamacpp_says_what_transformers_says(tiny_model: Path, tmp_path: Path) -> None:
    python = _python()
    model = tmp_path / "merged"
    model.symlink_to(tiny_model)
    write_tiny_gguf(tiny_model, tmp_path / "merged.gguf")
    (port,) = free_ports(1)
    config = LlamacppSection(gguf={}, python=python, context=2048, parallel=2)
    engine, command = llamacpp_engine("tuned", model, port, config, threads=1)
    assert engine.context_tokens == 1024
    process = EngineProcess(engine, command, tmp_path / "log")

    async def start() -> None:
        async with engine_client() as client:
            await start_engines([process], client, 60)

    try:
        asyncio.run(start())
        with OpenAI(base_url=engine.base_url, api_key="none", max_retries=0) as client:
            said = client.chat.completions.create(
                model="tuned", messages=_QUESTION, max_tokens=12, temperature=0
            )
    finally:
        stop_engines([process])
    expected = FolderModel(FolderChoice(tiny_model)).answer(_QUESTION, 12, 0.0, threading.Event())
    assert said.choices[0].message.content == "".join(expected)
    assert said.usage is not None
    assert said.usage.completion_tokens == 12


def test_which_file(tmp_path: Path) -> None:
    model = tmp_path / "merged"
    model.mkdir()
    with pytest.raises(InputError, match=r"no merged\.gguf beside the folder and none in it"):
        gguf_of("tuned", model, {})
    (model / "a.gguf").touch()
    assert gguf_of("tuned", model, {}) == model / "a.gguf"
    (model / "b.gguf").touch()
    with pytest.raises(InputError, match=r"several in it \(a\.gguf, b\.gguf\)"):
        gguf_of("tuned", model, {})
    (tmp_path / "merged.gguf").touch()
    assert gguf_of("tuned", model, {}) == tmp_path / "merged.gguf"
    named = tmp_path / "named.gguf"
    with pytest.raises(InputError, match="no such file"):
        gguf_of("tuned", model, {"tuned": str(named)})
    named.touch()
    assert gguf_of("tuned", model, {"tuned": str(named)}) == named


def test_a_binary(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").touch()
    config = LlamacppSection(gguf={}, binary="/opt/llama-server", extra_args=("--mlock",))
    _, command = llamacpp_engine("base", tmp_path, 4321, config, threads=3)
    words = command.argv
    assert (words[0], words[-1]) == ("/opt/llama-server", "--mlock")
    assert words[words.index("--model") + 1] == str(tmp_path / "m.gguf")
    assert words[words.index("--threads") + 1] == "3"
