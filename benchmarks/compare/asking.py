"""Putting the questions to the arms through OpenAI's client; the journal keeps what comes."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from benchmarks.compare.arms import Arm
from benchmarks.compare.journal import Journal
from benchmarks.compare.questions import Question
from benchmarks.measures.scores import Given
from benchmarks.measures.sources import Passage
from data.artefacts import digest_of
from data.errors import GroundTuneError

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_TRIES = 3
_PAUSE_S = 1.0


@dataclass(frozen=True)
class AskSettings:
    """How every question is asked. `identities`: by arm, what else its answers depend on (model files, index)."""

    max_tokens: int
    concurrency: int
    timeout_s: float
    identities: Mapping[str, str]
    api_key_variable: str = "OPENAI_API_KEY"

    def key(self, arm: Arm, question: Question) -> str:
        """Return the journal's key of an answer."""
        asked = [arm.label, self.identities.get(arm.label, ""), question.text, self.max_tokens]
        return digest_of(asked)


async def ask_arms(
    arms: Sequence[Arm],
    urls: Mapping[str, str],
    questions: Sequence[Question],
    settings: AskSettings,
    journal: Journal,
    on_answer: Callable[[], None],
) -> None:
    """Ask what the journal does not hold; one arm after the other, so that none slows another.

    Args:
        arms: Who is asked.
        urls: Each arm's API base, by label.
        questions: What.
        settings: How.
        journal: Gets each answer as it comes.
        on_answer: Called after each.

    Raises:
        GroundTuneError: some were not answered after three tries; all others are in the journal.
    """
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient

    failures: list[str] = []
    for arm in arms:
        missing = [item for item in questions if journal.get(settings.key(arm, item)) is None]
        if not missing:
            continue
        local = urlsplit(urls[arm.label]).hostname in ("127.0.0.1", "localhost", "::1")
        async with AsyncOpenAI(
            base_url=urls[arm.label],
            api_key=os.environ.get(settings.api_key_variable) or "none",
            max_retries=0,
            timeout=settings.timeout_s,
            # A proxy of the environment does not lead to this machine.
            http_client=DefaultAsyncHttpxClient(trust_env=False) if local else None,
        ) as client:
            waiting = iter(missing)

            async def work(arm: Arm, client: AsyncOpenAI, waiting: Any) -> None:
                for question in waiting:
                    try:
                        given = await _ask(client, arm, question, settings)
                    except GroundTuneError as error:
                        failures.append(str(error))
                        continue
                    journal.add(settings.key(arm, question), given)
                    on_answer()

            await asyncio.gather(*(work(arm, client, waiting) for _ in range(settings.concurrency)))
    if failures:
        raise GroundTuneError(
            f"{len(failures)} questions were not answered, the first: {failures[0]}; "
            "all other answers are kept: run the same command again to ask only these"
        )


async def _ask(client: AsyncOpenAI, arm: Arm, question: Question, settings: AskSettings) -> Given:
    from openai import APIConnectionError, APIStatusError, OpenAIError

    for attempt in range(1, _TRIES + 1):
        started_s = time.perf_counter()
        try:
            completion = await client.chat.completions.create(
                model=arm.model,
                messages=[{"role": "user", "content": question.text}],
                temperature=0,
                max_tokens=settings.max_tokens,
                extra_body=dict(arm.body) or None,
            )
        except (APIConnectionError, APIStatusError) as error:
            status = getattr(error, "status_code", 503)
            if attempt < _TRIES and (status == 429 or status >= 500):
                await asyncio.sleep(_PAUSE_S * attempt)
                continue
            raise GroundTuneError(f"{arm.label}, {question.text!r}: {error}") from error
        except OpenAIError as error:
            raise GroundTuneError(f"{arm.label}, {question.text!r}: {error}") from error
        return given_of(completion.model_dump(), time.perf_counter() - started_s)
    raise AssertionError("the last try returns or raises")


def given_of(completion: Mapping[str, Any], latency_s: float) -> Given:
    """Return the answer in a chat completion; its citations as GroundTune's gateway and Azure write them."""
    choices = completion.get("choices") or [{}]
    message = choices[0].get("message") or {}
    context = message.get("context")
    usage = completion.get("usage") or {}
    return Given(
        text=message.get("content") or "",
        cited=None if context is None else _cited(message, context),
        no_answer=bool(context and context.get("no_answer")),
        latency_s=round(latency_s, 4),
        prompt_tokens=usage.get("prompt_tokens"),
        completion_tokens=usage.get("completion_tokens"),
    )


def _cited(message: Mapping[str, Any], context: Mapping[str, Any]) -> tuple[Passage, ...]:
    """Return the passages that the text cites, in the order of their first marks."""
    passages = {
        passage["url"]: Passage(
            row_id=str(passage.get("chunk_id") or passage["url"]),
            title=str(passage.get("title") or ""),
            text=str(passage.get("content") or ""),
            url=passage["url"],
            source=str(passage.get("filepath") or ""),
        )
        for passage in context.get("citations") or ()
        if passage.get("url")
    }
    marks = [(mark.get("url_citation") or {}).get("url") for mark in message.get("annotations") or ()]
    return tuple(passages[url] for url in dict.fromkeys(marks) if url in passages)
