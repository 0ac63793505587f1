"""The served arm: the same prompts through an OpenAI-compatible API, whatever engine is behind it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openai import APIStatusError, BadRequestError, OpenAI, OpenAIError

from data.errors import GroundTuneError
from training.parity.prompts import Prompt

_TIMEOUT_S = 600.0
_NO_KEY = "not-needed"
# vLLM gives the ids that it read and wrote when asked to; an API that does not know the field refuses it.
_ASK_FOR_IDS = {"return_token_ids": True}


@dataclass(frozen=True)
class ServedAnswer:
    """What the API said; `ids` and `prompt_ids` only where the engine offers token ids."""

    text: str
    num_prompt_tokens: int | None
    ids: tuple[int, ...] | None
    prompt_ids: tuple[int, ...] | None


def announced_url(run_folder: Path) -> str | None:
    """Return the URL that a running `groundtune serve` of this run wrote to serve.json, or None."""
    try:
        state = json.loads((run_folder / "serve.json").read_text(encoding="utf-8"))
        os.kill(int(state["pid"]), 0)
        return str(state["url"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def ask_served(
    url: str, model: str, prompts: Sequence[Prompt], max_tokens: int, advance: Callable[[], None]
) -> list[ServedAnswer]:
    """Ask one prompt after the other, greedily. The key is $OPENAI_API_KEY, if the server wants one.

    Raises:
        GroundTuneError: the server does not answer, or does not serve `model`.
    """
    key = os.environ.get("OPENAI_API_KEY") or _NO_KEY
    extra: dict[str, Any] | None = dict(_ASK_FOR_IDS)
    answers = []
    with OpenAI(base_url=url, api_key=key, max_retries=0, timeout=_TIMEOUT_S) as client:
        _require_model(client, url, model)
        for prompt in prompts:
            try:
                completion, extra = _ask(client, model, prompt, max_tokens, extra)
            except OpenAIError as error:
                raise GroundTuneError(f"{url}: {prompt.question!r}: {error}") from error
            answers.append(_read(completion))
            advance()
    return answers


def _require_model(client: OpenAI, url: str, model: str) -> None:
    try:
        ids = [item.id for item in client.models.list().data]
    except APIStatusError:
        return  # not every server lists its models
    except OpenAIError as error:
        raise GroundTuneError(f"{url}: does not answer ({error}); start the server, or give --url") from error
    if ids and model not in ids:
        raise GroundTuneError(f"{url}: serves no model {model!r} (it has {', '.join(ids)}); give --model")


def _ask(
    client: OpenAI, model: str, prompt: Prompt, max_tokens: int, extra: dict[str, Any] | None
) -> tuple[Any, dict[str, Any] | None]:
    """Return the completion and what to send beside the next prompt."""
    request: dict[str, Any] = {
        "model": model,
        "messages": [dict(message) for message in prompt.messages],
        "temperature": 0,
        "max_tokens": max_tokens,
    }
    if extra:
        try:
            return client.chat.completions.create(**request, extra_body=extra), extra
        except BadRequestError:
            pass  # most likely the unknown field; if not, the next request says so
    return client.chat.completions.create(**request), None


def _read(completion: Any) -> ServedAnswer:
    choice = completion.choices[0]
    beside: dict[str, Any] = {**(completion.model_extra or {}), **(choice.model_extra or {})}
    return ServedAnswer(
        choice.message.content or "",
        completion.usage.prompt_tokens if completion.usage else None,
        _ids(beside.get("token_ids")),
        _ids(beside.get("prompt_token_ids")),
    )


def _ids(value: Any) -> tuple[int, ...] | None:
    return tuple(value) if isinstance(value, list) and all(isinstance(item, int) for item in value) else None
