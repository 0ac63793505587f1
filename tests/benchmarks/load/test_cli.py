"""`bench load` and `bench compare` as a person calls them, against a scripted server."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks.cli import app
from benchmarks.load.difference import changes
from data.errors import GroundTuneError, InputError, UsageError
from tests.benchmarks.load.scripted_upstream import scripted_upstream
from tests.data.test_workbook import make_workbook


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "questions.jsonl"
    lines = [json.dumps({"question": f"question {number}"}) for number in range(7)]
    path.write_text("\n".join(lines) + "\n")
    return path


def bench(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    if isinstance(result.exception, GroundTuneError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_pauses_make_a_closed_loop_slower(questions: Path, tmp_path: Path) -> None:
    options = ("--questions", questions, "--concurrency", "2", "--requests", 8, "--warmup", 0)
    seconds = []
    with scripted_upstream("--first-s", "0.01", "--tokens", "2") as url:
        for place, pauses in enumerate(((), ("--think-ms", "200"))):
            out = tmp_path / str(place)
            bench("load", url, *options, *pauses, "--out", out)
            (level,) = json.loads((out / "load.json").read_text())["levels"]
            assert level["think_ms"] == (200 if pauses else 0)
            assert sorted({request["question"] for request in level["requests"]}) == list(range(7))
            seconds.append(level["figures"]["duration_s"])
        with pytest.raises(UsageError, match="--concurrency"):
            bench("load", url, "--questions", questions, "--rate", "5", "--think-ms", "5")
    # Three pauses in each of the two places, between 0 and 400 ms.
    assert 0.1 < seconds[1] - seconds[0] < 1.3


def test_a_sweep_over_concurrency(questions: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with scripted_upstream(
        "--first-s", "0.03", "--gap-s", "0.01", "--tokens", "6", "--per-chunk", "2"
    ) as url:
        options = ("--questions", questions, "--concurrency", "1,3", "--requests", 12, "--warmup", 3)
        shown = bench("load", url, *options, "--limit", "ttft=1000", "--out", out)
    report = json.loads((out / "load.json").read_text())
    one, three = report["levels"]
    assert (one["concurrency"], three["concurrency"], len(one["requests"])) == (1, 3, 12)
    figures = one["figures"]
    # 30 ms to the first two tokens; then 10 ms for each two: 20 ms for what counts as five.
    assert 30 <= figures["ttft_ms"]["p50"] < 45
    assert 4 <= figures["tpot_ms"]["p50"] < 6
    assert figures["mean_output_tokens"] == 6
    assert figures["tokens_counted_by"] == ["usage"]
    assert figures["goodput_per_s"] == figures["requests_per_s"]
    assert figures["stages_ms"]["embed"]["p50"] == 3.5
    assert three["figures"]["requests_per_s"] > 2 * figures["requests_per_s"]
    (first, second) = csv.DictReader((out / "load.csv").read_text().splitlines())
    assert (first["level"], second["level"]) == ("1", "3")
    assert float(first["ttft_ms_p50"]) == figures["ttft_ms"]["p50"]
    assert (out / "load.png").read_bytes().startswith(b"\x89PNG")
    assert "3 at once" in shown and "retrieve" in shown
    page = (out / "load.html").read_text()
    assert "src=" not in page and "href=" not in page and page.count("<circle") == 3 * 3 * 2
    assert "None of 24 requests failed" in page and "ttft ≤ 1000 ms" in page


def test_an_open_loop_and_a_server_that_knows_no_stream_options(questions: Path, tmp_path: Path) -> None:
    with scripted_upstream("--strict") as url:
        options = ("--questions", questions, "--rate", "100", "--requests", 30, "--arrivals", "gamma")
        shown = bench("load", url, *options, "--out", tmp_path / "out", "--json")
    (level,) = json.loads(shown)["levels"]
    assert level["mode"] == "open"
    assert level["figures"]["num_failed"] == 0
    assert level["figures"]["tokens_counted_by"] == ["pieces"]


def test_a_workbook_and_a_trace(tmp_path: Path) -> None:
    workbook = make_workbook(
        tmp_path / "k.xlsx", {"S": [["info_1", "info_2", "Q", "A"], ["a", "b", "能吃盐吗", "少吃。"]]}
    )
    ended = "2026-11-25T10:00:00.{:03d}+00:00"
    lines = [
        {"timestamp": 100.1, "question": "second"},
        {"timestamp": 100.0, "messages": [{"role": "user", "content": "first"}]},
        {"timestamp": 100.4, "question": "third"},
    ]
    log = [
        {"time": ended.format(500), "duration_ms": 400.0, "prompt": [{"role": "user", "content": "late"}]},
        {"time": ended.format(250), "duration_ms": 200.0, "prompt": [{"role": "user", "content": "early"}]},
        {"time": ended.format(600), "duration_ms": 1.0, "path": "/v1/models"},
    ]
    trace, server_log = tmp_path / "trace.jsonl", tmp_path / "requests.jsonl"
    trace.write_text("\n".join(map(json.dumps, lines)))
    server_log.write_text("\n".join(map(json.dumps, log)))
    with scripted_upstream() as url:
        options = ("--out", tmp_path / "out", "--json", "--warmup", 1)
        shown = bench("load", url, "--questions", workbook, "--concurrency", 2, "--requests", 4, *options)
        assert json.loads(shown)["levels"][0]["figures"]["num_failed"] == 0
        (level,) = json.loads(bench("load", url, "--trace", trace, "--speed", 2, *options))["levels"]
        (replayed,) = json.loads(bench("load", url, "--trace", server_log, *options))["levels"]
    assert (level["mode"], level["label"], len(level["requests"])) == ("open", "trace", 3)
    assert [request["start_s"] for request in level["requests"]] == pytest.approx([0, 0.05, 0.2])
    assert [request["start_s"] for request in replayed["requests"]] == pytest.approx([0, 0.05])
    trace.write_text('{"when": 3}')
    with pytest.raises(InputError, match=r"trace\.jsonl:1: expected"):
        bench("load", "http://127.0.0.1:9/v1", "--trace", trace)


def test_failures_are_counted_by_their_kind(questions: Path, tmp_path: Path) -> None:
    lines = ["ok", "busy", "ok", "cut", "broken"] * 4
    questions.write_text("\n".join(json.dumps({"question": line}) for line in lines))
    with scripted_upstream() as url:
        options = ("--questions", questions, "--concurrency", "2", "--requests", 20, "--warmup", 0)
        shown = bench("load", url, *options, "--out", tmp_path / "out", "--json")
    figures = json.loads(shown)["levels"][0]["figures"]
    assert figures["errors"] == {"HTTP 429": 4, "connection closed": 4, "error in the stream": 4}
    assert figures["num_requests"] - figures["num_failed"] == 8


def test_a_server_that_is_not_there(questions: Path) -> None:
    with pytest.raises(GroundTuneError, match="the first question was not answered"):
        bench("load", "http://127.0.0.1:9/v1", "--questions", questions, "--concurrency", "1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["http://h/v1"], "either --concurrency"),
        (["http://h/v1", "--rate", "1", "--concurrency", "1"], "either --concurrency"),
        (["http://h/v1", "--rate", "1,x"], "--rate '1,x': expected numbers"),
        (["ftp://h/v1", "--rate", "1"], "not an HTTP address"),
        (["http://h/v1", "--rate", "1", "--arrivals", "uniform"], "choose one of constant"),
        (["http://h/v1", "--rate", "1", "--limit", "ttfb=3"], "expected ttft="),
        (["http://h/v1", "--rate", "1", "--body", "[1]"], "expected a JSON object"),
    ],
)
def test_a_wrong_command_line(arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        bench("load", *arguments)


def report_of(ttft_ms: float, seed: int) -> dict[str, Any]:
    import numpy as np

    random = np.random.default_rng(seed)
    requests = [
        {
            "start_s": 0.1 * number,
            "ttft_ms": ttft_ms * random.lognormal(0, 0.2),
            "tpot_ms": 20 * random.lognormal(0, 0.1),
            "e2e_ms": 1000 * random.lognormal(0, 0.1),
            "tokens": 50,
        }
        for number in range(100)
    ]
    level = {"mode": "closed", "concurrency": 4, "rate": None, "label": "4 at once", "requests": requests}
    return {"kind": "groundtune bench load", "levels": [level]}


def test_only_what_changed_beyond_noise_is_called_a_change() -> None:
    found = {change.quantity: change for change in changes(report_of(100, 1), report_of(130, 2))}
    assert found["TTFT p50"].verdict == "worse"
    assert found["TTFT p50"].low < 1.3 < found["TTFT p50"].high
    assert found["TPOT p50"].verdict == found["tokens/s"].verdict == "no change beyond noise"
    back = {change.quantity: change for change in changes(report_of(130, 2), report_of(100, 1))}
    assert back["TTFT p50"].verdict == "better"


def test_comparing_files(tmp_path: Path) -> None:
    before, after = tmp_path / "a.json", tmp_path / "b.json"
    before.write_text(json.dumps(report_of(100, 1)))
    after.write_text(json.dumps(report_of(130, 2)))
    assert "worse" in bench("compare", before, after)
    failed = CliRunner().invoke(app, ["compare", str(before), str(after), "--fail-on-worse"])
    assert failed.exit_code == 1
    after.write_text("{}")
    with pytest.raises(InputError, match="not a report of `bench load`"):
        bench("compare", before, after)
