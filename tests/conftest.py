"""Every test gets a workspace of its own and no network."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).parent.parent

# Before anything imports a library that reads them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"


@pytest.fixture(autouse=True)
def workspace_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's own var/."""
    root = tmp_path / "var"
    monkeypatch.setenv("GROUNDTUNE_VAR", str(root))
    return root


@pytest.fixture(scope="session")
def fetched_models() -> Path:
    """Where `groundtune models fetch` put real models before the tests began."""
    return Path(os.environ.get("GROUNDTUNE_TEST_MODELS", REPOSITORY / "var" / "models"))


# The same examples in every run: a landing must not hang on what chance finds; look further with --hypothesis-seed.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")
