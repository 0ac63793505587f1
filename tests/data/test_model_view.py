from __future__ import annotations

import json
from pathlib import Path

import pytest
from matplotlib.image import imread
from tokenizers import Tokenizer
from transformers import AutoTokenizer
from typer.testing import CliRunner

from data.cli import app
from data.conversations import Conversation
from data.errors import InputError
from data.preview import preview
from data.token_lengths import count_tokens
from tests.data.test_workbook import HEADER, make_workbook
from tests.serving.tiny_model import write_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


CONVERSATION = Conversation("id", "plain", "be kind", "痛风吃什么", "多喝水。")


def test_tokens_are_the_tokenizers_own(model: Path) -> None:
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    parts = [tokenizer.encode(text).ids for text in ("be kind", "痛风吃什么", "多喝水。")]
    assert count_tokens([CONVERSATION], model).values == (sum(map(len, parts)),)


def test_the_preview_is_what_the_template_renders(model: Path) -> None:
    (shown,) = preview([CONVERSATION], model)
    assert shown == (
        "<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\n痛风吃什么<|im_end|>\n"
        "<|im_start|>assistant\n多喝水。<|im_end|>\n"
    )


def test_a_model_without_tokenizer_or_template_is_named(tmp_path: Path, model: Path) -> None:
    with pytest.raises(InputError, match=r"tokenizer\.json: not there"):
        count_tokens([CONVERSATION], tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path / "bare")
    (tmp_path / "bare" / "chat_template.jinja").unlink(missing_ok=True)
    with pytest.raises(InputError, match="no chat template"):
        preview([CONVERSATION], tmp_path / "bare")


def test_prepare_draws_lengths_and_shows_conversations(
    tmp_path: Path, workspace_root: Path, model: Path
) -> None:
    rows = [["痛风", "饮食", f"第{n}问怎么办", "答案" * (n + 1)] for n in range(20)]
    path = make_workbook(tmp_path / "k.xlsx", {"S": [HEADER, *rows]})
    arguments = [
        "prepare",
        "--workbook",
        str(path),
        "--model",
        str(model),
        "--token-lengths",
        "--preview",
        "2",
    ]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    shown = json.loads(result.stdout)
    assert [text.count("<|im_start|>") for text in shown["preview"]] == [3, 3]
    assert shown["token_lengths"]["max"] > shown["token_lengths"]["median"]
    assert imread(workspace_root / "runs" / "quickstart" / "token-lengths.png").shape[1] > 500
    result = CliRunner().invoke(app, arguments)
    assert "--- conversation 2 ---" in result.stdout
