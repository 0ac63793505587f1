"""Times and tokens worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from benchmarks.load.exchange import Exchange
from benchmarks.load.figures import figures_of, samples_of
from benchmarks.load.stream import read_answer
from benchmarks.load.tokens import TokenCounter, tokens_of_pieces
from data.errors import InputError


def event(text: str | None = None, finish: str | None = None, **more: Any) -> bytes:
    choices = [{"delta": {"content": text} if text is not None else {}, "finish_reason": finish}]
    return f"data: {json.dumps({'choices': choices, **more})}\n\n".encode()


def exchange(due_s: float = 10.0, **changes: Any) -> Exchange:
    """First text after 100 ms, two more pieces 20 and 60 ms later, the end 10 ms after that."""
    usage = {"prompt_tokens": 11, "completion_tokens": 5}
    chunks = [
        (due_s + 0.05, event("")),
        (due_s + 0.10, event("ab ")),
        (due_s + 0.12, event("cd ")),
        (due_s + 0.18, event("ef gh ij") + event(finish="stop")),
        (due_s + 0.19, event(usage=usage) + b"data: [DONE]\n\n"),
    ]
    values = {"status": 200, "sent_s": due_s + 0.001, "ended_s": due_s + 0.19, "chunks": chunks, **changes}
    return Exchange(b"", due_s, **values)


@pytest.fixture
def counter(tmp_path: Path) -> TokenCounter:
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return TokenCounter(tmp_path)


def test_times_of_one_request(counter: TokenCounter) -> None:
    (sample,) = samples_of([exchange()], counter)
    assert sample.ttft_ms == pytest.approx(100)
    assert sample.tpot_ms == pytest.approx(80 / 4)
    assert sample.e2e_ms == pytest.approx(190)
    assert sample.lateness_ms == pytest.approx(1)
    assert (sample.tokens, sample.counted_by, sample.prompt_tokens) == (5, "usage", 11)
    # 20 ms for one token, then 60 ms for three.
    assert [gap for gap, _ in sample.itl_ms] == pytest.approx([20, 20])
    assert [count for _, count in sample.itl_ms] == pytest.approx([1, 3])


def test_tokens_are_not_pieces(counter: TokenCounter) -> None:
    pieces = ["ab", "c de f", "", "g"]
    assert tokens_of_pieces(pieces, None, counter) == ([0, 2, 0, 1], "tokenizer")
    assert tokens_of_pieces(pieces, 9, None) == ([2, 6, 0, 1], "usage")
    assert tokens_of_pieces(pieces, None, None) == ([1, 1, 1, 1], "pieces")
    with pytest.raises(InputError, match=r"tokenizer\.json: not there"):
        TokenCounter(Path("nowhere"))


def test_an_event_that_comes_in_parts_counts_when_it_is_whole() -> None:
    whole = event("ab") + event(finish="stop")
    parts = [(1.0, whole[:9]), (2.0, whole[9:-3]), (3.0, whole[-3:])]
    answer = read_answer(Exchange(b"", status=200, chunks=parts, ended_s=3.0))
    assert answer.pieces == ((2.0, "ab"),)
    assert (answer.finish_reason, answer.error) == ("stop", "")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"status": 429, "chunks": [(1.0, b"{}")]}, "HTTP 429"),
        ({"error": "connection closed"}, "connection closed"),
        ({"chunks": [(1.0, event("ab"))]}, "stream ended early"),
        ({"chunks": [(1.0, event(finish="stop"))]}, "no text"),
        ({"chunks": [(1.0, event("ab") + b'data: {"error": "oom"}\n\n')]}, "error in the stream"),
    ],
)
def test_what_is_not_a_whole_answer_has_no_times(changes: dict[str, Any], error: str) -> None:
    (sample,) = samples_of([exchange(**changes)], None)
    assert sample.error == error
    assert sample.ttft_ms is sample.e2e_ms is None


def test_figures_of_a_level() -> None:
    exchanges = [exchange(), exchange(10.5), exchange(10.81), exchange(10.9, status=500)]
    exchanges[1].headers["server-timing"] = "embed;dur=3.5, retrieve;dur=1.25"
    figures = figures_of(samples_of(exchanges, None), {"ttft_ms": 150, "tpot_ms": 10})
    assert (figures["num_requests"], figures["num_failed"]) == (4, 1)
    assert figures["errors"] == {"HTTP 500": 1}
    assert figures["duration_s"] == pytest.approx(1.0)
    assert figures["requests_per_s"] == pytest.approx(3.0)
    assert figures["output_tokens_per_s"] == pytest.approx(15.0)
    assert figures["prompt_tokens_per_s"] == pytest.approx(33.0)
    assert figures["goodput_per_s"] == 0
    assert figures["ttft_ms"]["p50"] == pytest.approx(100)
    assert figures["stages_ms"]["embed"]["p50"] == 3.5
    assert figures_of(samples_of(exchanges, None), {"ttft_ms": 150})["goodput_per_s"] == pytest.approx(3.0)


def test_figures_where_nothing_was_answered() -> None:
    figures = figures_of(samples_of([exchange(error="timeout")], None), {})
    assert (figures["requests_per_s"], figures["ttft_ms"], figures["goodput_per_s"]) == (0.0, None, None)
