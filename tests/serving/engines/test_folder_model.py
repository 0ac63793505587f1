from __future__ import annotations

import shutil
import sys
import threading
from pathlib import Path

import pytest
from openai import OpenAI
from typer.testing import CliRunner

from data.errors import InputError, UsageError
from serving.cli_chat import app
from serving.engines.folder_model import FolderChoice, FolderModel, before_stop
from serving.engines.folder_server import answering_at, is_folder_asked
from serving.engines.prompt_templates import find_template
from serving.engines.token_text import TokenText

_QUESTION = [{"role": "user", "content": "hello"}]


def _text(model: FolderModel, max_tokens: int = 12) -> str:
    return "".join(model.answer(_QUESTION, max_tokens, 0.0, threading.Event()))


def test_templates_write_what_the_models_were_trained_on() -> None:
    messages = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "{text} 1"},
        {"role": "assistant", "content": "A"},
        {"role": "user", "content": "2"},
    ]
    assert find_template("internlm_chat").text(messages) == (
        "<|System|>:S\n<|User|>:{text} 1<eoh>\n<|Bot|>:A<eoa>\n<|User|>:2<eoh>\n<|Bot|>:"
    )
    with pytest.raises(UsageError, match="internlm_chat, internlm2_chat"):
        find_template("internlm")


def test_qwen_chat_is_the_folders_own_template(tiny_model: Path) -> None:
    """The same text from the name and from the folder, so the same answer."""
    own = FolderModel(FolderChoice(tiny_model))
    named = FolderModel(FolderChoice(tiny_model, template=find_template("qwen_chat")))
    other = FolderModel(FolderChoice(tiny_model, template=find_template("internlm_chat")))
    assert len(_text(own)) == 12
    assert _text(named) == _text(own)
    assert _text(other) != _text(own)


def test_an_adapter_changes_the_answer(tiny_model: Path, tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    lora = LoraConfig(
        r=4, lora_alpha=64, init_lora_weights=False, target_modules=["q_proj", "v_proj", "down_proj"]
    )
    get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model), lora).save_pretrained(tmp_path)
    assert _text(FolderModel(FolderChoice(tiny_model, adapter=tmp_path))) != _text(
        FolderModel(FolderChoice(tiny_model))
    )


def test_what_cannot_be_opened(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no config\.json"):
        FolderModel(FolderChoice(tmp_path))
    with pytest.raises(InputError, match="no adapter there"):
        FolderModel(FolderChoice(tiny_model, adapter=tmp_path))
    with pytest.raises(UsageError, match="--bits 3"):
        FolderModel(FolderChoice(tiny_model, bits=3))
    bare = tmp_path / "bare"
    shutil.copytree(tiny_model, bare)
    (bare / "chat_template.jinja").unlink()
    with pytest.raises(InputError, match="--prompt-template"):
        FolderModel(FolderChoice(bare))


def test_four_bits_need_a_package(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(UsageError, match="--bits 4 needs bitsandbytes"):
        FolderModel(FolderChoice(tiny_model, bits=4))


def test_a_reader_that_goes_away_ends_the_answer(tiny_model: Path) -> None:
    model = FolderModel(FolderChoice(tiny_model))
    with (
        answering_at(model, "tiny") as url,
        OpenAI(base_url=url, api_key="none", max_retries=0, timeout=60) as client,
    ):
        for taken in (1, 2, 3):  # pieces that the reader takes before it leaves
            asked = {"model": "tiny", "messages": _QUESTION, "max_tokens": 3000, "stream": True}
            with client.chat.completions.create(**asked) as stream:
                for _ in range(taken):
                    next(iter(stream))
        # One answer at a time: the second begins only after the first has ended, long before 3,000 tokens.
        asked["max_tokens"] = 5
        texts = [chunk.choices[0].delta.content or "" for chunk in client.chat.completions.create(**asked)]
        assert len("".join(texts)) == 5


def test_a_character_of_several_tokens_comes_when_it_is_complete() -> None:
    import torch

    text = TokenText(lambda ids: bytes(ids).decode(errors="replace"))
    text.put(torch.tensor([[1, 2]]))  # the prompt
    for byte in "a你b".encode():
        text.put(torch.tensor([byte]))
    text.put(torch.tensor([0xE4]))
    text.end()
    assert list(text) == ["a", "你", "b", "\N{REPLACEMENT CHARACTER}"]


def test_stop_strings_are_held_back() -> None:
    assert list(before_stop(iter(["ab<", "eo", "a>cd"]), ["<eoa>"])) == ["ab"]
    assert list(before_stop(iter(["ab<", "b>", "<e"]), ["<eoa>"])) == ["ab", "<b>", "<e"]


def test_the_command_line(tiny_model: Path) -> None:
    done = CliRunner().invoke(app, ["--model", str(tiny_model)], input="hello\nexit\n")
    assert done.exit_code == 0, done.output
    assert [len(line) for line in done.stdout.splitlines()] == [512]
    with pytest.raises(UsageError, match="--bits needs a model folder"):
        is_folder_asked("tuned", None, 4, None)
