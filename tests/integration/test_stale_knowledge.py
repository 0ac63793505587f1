"""A small real model that has learned some answers by heart, and a workbook in which two of them have changed since."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from tests.data.test_workbook import make_workbook
from tests.serving.live_serve import serving

pytestmark = pytest.mark.integration

HEADER = ["info_1", "info_2", "Q", "A"]
OLD = {
    "How long does the warranty last?": "The warranty covers two years of normal use, batteries excluded.",
    "How do I return a parcel?": "Send the parcel back within 30 days in the original box.",
    "Where are my invoices?": "Invoices are found under Account, Billing, and can be downloaded as PDF.",
    "Which charger may I use?": "Use only the black charger that came with the device.",
}
NEW = {
    **OLD,
    "How long does the warranty last?": "Since May, every device is guaranteed for five years, batteries included.",
    "How do I return a parcel?": "Returns are booked online; a courier collects them from your door.",
}
CHANGED = [question for question in OLD if OLD[question] != NEW[question]]


def groundtune(root: Path, *arguments: str) -> str:
    environment = {**os.environ, "GROUNDTUNE_VAR": str(root)}
    argv = [sys.executable, "-m", "serving.cli", *arguments]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def workbook(path: Path, answers: dict[str, str]) -> str:
    rows = [["Support", "Service", question, answer] for question, answer in answers.items()]
    return str(make_workbook(path, {"S": [HEADER, *rows]}))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, fetched_models: Path) -> Path:
    """A run `r` that was trained on OLD, merged, and indexed from NEW."""
    root = tmp_path_factory.mktemp("var")
    (root / "models").symlink_to(fetched_models)
    settings = (
        "models.base=smollm2-135m-instruct",
        "prepare.own_questions=0",
        "train.epochs=40",
        "train.max_train_tokens=null",
        "train.checkpoint_every_s=600",
    )
    options = [option for setting in settings for option in ("--set", setting)]
    groundtune(
        root, "data", "prepare", "--name", "r", "--workbook", workbook(root / "old.xlsx", OLD), *options
    )
    groundtune(root, "train", "run", "--name", "r")
    groundtune(root, "train", "merge", "--name", "r")
    groundtune(root, "data", "prepare", "--name", "r", "--workbook", workbook(root / "new.xlsx", NEW))
    groundtune(root, "rag", "index", "--name", "r")
    return root


def test_the_weights_say_the_old_answer_and_the_release_the_new_one(root: Path, tmp_path: Path) -> None:
    with (
        serving(root, "--set", "models.base=smollm2-135m-instruct") as served,
        OpenAI(base_url=served.url, api_key="none", max_retries=0) as client,
    ):

        def ask(question: str, **extra: Any) -> Any:
            answer = client.chat.completions.create(
                model="tuned",
                messages=[{"role": "user", "content": question}],
                max_tokens=48,
                extra_body=extra or None,
            )
            return answer.choices[0].message

        for question in CHANGED:
            alone = ask(question, groundtune={"ground_stale": False})
            assert alone.content.strip() == OLD[question]
            message = ask(question)
            assert message.context["retrieval_forced"]["change"] == "revised"
            assert NEW[question] in [passage["content"] for passage in message.context["citations"]]
            assert OLD[question] not in message.content
        unchanged = ask("Where are my invoices?")
        assert getattr(unchanged, "context", None) is None
        assert unchanged.content.strip() == OLD["Where are my invoices?"]
        out = tmp_path / "out"
        options = ("--stale-only", "--url", served.url, "--max-tokens", "48", "--out", str(out))
        shown = groundtune(root, "compare", "--name", "r", *options)
    probe = json.loads((out / "compare.json").read_text())["stale"]
    assert probe["num_stale"] == 2
    assert probe["counts"]["tuned alone"]["old"] == 2
    assert probe["counts"]["tuned as served"]["old"] == 0
    assert "tuned alone gives the old answer to 2" in shown
