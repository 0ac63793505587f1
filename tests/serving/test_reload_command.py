"""`groundtune serve reload` against a running `groundtune serve`, before engines that somebody else runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import yaml
from openai import OpenAI

from tests.serving.live_serve import serving
from tests.serving.live_server import live_server
from tests.serving.scripted_engine import ScriptedEngine


def _reload(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "serving.cli", "serve", "reload", "--name", "r", "--timeout", "30"],
        env={**os.environ, "GROUNDTUNE_VAR": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_reload_takes_up_the_configuration_of_now(tmp_path: Path) -> None:
    old, new = ScriptedEngine(), ScriptedEngine()
    old.texts, new.texts = ["old"], ["new"]
    config = tmp_path / "c.yaml"

    def write(url: str, **more: str) -> None:
        there = {name: {"url": url, "model": "m"} for name in ("base", "tuned")}
        config.write_text(yaml.safe_dump({"serve": {"external": there, **more}}))

    with live_server(lambda _: old.app) as old_url, live_server(lambda _: new.app) as new_url:
        write(old_url)
        with (
            serving(tmp_path, "--config", str(config)) as served,
            OpenAI(base_url=served.url, api_key="none", max_retries=0) as client,
        ):

            def said() -> str | None:
                messages = [{"role": "user", "content": "?"}]
                answer = client.chat.completions.create(model="tuned", messages=messages)
                return answer.choices[0].message.content

            assert said() == "old"
            write(new_url)
            assert said() == "old"
            done = _reload(tmp_path)
            assert (done.returncode, done.stdout) == (0, "reloaded\n")
            assert said() == "new"
            write(old_url, engine="lmdeplo")
            done = _reload(tmp_path)
            assert done.returncode == 1
            assert "serve.engine" in done.stderr
            assert said() == "new"
            served.process.send_signal(signal.SIGTERM)
            assert served.process.wait(15) == 0
    assert _reload(tmp_path).returncode == 1
