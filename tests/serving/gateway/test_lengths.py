from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from serving.engines.engine import Engine
from serving.gateway.errors import ApiError
from serving.gateway.lengths import PromptMeter


def _fit(content: str, wanted: int | None, tokenizer: Path | None = None, context: int | None = 1000) -> int:
    engine = Engine("e", "http://x/v1", "m", frozenset(), context_tokens=context, tokenizer=tokenizer)
    body = {"messages": [{"role": "user", "content": content}]}
    return asyncio.run(PromptMeter().fit(engine, body, wanted, 512))


def test_length_left_open_takes_the_room_there_is() -> None:
    assert _fit("短", None) == 512
    assert 100 < _fit("a" * 700, None) < 300


def test_wish_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ApiError, match="context of 1000"):
        _fit("短", 1000)
    with pytest.raises(ApiError, match="context of 1000"):
        _fit("a" * 1200, None)


def test_without_a_known_context_nothing_is_checked() -> None:
    assert _fit("a" * 10**6, 10**6, context=None) == 10**6


@pytest.mark.integration
def test_long_prompt_is_counted_with_the_tokenizer(fetched_models: Path) -> None:
    tokenizer = fetched_models / "qwen2.5-coder-0.5b-instruct" / "tokenizer.json"
    # 400 characters are 1,200 bytes but far fewer tokens.
    assert _fit("高血压患者" * 80, 100, tokenizer) == 100
    with pytest.raises(ApiError, match="context of 1000"):
        _fit("高血压患者" * 800, 100, tokenizer)
