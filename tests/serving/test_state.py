from __future__ import annotations

import json
import os
from pathlib import Path

from data.workspace import Workspace
from serving.state import announced, running_url

URL = "http://127.0.0.1:1/v1"


def test_url_is_known_while_the_server_is_up(tmp_path: Path) -> None:
    run = Workspace(tmp_path).run("r")
    assert running_url(run) is None
    with announced(run.folder, URL):
        assert running_url(run) == URL
        assert json.loads((run.folder / "serve.json").read_text()) == {"url": URL, "pid": os.getpid()}
    assert not (run.folder / "serve.json").exists()


def test_what_a_killed_server_left_counts_for_nothing(tmp_path: Path) -> None:
    run = Workspace(tmp_path).run("r")
    run.folder.mkdir(parents=True)
    (run.folder / "serve.json").write_text(json.dumps({"url": URL, "pid": 2**22 + 1}))
    assert running_url(run) is None


def test_state_of_a_later_server_stays(tmp_path: Path) -> None:
    run = Workspace(tmp_path).run("r")
    with announced(run.folder, URL):
        (run.folder / "serve.json").write_text(json.dumps({"url": "other", "pid": 1}))
    assert (run.folder / "serve.json").exists()
