"""Putting prompts to an OpenAI-compatible endpoint, several at once; the journal keeps what comes.

Malformed output is asked again, warmer each time, and given up after the last try: it never ends the run. What the
endpoint refuses or fails to answer is counted, and ends the run when nothing else comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from data.artefacts import digest_of
from data.errors import GroundTuneError
from data.generate.endpoint import Endpoint
from data.generate.journal import Journal

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_TRIES = 3
_PAUSE_S = 1.0
_TEMPERATURES = (0.0, 0.5, 0.8)
# So many failures with no answer between them: the endpoint is down.
_MOST_FAILURES = 5
_HOPELESS = frozenset((401, 403, 404))
# Raised when a prompt changes, so that old replies are not taken for it.
_PROMPTS = 1


@dataclass(frozen=True)
class Request:
    """A prompt; `is_well_formed` says of a reply whether it can be used."""

    prompt: str
    max_tokens: int
    is_well_formed: Callable[[str], bool]

    def key(self, model: str) -> str:
        """Return the journal's key of the reply."""
        return digest_of(["generate", _PROMPTS, model, self.prompt, self.max_tokens])


async def ask_all(
    requests: Sequence[Request],
    endpoint: Endpoint,
    journal: Journal,
    concurrency: int,
    timeout_s: float,
    on_reply: Callable[[], None],
) -> None:
    """Ask what the journal does not hold, and call `on_reply` after each.

    Raises:
        GroundTuneError: some were not answered; all others are in the journal.
    """
    missing = [item for item in requests if journal.get(item.key(endpoint.model)) is None]
    failures: list[str] = []
    num_in_a_row = 0
    waiting: Iterator[Request] = iter(missing)

    async def work(client: AsyncOpenAI) -> None:
        nonlocal num_in_a_row
        for request in waiting:
            if num_in_a_row >= _MOST_FAILURES:
                return
            try:
                reply = await _ask(client, endpoint.model, request)
            except _RefusedError as error:
                failures.append(str(error))
                num_in_a_row += _MOST_FAILURES if error.hopeless else 1
                continue
            num_in_a_row = 0
            journal.add(request.key(endpoint.model), reply)
            on_reply()

    async with endpoint.client(timeout_s) as client:
        await asyncio.gather(*(work(client) for _ in range(max(1, min(concurrency, len(missing))))))
    if failures:
        kept = sum(journal.get(item.key(endpoint.model)) is not None for item in requests)
        raise GroundTuneError(
            f"{endpoint.url}: {failures[0]}; {kept} of {len(requests)} replies are kept: mend that and run the "
            "same command again to ask only for the others"
        )


class _RefusedError(Exception):
    """The endpoint does not answer a request; `hopeless` when it will not answer any."""

    def __init__(self, message: str, *, hopeless: bool = False) -> None:
        super().__init__(message)
        self.hopeless = hopeless


async def _ask(client: AsyncOpenAI, model: str, request: Request) -> str:
    """Return the first well-formed reply, or "" where every try was malformed."""
    from openai import APIConnectionError, APIStatusError, OpenAIError

    num_malformed = num_failed = 0
    while True:
        try:
            completion = await client.chat.completions.create(
                model=model,
                # A system message of our own, so that a server does not put the knowledge base's there.
                messages=[
                    {"role": "system", "content": "You are a helpful assistant."},
                    {"role": "user", "content": request.prompt},
                ],
                temperature=_TEMPERATURES[num_malformed],
                max_tokens=request.max_tokens,
            )
        except (APIConnectionError, APIStatusError) as error:
            status = getattr(error, "status_code", 503)
            num_failed += 1
            if num_failed < _TRIES and (status == 429 or status >= 500):
                await asyncio.sleep(_PAUSE_S * num_failed)
                continue
            raise _RefusedError(str(error), hopeless=status in _HOPELESS) from error
        except (OpenAIError, ValueError):
            # An answer that is no answer: HTML of a proxy, half a JSON.
            reply = ""
        else:
            choices = getattr(completion, "choices", None) or []
            message = getattr(choices[0], "message", None) if choices else None
            reply = getattr(message, "content", None) or ""
        if request.is_well_formed(reply):
            return reply
        num_malformed += 1
        if num_malformed == _TRIES:
            return ""
