"""What a grounded model says, with the default models: word for word, filtered, in a conversation, and cited."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI

from data.records import Row, write_records
from rag.config import IndexSection
from rag.index import build_index
from tests.rag.rows import row
from tests.serving.live_serve import serving

pytestmark = pytest.mark.integration

_BASE = "qwen2.5-coder-0.5b-instruct"
_CELLS = {
    ("高血压", "饮食"): (
        "高血压病人饮食要注意什么",
        "每天食盐不超过5克，少吃腌制品，多吃新鲜蔬菜，控制体重。",
    ),
    ("高血压", "用药"): ("血压正常了能停降压药吗", "不要自行停药，突然停药会使血压反弹，应由医生调整。"),
    ("高血压", "症状"): ("高血压有什么症状", "多数人没有感觉，部分人头痛、头晕、耳鸣，要靠测量发现。"),
    ("痛风", "饮食"): ("痛风病人饮食要注意什么", "不吃动物内脏和浓肉汤，不喝酒，每天饮水2000毫升以上。"),
    ("痛风", "用药"): ("痛风急性发作吃什么药", "急性期可遵医嘱用秋水仙碱或消炎止痛药，不要突然停降尿酸药。"),
    ("痛风", "症状"): ("痛风有什么症状", "常在夜里突然发作，大脚趾关节红肿、发热、剧烈疼痛。"),
    ("感冒", "饮食"): ("感冒了饮食要注意什么", "多喝温水，吃清淡易消化的食物，少吃油炸和辛辣食物。"),
    ("感冒", "用药"): ("感冒要吃抗生素吗", "普通感冒多由病毒引起，抗生素无效，发热可用对乙酰氨基酚。"),
    ("感冒", "症状"): ("感冒有什么症状", "鼻塞、流涕、咽痛、咳嗽，一般一周左右好转。"),
}
ROWS = {
    key: row(*key, question, answer, number)
    for number, (key, (question, answer)) in enumerate(_CELLS.items(), start=2)
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, fetched_models: Path) -> Iterator[str]:
    """The default base model over these rows, quoting cells where a question is a row's own."""
    root = tmp_path_factory.mktemp("var")
    (root / "models").symlink_to(fetched_models)
    dataset = root / "runs" / "r" / "dataset"
    write_records(dataset / "rows.jsonl", ROWS.values())
    build_index(dataset, fetched_models / "multilingual-e5-small-asked", root / "index" / "r", IndexSection())
    with serving(root, "--base", _BASE, "--set", "retrieve.verbatim=true") as served:
        yield served.url


@pytest.fixture
def client(url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client


def ask(client: OpenAI, messages: list[Any], **more: Any) -> Any:
    """The message that answers, with its `context` and `annotations`."""
    answer = client.chat.completions.create(
        model="base-rag", messages=messages, max_tokens=96, temperature=0, **more
    )
    return answer.choices[0].message


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def cited(message: Any) -> list[str]:
    """The ids of the rows that the answer cites."""
    return [note.url_citation.url.rpartition("/")[2] for note in message.annotations or []]


def shown(message: Any) -> list[str]:
    """The ids of the rows that the answer was made from."""
    return [citation["chunk_id"] for citation in message.context["citations"]]


def test_a_rows_own_question_gets_its_cell_unchanged(client: OpenAI) -> None:
    right = ROWS["痛风", "症状"]
    message = ask(client, [user("痛风有什么症状？")])
    assert re.sub(r"\[\d+\]", "", message.content) == right.answer
    assert message.context["quoted"] is True
    assert cited(message) == [right.row_id]


def test_only_the_rows_asked_for_are_used(client: OpenAI) -> None:
    only = {"filter": {"info_1": ["痛风"], "info_2": ["饮食", "用药"]}}
    message = ask(client, [user("平时吃东西要注意些什么")], extra_body={"groundtune": only})
    wanted = {ROWS["痛风", "饮食"].row_id, ROWS["痛风", "用药"].row_id}
    assert set(shown(message)) == wanted
    assert set(cited(message)) <= wanted
    with pytest.raises(Exception, match="脚气"):
        ask(client, [user("吃什么")], extra_body={"groundtune": {"filter": {"info_1": "脚气"}}})


@pytest.mark.parametrize("subject", ["高血压", "痛风"])
def test_a_follow_up_is_about_what_was_spoken_of(client: OpenAI, subject: str) -> None:
    first: Row = ROWS[subject, "症状"]
    messages = [
        user(f"{subject}会有哪些表现"),
        {"role": "assistant", "content": first.answer},
        user("那饮食方面呢？"),
    ]
    message = ask(client, messages)
    assert ROWS[subject, "饮食"].row_id in shown(message), message.context["intent"]
    assert cited(message)[:1] == [ROWS[subject, "饮食"].row_id], message.content


@pytest.mark.parametrize("stream", [False, True])
def test_every_marker_names_a_row_that_can_be_opened(client: OpenAI, url: str, stream: bool) -> None:
    question = [user("得了高血压，降压药吃到血压好了，是不是可以不吃了")]
    if stream:
        text, notes = "", []
        for chunk in client.chat.completions.create(
            model="base-rag", messages=question, max_tokens=96, temperature=0, stream=True
        ):
            for choice in chunk.choices:
                text += choice.delta.content or ""
                notes += choice.delta.model_dump().get("annotations") or []
        urls = [note["url_citation"]["url"] for note in notes]
    else:
        message = ask(client, question)
        text = message.content
        urls = [note.url_citation.url for note in message.annotations or []]
    assert text.strip()
    assert urls
    assert set(re.findall(r"\[(\d+)\]", text)), text
    right = ROWS["高血压", "用药"]
    assert right.row_id in {found.rpartition("/")[2] for found in urls}
    for found in urls:
        assert found.startswith(url.removesuffix("/v1"))
        row_shown = httpx.get(found).json()
        assert row_shown["answer"] in {each.answer for each in ROWS.values()}
