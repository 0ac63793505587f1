"""The terminal's conversation, against a live gateway."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from openai import OpenAI

from serving.chat import Conversation, Source, converse
from serving.chat_commands import HELP
from serving.chat_input import read_message
from tests.serving.conftest import Running
from tests.serving.knowledge import ROWS
from tests.serving.scripted_engine import ScriptedEngine


def _talk(client: OpenAI, model: str, *lines: str) -> tuple[str, list[Source], list[str], bool]:
    """Return what was shown: text, sources, errors; and whether all was answered."""
    conversation, waiting = Conversation(client, model, system="短"), list(lines)
    texts: list[str] = []
    sources: list[Source] = []
    errors: list[str] = []
    read = lambda: waiting.pop(0) if waiting else None  # noqa: E731
    answered = converse(conversation, read, texts.append, sources.append, errors.append)
    return "".join(texts), sources, errors, answered


def test_history_is_kept_and_exit_ends(gateway: Running, engine: ScriptedEngine) -> None:
    text, sources, errors, answered = _talk(gateway.client, "base", "一", "", "二", " EXIT ", "三")
    assert text == "你好。\n你好。\n"
    assert (sources, errors, answered) == ([], [], True)
    assert [message["content"] for message in engine.requests[-1]["messages"]] == ["短", "一", "你好。", "二"]


def test_sources_are_those_cited_by_number(gateway: Running, engine: ScriptedEngine) -> None:
    engine.texts = ["前[3]", "后[1]", "又[3]"]
    _, sources, _, _ = _talk(gateway.client, "base-rag", "问题")
    shown = {source.number: source for source in sources}
    assert list(shown) == sorted(shown)
    assert {1, 3} <= set(shown)
    assert shown[3].title == ROWS[2].title
    assert shown[3].url.endswith(ROWS[2].row_id)


def test_failed_question_is_told_and_forgotten(gateway: Running, engine: ScriptedEngine) -> None:
    engine.stop_after = 1
    text, _, errors, answered = _talk(gateway.client, "base", "一")
    assert not answered
    assert text == "你"
    assert "engine 'base' is not available" in errors[0]
    engine.stop_after = None
    _talk(gateway.client, "base", "二")
    assert [message["content"] for message in engine.requests[-1]["messages"]] == ["短", "二"]


def _chat(*arguments: str, piped: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "serving.cli", "chat", *arguments]
    return subprocess.run(
        command, input=piped, capture_output=True, text=True, timeout=300, check=False, cwd=folder
    )


def test_command_with_piped_questions(gateway: Running, engine: ScriptedEngine) -> None:
    engine.texts = ["答[bold]案[1]"]
    done = _chat("--url", f"{gateway.url}/v1", "--model", "tuned-rag", piped="一\n二\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("答[bold]案") == 2
    assert "\x1b" not in done.stdout
    assert f"[1] {ROWS[0].title}  {gateway.url}/kb/rows/{ROWS[0].row_id}" in done.stdout


def test_command_names_the_models_there_are(gateway: Running) -> None:
    done = _chat("--url", f"{gateway.url}/v1", "--model", "gpt-4", piped="")
    assert done.returncode == 2
    assert "served: base, base-rag" in done.stderr


def test_command_without_a_server() -> None:
    done = _chat("--url", "http://127.0.0.1:9/v1", piped="")
    assert done.returncode == 1
    assert "groundtune serve" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("lines", "messages"),
    [
        (["一", "", "二"], ["一", "", "二"]),
        (["一\\", "二\\", "三", "四"], ["一\n二\n三", "四"]),
        (['"""一', "二\\", '三"""', "四"], ["一\n二\\\n三", "四"]),
        (['"""', "/model", '"""', "四"], ["\n/model\n", "四"]),
        (['"""一"""'], ["一"]),
        (['"""一', "二"], ["一\n二"]),
        (["一\\"], ["一\n"]),
    ],
)
def test_lines_become_messages(lines: list[str], messages: list[str]) -> None:
    waiting = list(lines)
    read: Callable[[bool], str | None] = lambda _: waiting.pop(0) if waiting else None  # noqa: E731
    found = []
    while (message := read_message(read)) is not None:
        found.append(message)
    assert found == messages


def test_help_and_documentation_name_the_same_commands() -> None:
    documented = (Path(__file__).parents[2] / "docs" / "chat.md").read_text(encoding="utf-8")
    by_help = re.findall(r"^(/\w+(?: \S+)?)  ", HELP, re.MULTILINE)
    assert len(by_help) == 7
    assert re.findall(r"^\| `(/[^`]+)`", documented, re.MULTILINE) == by_help


