"""The main job from workbook to report with a small real model, a real Chroma, real processes and the openai client."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.data.test_workbook import make_workbook

pytestmark = pytest.mark.integration

REPOSITORY = Path(__file__).parents[2]
MODELS = ("base", "tuned", "base-rag", "tuned-rag")
SETTINGS = (
    "models.base=smollm2-135m-instruct",
    "train.epochs=2",
    "train.top_layers=4",
    "train.lora_rank=4",
    "train.checkpoint_every_s=0.5",
    "ask.max_tokens=24",
    # One at a time: what a batch holds changes the last bit of bf16 arithmetic, and now and then a greedy token.
    "ask.concurrency=1",
    "ask.questions=3",
)
TOPICS = {
    "Returns": "Send the parcel back within 30 days; keep the receipt and the original box.",
    "Warranty": "The warranty covers two years of normal use, batteries excluded.",
    "Delivery": "Orders placed before noon leave the warehouse the same day by courier.",
    "Passwords": "Click 'forgot password' on the sign-in page and follow the link in the mail.",
    "Invoices": "Invoices are found under Account, Billing, and can be downloaded as PDF.",
    "Chargers": "Use only the charger that came with the device; others may damage it.",
}
QUESTIONS = {
    2: "can I send my order back",
    3: "how long does the guarantee last",
    6: "where do I download my bill",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, fetched_models: Path) -> Path:
    """A folder with a workbook and a workspace that already holds the fetched models."""
    root = tmp_path_factory.mktemp("whole")
    rows = [["Topic", "Kind", "Question", "Answer"]]
    rows += [[topic, "support", f"What about {topic.lower()}", answer] for topic, answer in TOPICS.items()]
    paraphrases: list[list[object]] = [
        ["row", "question"],
        *([number, text] for number, text in QUESTIONS.items()),
    ]
    make_workbook(root / "support.xlsx", {"FAQ": rows, "paraphrases": paraphrases})
    (root / "var").mkdir()
    (root / "var" / "models").symlink_to(fetched_models)
    return root


def command(place: Path, name: str, *arguments: str) -> list[str]:
    options = [option for setting in SETTINGS for option in ("--set", setting)]
    return [
        *(sys.executable, "-m", "serving.cli", "quickstart", "--workbook", str(place / "support.xlsx")),
        *("--map", "info_1=Topic", "--map", "info_2=Kind", "--name", name, *options, *arguments),
    ]


def environment(place: Path) -> dict[str, str]:
    return {**os.environ, "GROUNDTUNE_VAR": str(place / "var"), "HF_HUB_OFFLINE": "1"}


def run(place: Path, name: str, *arguments: str) -> tuple[dict[str, Any], float]:
    started = time.monotonic()
    argv = command(place, name, *arguments)
    result = subprocess.run(
        argv, env=environment(place), cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    report: dict[str, Any] = json.loads((place / "var" / "quickstart" / "report.json").read_text())
    return report, time.monotonic() - started


def processes_of(place: Path) -> list[str]:
    """Return the command lines of processes that work in `place`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if str(place).encode() in text and int(entry.name) != os.getpid():
                found.append(text.decode(errors="replace")[:200])
    return found


@pytest.fixture(scope="module")
def first(place: Path) -> tuple[dict[str, Any], float]:
    return run(place, "one")


def test_every_question_has_four_answers_with_figures(
    first: tuple[dict[str, Any], float], place: Path
) -> None:
    report, _ = first
    assert [item["question"] for item in report["questions"]] == list(QUESTIONS.values())
    for item in report["questions"]:
        assert set(item["answers"]) == set(MODELS)
        for model, answer in item["answers"].items():
            assert answer["text"].strip()
            assert answer["latency_s"] > 0
            assert 0 < answer["completion_tokens"] <= 24
            assert (answer["cites_right_row"] is not None) == model.endswith("-rag")
            assert all(citation["resolves"] for citation in answer["citations"])
    assert set(report["summary"]) == set(MODELS)
    assert any(item["answers"]["base-rag"]["cites_right_row"] for item in report["questions"])
    page = (place / "var" / "quickstart" / "report.html").read_text()
    assert all(question in page for question in QUESTIONS.values())
    assert not processes_of(place)


def test_a_second_run_skips_what_is_done_and_agrees(first: tuple[dict[str, Any], float], place: Path) -> None:
    report, took = first
    again, took_again = run(place, "one")
    steps = {step["name"]: step["outcome"] for step in again["steps"]}
    done = (
        "prepare the dataset",
        "train the adapter",
        "merge it into the base",
        "check the merged model",
        "index the rows",
    )
    for name in done:
        assert "up to date" in steps[name]
    assert steps["ask"].endswith("up to date")
    assert took_again < took
    assert again["questions"] == report["questions"]
    anew, _ = run(place, "one", "--ask-again")
    assert anew["questions"] != report["questions"], "nothing was asked: even the latencies are the same"

    def texts(of: dict[str, Any]) -> list[str]:
        return [item["answers"][model]["text"] for item in of["questions"] for model in MODELS]

    assert texts(anew) == texts(report)


def test_killed_anywhere_it_finishes_with_the_same_artefacts(
    first: tuple[dict[str, Any], float], place: Path
) -> None:
    for delay_s in (1.5, 6.0, 10.0, 14.0):
        process = subprocess.Popen(
            command(place, "two"),
            env=environment(place),
            cwd=REPOSITORY,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(delay_s)
        process.send_signal(signal.SIGKILL)
        process.wait()
        deadline = time.monotonic() + 10
        while processes_of(place) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert not processes_of(place)
    run(place, "two")
    for artefact in ("dataset", "adapter", "merged"):
        one, two = (place / "var" / "runs" / name / artefact / "groundtune.json" for name in ("one", "two"))
        assert json.loads(one.read_text())["files"] == json.loads(two.read_text())["files"]
