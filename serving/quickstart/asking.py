"""Putting questions to every served model through the real OpenAI client."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import httpx
from openai import AsyncOpenAI, OpenAIError

from data.errors import GroundTuneError
from data.records import HeldOutQuestion
from serving.quickstart.scores import rouge_l, without_markers

# Some 490 tokens, two seconds of reading on two cores; a question each so often gives retrieval the time to keep their
# order.
_NUM_READ = 150
_BETWEEN_S = 0.03


@dataclass(frozen=True)
class CitedRow:
    """A citation as the client saw it; `resolves` when its URL answered with that row."""

    row_id: str
    title: str
    url: str
    source: str
    resolves: bool


@dataclass(frozen=True)
class Answer:
    """One model's answer. `cites_right_row` is None for a model that cites nothing by design.

    `quoted`: the model's own text had no source among the rows, so a row was quoted in its place.
    """

    text: str
    latency_s: float
    completion_tokens: int
    rouge_l: float
    citations: tuple[CitedRow, ...]
    cites_right_row: bool | None
    no_answer: bool
    quoted: bool


Answers = dict[tuple[int, str], Answer]
"""By the place of the question in its list and the model's id."""


@dataclass(frozen=True)
class Asked:
    """A question with the answers by model id."""

    question: HeldOutQuestion
    answers: dict[str, Answer]


async def ask_all(
    url: str,
    models: Sequence[str],
    questions: Sequence[HeldOutQuestion],
    concurrency: int,
    max_tokens: int,
    known: Answers,
    on_answers: Callable[[Answers], None],
) -> None:
    """Ask every question of every model, greedily; models one after the other so that none slows another.

    Args:
        url: the API's base, ending in /v1.
        known: answers, by the question's place and the model's id, that need not be asked for.
        on_answers: gets each group of answers, complete.

    Raises:
        GroundTuneError: a request failed.
    """
    async with (
        AsyncOpenAI(base_url=url, api_key="not-needed", max_retries=0, timeout=600) as client,
        httpx.AsyncClient(timeout=30, trust_env=False) as rows,
    ):
        for model in models:
            # Equal batches give equal arithmetic: the next group begins when the whole one before is done.
            for start in range(0, len(questions), concurrency):
                keys = [(place, model) for place in range(start, min(start + concurrency, len(questions)))]
                if all(key in known for key in keys):
                    continue
                asked = [_ask(client, rows, model, questions[place], max_tokens) for place, _ in keys]
                group = [_in_turn(turn, answer) for turn, answer in enumerate(asked, start=1)]
                reading = asyncio.create_task(_occupy(client, model, start)) if len(group) > 1 else None
                answers = await asyncio.gather(*group)
                if reading is not None:
                    await reading
                on_answers(dict(zip(keys, answers, strict=True)))


async def _in_turn(turn: int, asked: Awaitable[Answer]) -> Answer:
    await asyncio.sleep(_BETWEEN_S * turn)
    return await asked


async def _occupy(client: AsyncOpenAI, model: str, start: int) -> None:
    """Give the engine of `model` something long to read, for which nothing is searched.

    The questions that follow wait together, and enter one batch, in their order. Were they taken as they come, a batch
    would hold now more, now fewer of them, and the last bit of bfloat16 arithmetic, in time a word, would differ.
    """
    text = f"{model} {start}: " + " ".join(map(str, range(_NUM_READ)))
    with contextlib.suppress(
        OpenAIError
    ):  # then answers may differ by a word; the questions say what is wrong
        await client.chat.completions.create(
            model=model.removesuffix("-rag"),
            messages=[{"role": "user", "content": text}],
            temperature=0,
            max_tokens=1,
        )


async def _ask(
    client: AsyncOpenAI,
    rows: httpx.AsyncClient,
    model: str,
    question: HeldOutQuestion,
    max_tokens: int,
) -> Answer:
    started = time.perf_counter()
    try:
        completion = await client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": question.question}],
            temperature=0,
            max_tokens=max_tokens,
        )
    except OpenAIError as error:
        raise GroundTuneError(f"model {model!r}, question {question.question!r}: {error}") from error
    latency_s = time.perf_counter() - started
    message = completion.choices[0].message
    text = message.content or ""
    citations = tuple([await _resolve(rows, item.url_citation.url) for item in message.annotations or []])
    # `context` is an extension: the client keeps it beside the fields that it knows.
    context = (message.model_extra or {}).get("context")
    return Answer(
        text=text,
        latency_s=round(latency_s, 3),
        completion_tokens=completion.usage.completion_tokens if completion.usage else 0,
        rouge_l=round(rouge_l(without_markers(text), question.answer), 2),
        citations=citations,
        cites_right_row=None
        if context is None
        else any(cited.row_id == question.row_id for cited in citations),
        no_answer=bool(context and context.get("no_answer")),
        quoted=bool(context and context.get("quoted")),
    )


async def _resolve(rows: httpx.AsyncClient, url: str) -> CitedRow:
    response = await rows.get(url, headers={"Accept": "application/json"})
    row = response.json() if response.status_code == httpx.codes.OK else {}
    row_id = url.rsplit("/", 1)[-1]
    title = " · ".join(part for part in (row.get("info_1"), row.get("info_2"), row.get("question")) if part)
    return CitedRow(row_id, title, url, row.get("source", ""), resolves=row.get("row_id") == row_id)