def test_commands_by_a_pipe(gateway: Running, engine: ScriptedEngine, tmp_path: Path) -> None:
    engine.texts = ["每天食盐不超过 <5> 克。[1]"]
    piped = """/model
一\\
二
/model base-rag
/regen
/sources
/save talk.md
/save talk.json
/system 短
/clear
//model
/model base
/regen
exit
三
"""
    done = _chat("--url", f"{gateway.url}/v1", "--model", "base", piped=piped, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert "* base\n  base-rag\n  tuned\n  tuned-rag\n" in done.stderr
    assert "tiny-embedding" not in done.stderr
    asked = [[one["content"] for one in request["messages"]] for request in engine.requests]
    assert [request["model"] for request in engine.requests] == ["model-b"] * 4
    # The system prompt of the gateway, then none but the rows' for a grounded model, then one's own.
    assert asked == [["你是医生。", "一\n二"], ["rows", "一\n二"], ["rows", "/model"], ["短", "/model"]]
    assert f"[1] {ROWS[0].title}\n    {ROWS[0].source}\n    {ROWS[0].answer}\n    http" in done.stderr
    assert ROWS[0].source in (tmp_path / "talk.md").read_text(encoding="utf-8")
    saved = json.loads((tmp_path / "talk.json").read_text(encoding="utf-8"))
    assert [one["role"] for one in saved] == ["user", "assistant"], "/regen replaces the first answer"


def test_commands_that_cannot_be_carried_out(gateway: Running, tmp_path: Path) -> None:
    told = {
        "/model gpt-4": "served: base, base-rag, tuned, tuned-rag",
        "/modle": "no command '/modle'",
        "/regen": "nothing was answered yet",
        "/save": "name a file",
        "/save .": "choose another name",
        "/save /dev/null/talk.md": "/save /dev/null/talk.md: ",
    }
    done = _chat("--url", f"{gateway.url}/v1", piped="\n".join(told), folder=tmp_path)
    assert done.returncode == 1
    for line, expected in zip(done.stderr.splitlines(), told.values(), strict=True):
        assert expected in line


class _Terminal:
    """`groundtune chat` at a terminal of its own."""

    def __init__(self, master: int, process: subprocess.Popen[bytes]) -> None:
        self._master = master
        self.process = process
        self.shown = ""

    def type(self, text: str, *then: str) -> None:
        """Type, and wait until each of `then` has shown anew, one after the other."""
        place = len(self.shown)
        os.write(self._master, text.encode())
        for expected in then:
            self.wait(expected, place)
            place = self.shown.index(expected, place) + len(expected)

    def wait(self, text: str, begin: int = 0) -> None:
        """Wait until the text has shown."""
        deadline = time.monotonic() + 60
        while text not in self.shown[begin:]:
            assert time.monotonic() < deadline, f"{text!r} never showed: {self.shown!r}"
            self._read(0.2)

    def end(self) -> int:
        """Wait until the process has ended, reading on: it waits for its output to be read."""
        deadline = time.monotonic() + 60
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it does not end: {self.shown!r}"
            self._read(0.1)
        return self.process.wait()

    def _read(self, timeout_s: float) -> None:
        if not select.select([self._master], [], [], timeout_s)[0]:
            return
        with contextlib.suppress(OSError):  # the other side is closed
            data = os.read(self._master, 65536).decode(errors="replace")
            self.shown += data
            if "\x1b[6n" in data:
                os.write(self._master, b"\x1b[1;1R")  # it asks where the cursor is


@contextlib.contextmanager
def _terminal(root: Path, *arguments: str, **environment: str) -> Iterator[_Terminal]:
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 80))
    command = [sys.executable, "-m", "serving.cli", "chat", *arguments]
    own = {**os.environ, "GROUNDTUNE_VAR": str(root), "TERM": "xterm", **environment}
    with subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, env=own, start_new_session=True
    ) as process:
        os.close(slave)
        try:
            yield _Terminal(master, process)
        finally:
            process.kill()
            os.close(master)


def test_terminal_keeps_a_history_of_its_owner(
    gateway: Running, engine: ScriptedEngine, tmp_path: Path
) -> None:
    to_base = ("--url", f"{gateway.url}/v1", "--model", "base")
    with _terminal(tmp_path, *to_base) as terminal:
        terminal.wait("›")
        assert "\x1b[2m" in terminal.shown, "dim where colours are welcome"
        terminal.type("第一问\\\r", "…")
        terminal.type("第二行\r", "你好。", "›")
        terminal.type("/model tuned\r", "asking tuned", "›")
        terminal.type("exit\r")
        assert terminal.end() == 0
    assert engine.requests[-1]["messages"][-1]["content"] == "第一问\n第二行"
    history = tmp_path / "chat_history"
    assert history.stat().st_mode & 0o777 == 0o600
    with _terminal(tmp_path, *to_base, NO_COLOR="1") as terminal:
        terminal.wait("›")
        assert "\x1b[2m" not in terminal.shown
        # Up three times: exit, /model, the second line.
        terminal.type("\x1b[A" * 3, "第二行")
        terminal.type("\r", "你好。", "›")
        terminal.type("\x04")
        assert terminal.end() == 0
    assert engine.requests[-1]["messages"][-1]["content"] == "第二行"
    assert engine.requests[-1]["model"] == "model-b"
