"""The command line as a person meets it: fast help, one-line errors, exit statuses."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.test_workbook import make_workbook

REPOSITORY = Path(__file__).parent.parent


def groundtune(*arguments: str, cwd: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "serving.cli", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=False, cwd=cwd, timeout=120)


def test_help_is_fast_and_lists_every_command() -> None:
    groundtune("--help")  # compiles what has never been imported
    best = float("inf")
    for _ in range(3):
        used_before_s = _children_s()
        result = groundtune("--help")
        best = min(best, _children_s() - used_before_s)
    assert result.returncode == 0
    for name in ("quickstart", "data", "models", "train", "rag", "serve", "chat", "compare", "bench"):
        assert name in result.stdout
    # Seconds of the processor, not of the clock: a machine that is busy with something else is no fault of ours.
    assert best < 0.5


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize(
    "arguments",
    [
        ["data", "--help"],
        ["models", "--help"],
        ["train", "run", "--help"],
        ["rag", "--help"],
        ["serve", "--help"],
        ["quickstart", "--help"],
        ["compare", "--help"],
        ["bench", "load", "--help"],
    ],
)
def test_help_of_a_command_loads_no_model_library(arguments: list[str]) -> None:
    script = (
        "import sys; sys.argv = ['groundtune', *%r]\n"
        "from serving.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'transformers', 'chromadb', 'langchain_core', 'sentence_transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    result = subprocess.run(
        [sys.executable, "-c", script % (arguments,)],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
    )
    assert result.returncode == 0, result.stderr


def one_line(result: subprocess.CompletedProcess[str]) -> str:
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("groundtune: error: ")]
    assert "Traceback" not in result.stderr
    return line


def test_bad_input_is_one_line_and_exit_status_one(tmp_path: Path) -> None:
    path = make_workbook(tmp_path / "k.xlsx", {"S": [["Q", "A"], ["q", None]]})
    result = groundtune("data", "prepare", "--workbook", str(path))
    assert result.returncode == 1
    assert "S!B2 (empty 'A'): fill the cell, or pass --skip-empty" in one_line(result)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["data", "prepare", "--set", "prepare.stiles=[plain]"],
            "prepare.stiles: unknown key; did you mean 'styles'?",
        ),
        (["data", "prepare", "--map", "Question"], "expected FIELD=HEADER"),
        (["data", "prepare", "--config", "none.yaml"], "none.yaml: no such configuration file"),
        (["quickstart", "--set", "train.epoch=2"], "train.epoch: unknown key; did you mean 'epochs'?"),
        (["quickstart", "--map", "Z=Question"], "unknown field 'Z'"),
    ],
)
def test_a_wrong_command_line_is_exit_status_two(arguments: list[str], message: str) -> None:
    result = groundtune(*arguments)
    assert result.returncode == 2
    assert message in one_line(result)
