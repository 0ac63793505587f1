"""What the tests of serving share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from openai import OpenAI
from starlette.types import ASGIApp

from rag.unanswered import UnansweredLog
from serving.engines.engine import Engine
from serving.gateway.admission import Access
from serving.gateway.app import create_gateway
from serving.gateway.models import ModelTable, ServedModel
from serving.gateway.parts import GatewaySettings
from tests.serving.knowledge import ThreeRows
from tests.serving.live_server import live_server
from tests.serving.scripted_engine import ScriptedEngine
from tests.serving.tiny_model import write_tiny_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random model that speaks gibberish, quickly."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def engine() -> ScriptedEngine:
    """An engine whose answers the test writes."""
    return ScriptedEngine()


@dataclass(frozen=True)
class Running:
    """A gateway that is up: its address and OpenAI's client for it."""

    url: str
    client: OpenAI = field(repr=False)


@pytest.fixture
def gateway_settings() -> GatewaySettings:
    """The gateway's settings; a test module overrides this to change them."""
    return GatewaySettings(
        system_prompt="你是医生。", embedding_id="tiny-embedding", engine_timeout_s=2.0, ready_window_s=0.0
    )


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Where the gateway keeps questions without an answer."""
    return tmp_path / "unanswered.jsonl"


@pytest.fixture
def gateway(engine: ScriptedEngine, gateway_settings: GatewaySettings, kept: Path) -> Iterator[Running]:
    """A gateway in front of the scripted engine: `base` as an engine that samples, `tuned` as one that does not."""
    with (
        live_server(lambda _: engine.app) as engine_url,
        live_server(lambda client: gateway_app(client, engine_url, gateway_settings, kept)) as url,
        OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield Running(url, client)


def gateway_app(
    client: httpx.AsyncClient,
    engine_url: str,
    settings: GatewaySettings,
    kept: Path,
    access: Access | None = None,
) -> ASGIApp:
    """The application of the fixture `gateway`."""
    sampling = frozenset({"temperature", "top_p", "tools", "stream_options", "logprobs", "top_logprobs"})
    base = Engine("base", f"{engine_url}/v1", "model-b", sampling)
    tuned = Engine("tuned", f"{engine_url}/v1", "model-t", frozenset(), samples=False, context_tokens=400)
    models = ModelTable(
        [
            ServedModel("base", base),
            ServedModel("base-rag", base, grounded=True),
            ServedModel("tuned", tuned),
            ServedModel("tuned-rag", tuned, grounded=True),
        ]
    )
    knowledge = ThreeRows()
    return create_gateway(
        models,
        client=client,
        settings=settings,
        knowledge=knowledge,
        grounder=knowledge,
        unanswered=UnansweredLog(kept, lambda: 1.5e9),
        access=access,
    )
