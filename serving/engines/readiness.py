"""Whether an engine works, told by the only evidence that counts: it produces a token."""

from __future__ import annotations

import httpx

from serving.engines.engine import Engine

PROBE_MESSAGES = ({"role": "user", "content": "1"},)


class NotReadyError(Exception):
    """The engine produced no token; says what it did instead."""


async def produce_token(client: httpx.AsyncClient, engine: Engine, timeout_s: float) -> None:
    """Ask `engine` for one token; of several servers, one that produces it is enough.

    Temperature 0, because an engine with `samples` False keeps the settings of its first request, which is
    this one.

    Raises:
        NotReadyError: it is not there, does not answer in `timeout_s`, or answers something else.
    """
    reasons = []
    for url in engine.urls:
        try:
            await _produce_token_at(client, engine, url, timeout_s)
            return
        except NotReadyError as error:
            reasons.append(str(error))
    raise NotReadyError("; ".join(dict.fromkeys(reasons)))


async def _produce_token_at(
    client: httpx.AsyncClient, engine: Engine, base_url: str, timeout_s: float
) -> None:
    body = {
        "model": engine.model,
        "messages": PROBE_MESSAGES,
        "max_tokens": 1,
        "temperature": 0,
        "stream": False,
    }
    url = f"{base_url}/chat/completions"
    try:
        response = await client.post(url, json=body, headers=engine.headers, timeout=timeout_s)
        tokens = (
            response.json()["usage"]["completion_tokens"] if response.status_code == httpx.codes.OK else 0
        )
    except httpx.TimeoutException as error:
        raise NotReadyError(f"no token within {timeout_s:g} s") from error
    except httpx.HTTPError as error:
        raise NotReadyError(f"does not answer ({type(error).__name__})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise NotReadyError("answers with something else than a chat completion") from error
    if not tokens:
        raise NotReadyError(f"answers with status {response.status_code}: {response.text[:200]}")
