"""OpenAI's Python client: sync, async, streamed, and answers read through its own types."""

from __future__ import annotations

import asyncio

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat.chat_completion_message import Annotation

from tests.clients.conftest import Api
from tests.serving.knowledge import ROWS


@pytest.fixture
def client(api: Api) -> OpenAI:
    return OpenAI(base_url=api.url, api_key=api.key, max_retries=0)


def test_answers_are_of_its_types(client: OpenAI) -> None:
    with client:
        answer = client.chat.completions.create(
            model="base", messages=[{"role": "user", "content": "能吃盐吗?"}]
        )
        listed = client.models.list().data
    # As strictly as its types allow: every field must be of the declared type.
    ChatCompletion.model_validate(answer.model_dump(), strict=True)
    assert answer.choices[0].message.content == "字字字"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3
    assert [model.id for model in listed][:2] == ["base", "base-rag"]


@pytest.mark.parametrize("question", ["能吃水果吗?", "要喝水吗?"])
def test_citations_are_its_own_annotations(client: OpenAI, question: str) -> None:
    with client:
        message = (
            client.chat.completions.create(model="base-rag", messages=[{"role": "user", "content": question}])
            .choices[0]
            .message
        )
    assert message.content is not None
    assert message.annotations
    for annotation in message.annotations:
        assert isinstance(annotation, Annotation)
        cited = annotation.url_citation
        assert message.content[cited.start_index : cited.end_index].startswith("[")
        assert cited.url.rpartition("/")[2] in {row.row_id for row in ROWS}


def test_stream_is_of_its_types(client: OpenAI) -> None:
    with client:
        chunks = list(
            client.chat.completions.create(
                model="base-rag",
                messages=[{"role": "user", "content": "要喝水吗?"}],
                stream=True,
                stream_options={"include_usage": True},
            )
        )
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk.model_dump(), strict=True)
    assert (
        "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "多喝温水。[3]"
    )
    (cited,) = [
        chunk.choices[0].delta
        for chunk in chunks
        if chunk.choices and (chunk.choices[0].delta.model_extra or {}).get("annotations")
    ]
    assert cited.model_extra is not None
    Annotation.model_validate(cited.model_extra["annotations"][0])
    assert chunks[-1].usage is not None


def test_many_at_once_with_the_async_client(api: Api) -> None:
    async def ask(client: AsyncOpenAI, stream: bool) -> str:
        messages = [{"role": "user", "content": "能吃盐吗?"}]
        if stream:
            chunks = await client.chat.completions.create(model="base", messages=messages, stream=True)  # type: ignore[call-overload]
            return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])
        answer = await client.chat.completions.create(model="base", messages=messages)  # type: ignore[call-overload]
        return str(answer.choices[0].message.content)

    async def run() -> list[str]:
        async with AsyncOpenAI(base_url=api.url, api_key=api.key, max_retries=0) as client:
            return await asyncio.gather(*(ask(client, number % 2 == 0) for number in range(20)))

    assert asyncio.run(run()) == ["字字字"] * 20


def test_its_stream_helper_and_its_errors(api: Api, client: OpenAI) -> None:
    with client:
        with client.chat.completions.stream(
            model="base", messages=[{"role": "user", "content": "能吃盐吗?"}]
        ) as stream:
            whole = stream.get_final_completion()
        with pytest.raises(openai.NotFoundError, match="not served here") as missing:
            client.chat.completions.create(model="none", messages=[{"role": "user", "content": "?"}])
    assert whole.choices[0].message.content == "字字字"
    assert missing.value.code == "model_not_found"
    with (
        OpenAI(base_url=api.url, api_key="wrong", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.models.list()
