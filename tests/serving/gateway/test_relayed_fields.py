"""What goes to an engine and comes back from it as it is: sampling, tools, log-probabilities."""

from __future__ import annotations

from tests.serving.conftest import Running
from tests.serving.scripted_engine import ScriptedEngine

QUESTION = [{"role": "user", "content": "高血压能吃盐吗"}]


def test_sampling_goes_to_engines_that_sample(gateway: Running, engine: ScriptedEngine) -> None:
    for model in ("base", "tuned"):
        raw = gateway.client.chat.completions.with_raw_response.create(
            model=model, messages=QUESTION, temperature=0.7, top_p=0.9, max_completion_tokens=9
        )
        ignored = raw.headers.get("x-fields-without-effect")
        assert ignored == (None if model == "base" else "temperature, top_p")
    sampled, greedy = engine.requests
    assert (sampled["temperature"], sampled["top_p"], sampled["max_tokens"]) == (0.7, 0.9, 9)
    assert greedy["temperature"] == 0
    assert "top_p" not in greedy


def test_tool_calls_pass(gateway: Running, engine: ScriptedEngine) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"q": '}, "index": 0}
    rest = {"index": 0, "function": {"arguments": '"盐"}'}}
    engine.texts, engine.tool_calls, engine.finish_reason = [], [call, rest], "tool_calls"
    tools = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    answer = gateway.client.chat.completions.create(model="base", messages=QUESTION, tools=tools)
    message = answer.choices[0].message
    assert message.content is None
    assert message.tool_calls is not None
    assert message.tool_calls[0].function.arguments == '{"q": "盐"}'
    assert answer.choices[0].finish_reason == "tool_calls"


def test_log_probabilities_pass(gateway: Running, engine: ScriptedEngine) -> None:
    asked = {"model": "base", "messages": QUESTION, "logprobs": True, "top_logprobs": 2}
    expected = [("你", 0.0), ("好", -0.5), ("。", -1.0)]
    whole = gateway.client.chat.completions.create(**asked).choices[0].logprobs
    assert whole is not None
    assert [(token.token, token.logprob) for token in whole.content or ()] == expected
    chunks = gateway.client.chat.completions.create(**asked, stream=True)
    told = [
        token for chunk in chunks if (found := chunk.choices[0].logprobs) for token in found.content or ()
    ]
    assert [(token.token, token.logprob) for token in told] == expected
    assert engine.requests[-1]["top_logprobs"] == 2
    plain = gateway.client.completions.create(model="base", prompt="x", logprobs=1).choices[0].logprobs
    assert plain is not None
    assert plain.tokens == ["你", "好", "。"]
    assert plain.token_logprobs == [0.0, -0.5, -1.0]
