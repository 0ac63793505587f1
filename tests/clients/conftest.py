"""A gateway process with rows and one key in front of a scripted engine, and the environments of other clients."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.local_services import engine_process, gateway_process
from serving.access.keys import add_key
from tests.conftest import REPOSITORY


@dataclass(frozen=True)
class Api:
    """The API's base URL and a key for it."""

    url: str
    key: str

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs to call it, through no proxy."""
        return {**os.environ, "API_URL": self.url, "API_KEY": self.key, "NO_PROXY": "127.0.0.1"}


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Serves `base`, which says 字 three times, and `base-rag` over three rows."""
    keys = tmp_path_factory.mktemp("keys") / "keys.json"
    key = add_key(keys, "clients")
    with engine_process() as engine, gateway_process(engine, "--rows", "--keys", str(keys)) as url:
        yield Api(f"{url}/v1", key)


@pytest.fixture(scope="session")
def client_environments() -> Path:
    """The folder that `make test-clients` fills; skips where it was not."""
    folder = Path(os.environ.get("GROUNDTUNE_TEST_CLIENTS") or REPOSITORY / "var" / "test-clients")
    if not folder.is_dir():
        pytest.skip(
            f"{folder} is not there: `make test-clients` installs langchain-openai, litellm and npm's openai"
        )
    return folder
