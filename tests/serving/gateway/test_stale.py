"""A tuned model is not asked what it learned before the answer changed: the rows are, and the answer says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import pytest
from openai import OpenAI

from data.diff.changes import Change
from data.records import revision_of, row_id_of
from rag.filters import RowFilter
from rag.grounding import Grounding
from rag.stale import Stale, StaleGuard
from serving.engines.engine import Engine
from serving.gateway.app import create_gateway
from serving.gateway.models import ModelTable, ServedModel
from serving.gateway.parts import GatewaySettings
from tests.serving.conftest import Running
from tests.serving.knowledge import ROWS, ThreeRows
from tests.serving.live_server import live_server
from tests.serving.scripted_engine import ScriptedEngine

SALT, FRUIT, _ = ROWS
OLD_SALT = replace(SALT, answer="每天食盐不超过 10 克。", revision=revision_of("每天食盐不超过 10 克。"))
GONE = replace(
    FRUIT, row_id=row_id_of("痛风", "饮食", "能喝酒吗"), info_1="痛风", question="能喝酒吗", answer="少喝。"
)
CHANGES = (Change("revised", OLD_SALT, SALT), Change("removed", GONE, None))
_WORDS = ("盐", "水果", "酒")


class NearRows(ThreeRows):
    """Finds the row whose question shares a word, and embeds a text by the words in it."""

    def ground(self, messages: Sequence[Mapping[str, Any]], only: RowFilter | None = None) -> Grounding:
        found = super().ground(messages, only)
        place = next((n for n, word in enumerate(_WORDS[:2]) if word in found.searched), 1)
        return replace(found, nearest=ROWS[place].row_id, quotable=None, rival=None)

    def embed(self, texts: Sequence[str], kind: Literal["query", "passage"]) -> list[list[float]]:
        return [[float(word in text) for word in _WORDS] for text in texts]


@pytest.fixture
def gateway(engine: ScriptedEngine, gateway_settings: GatewaySettings) -> Iterator[Running]:
    rows = NearRows()
    with live_server(lambda _: engine.app) as engine_url:
        tuned = Engine("tuned", f"{engine_url}/v1", "model-t", frozenset({"stream_options"}))
        base = Engine("base", f"{engine_url}/v1", "model-b", frozenset({"stream_options"}))
        models = ModelTable(
            [
                ServedModel("base", base),
                ServedModel("tuned", tuned),
                ServedModel("tuned-rag", tuned, grounded=True),
            ]
        )
        with (
            live_server(
                lambda client: create_gateway(
                    models,
                    client=client,
                    settings=gateway_settings,
                    knowledge=rows,
                    grounder=rows,
                    stale=StaleGuard(CHANGES, rows),
                )
            ) as url,
            OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
        ):
            yield Running(url, client)


def ask(gateway: Running, model: str, question: str, **extra: Any) -> Any:
    answer = gateway.client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}], extra_body=extra or None
    )
    return answer.choices[0].message


def test_a_question_about_a_changed_row_is_answered_from_the_rows(
    gateway: Running, engine: ScriptedEngine
) -> None:
    message = ask(gateway, "tuned", "高血压能吃盐吗")
    assert message.context["retrieval_forced"] == {
        "reason": "stale",
        "row_id": SALT.row_id,
        "change": "revised",
    }
    assert next(passage["content"] for passage in message.context["citations"]) == SALT.answer
    assert engine.requests[-1]["messages"][0]["content"] == "rows"


def test_others_are_asked_as_ever(gateway: Running, engine: ScriptedEngine) -> None:
    for model, question in (("tuned", "糖尿病能吃水果吗"), ("base", "高血压能吃盐吗"), ("tuned", "你好")):
        message = ask(gateway, model, question)
        assert getattr(message, "context", None) is None
        assert engine.requests[-1]["messages"][-1]["content"] == question
        assert engine.requests[-1]["messages"][0]["content"] == "你是医生。"
    assert "retrieval_forced" not in ask(gateway, "tuned-rag", "高血压能吃盐吗").context


def test_a_client_can_have_the_models_own_answer(gateway: Running, engine: ScriptedEngine) -> None:
    message = ask(gateway, "tuned", "高血压能吃盐吗", groundtune={"ground_stale": False})
    assert getattr(message, "context", None) is None
    assert engine.requests[-1]["messages"][0]["content"] == "你是医生。"


def test_a_row_that_is_gone_is_answered_from_what_is_left(gateway: Running) -> None:
    message = ask(gateway, "tuned", "痛风能喝酒吗")
    assert message.context["retrieval_forced"] == {
        "reason": "stale",
        "row_id": GONE.row_id,
        "change": "removed",
    }


def test_a_stream_says_it_too(gateway: Running) -> None:
    stream = gateway.client.chat.completions.create(
        model="tuned", messages=[{"role": "user", "content": "高血压能吃盐吗"}], stream=True
    )
    contexts = [context for chunk in stream if (context := getattr(chunk.choices[0].delta, "context", None))]
    assert [context["retrieval_forced"]["change"] for context in contexts] == ["revised"]


def test_a_second_row_that_may_as_well_be_meant_counts() -> None:
    rows = NearRows()
    grounding = replace(
        rows.ground([{"role": "user", "content": "糖尿病能吃水果吗，能吃盐吗"}]),
        nearest=FRUIT.row_id,
        rival=0,
    )
    guard = StaleGuard(CHANGES[:1], rows)
    assert guard.match(grounding) == Stale(SALT.row_id, "revised")
    assert guard.match(replace(grounding, rival=None)) is None
