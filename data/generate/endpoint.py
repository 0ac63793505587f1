"""Which endpoint to ask, and as which model: given, of the environment, or the run's own server."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from data.errors import GroundTuneError, UsageError
from data.workspace import Run

if TYPE_CHECKING:
    from openai import AsyncOpenAI

URL_VARIABLE = "OPENAI_BASE_URL"
# The file in a run's folder by which its server says where it listens.
_SERVER_STATE = "serve.json"
_PREFERRED = "base"


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible API, its URL ending in /v1, and the model to ask there."""

    url: str
    model: str
    api_key_variable: str

    def client(self, timeout_s: float) -> AsyncOpenAI:
        """Return a client that does not try again by itself."""
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient

        return AsyncOpenAI(
            base_url=self.url,
            api_key=os.environ.get(self.api_key_variable) or "none",
            max_retries=0,
            timeout=timeout_s,
            # A proxy of the environment does not lead to this machine.
            http_client=DefaultAsyncHttpxClient(trust_env=False) if _is_local(self.url) else None,
        )


def find_url(given: str | None, run: Run) -> str:
    """Return the URL that was given, else the environment's, else that of the run's server.

    Raises:
        UsageError: there is none.
    """
    url = given or os.environ.get(URL_VARIABLE) or _running_url(run)
    if not url:
        raise UsageError(
            f"no endpoint: start the run's server with `groundtune serve --name {run.name}`, give --url, or set "
            f"{URL_VARIABLE}"
        )
    return url.rstrip("/")


def _running_url(run: Run) -> str | None:
    try:
        state = json.loads((run.folder / _SERVER_STATE).read_text(encoding="utf-8"))
        os.kill(int(state["pid"]), 0)
        return str(state["url"])
    except PermissionError:
        return str(state["url"])  # it lives and belongs to somebody else
    except (OSError, ValueError, KeyError, TypeError):
        return None


def open_endpoint(url: str, model: str | None, api_key_variable: str) -> Endpoint:
    """Return the endpoint with the model that was given, or else `base`, or else its first one.

    Raises:
        GroundTuneError: nothing answers there.
        UsageError: it does not serve that model.
    """
    from openai import APIConnectionError, DefaultHttpxClient, OpenAI, OpenAIError

    try:
        with OpenAI(
            base_url=url,
            api_key=os.environ.get(api_key_variable) or "none",
            http_client=DefaultHttpxClient(trust_env=False) if _is_local(url) else None,
        ) as client:
            served = [card.id for card in client.models.list()]
    except APIConnectionError as error:
        raise GroundTuneError(f"{url}: nothing answers there; start the server or correct --url") from error
    except OpenAIError as error:
        if model is None:
            raise GroundTuneError(f"{url}: does not list its models ({error}); give --model") from error
        served = [model]
    if model is not None and served and model not in served:
        raise UsageError(f"--model {model!r}: not served at {url}; served: {', '.join(served)}")
    chosen = model or (_PREFERRED if _PREFERRED in served else next(iter(served), None))
    if chosen is None:
        raise GroundTuneError(f"{url}: serves no model; give --model")
    return Endpoint(url, chosen, api_key_variable)


def _is_local(url: str) -> bool:
    return urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
