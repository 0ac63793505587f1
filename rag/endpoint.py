"""Embeddings from a server that speaks OpenAI's API, in place of a model that is loaded here.

Where a model folder is asked for, `models.embedding` may name a folder that holds `endpoint.json` and nothing else:
where the server is, which model it is asked for, and how long its vectors are. An index then belongs to that file as
it otherwise belongs to a model's. The key comes from the environment and is not written down.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import httpx
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from data.artefacts import write_json
from data.errors import InputError, ServiceError
from data.models.folder import resolve_model
from data.workspace import Workspace

FILE = "endpoint.json"
_TIMEOUT_S = 60.0
_ATTEMPTS = 2


class EmbeddingServerError(ServiceError):
    """The embedding server cannot be reached, or does not answer as it should."""

    code = "embedding_unavailable"


class Endpoint(BaseModel):
    """What `endpoint.json` says.

    `api_key_env` names the environment variable that holds the key; the prompts are put in front of questions and of
    rows, as the model's card says (e5: "query: " and "passage: ").
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    url: str = Field(pattern=r"^https?://")
    model: str = Field(min_length=1)
    dims: int = Field(ge=1)
    api_key_env: str | None = None
    query_prompt: str = ""
    passage_prompt: str = ""


def embedding_folder(workspace: Workspace, reference: str) -> Path:
    """Return the folder of an embedding model or of an endpoint.

    Raises:
        InputError: it is neither.
    """
    folder = Path(reference.removeprefix("path:")).expanduser()
    if (folder / FILE).is_file():
        read_endpoint(folder)
        return folder
    return resolve_model(workspace, reference)


def read_endpoint(folder: Path) -> Endpoint | None:
    """Return what a folder says of an endpoint; None where it holds a model.

    Raises:
        InputError: the file is not readable, or a field is missing, unknown or wrong.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        return Endpoint.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise InputError(
            f"{path}: {where}: {fault['msg']}; make it again with `groundtune rag endpoint`"
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as JSON ({error})") from error


def write_endpoint(folder: Path, given: dict[str, Any]) -> Endpoint:
    """Ask the server for one vector and write `endpoint.json`; `given` is its fields without `dims`.

    Raises:
        InputError: the folder holds something else, or a field is wrong.
        EmbeddingServerError: the server does not answer.
    """
    if folder.exists() and any(path.name != FILE for path in folder.iterdir()):
        raise InputError(f"{folder}: holds something else; name a folder of its own for the endpoint")
    try:
        asked = Endpoint.model_validate({**given, "dims": 1})
    except ValidationError as error:
        fault = error.errors()[0]
        raise InputError(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}") from error
    with httpx.Client(timeout=_TIMEOUT_S) as client:
        (vector,) = _ask(client, asked, ["盐 salt"])
    endpoint = asked.model_copy(update={"dims": len(vector)})
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / FILE, endpoint.model_dump())
    return endpoint


class EndpointEncoder:
    """Embeds by asking the server."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._client = httpx.Client(timeout=_TIMEOUT_S)

    @property
    def dims(self) -> int:
        """The length of a vector."""
        return self._endpoint.dims

    def encode(self, texts: Sequence[str], kind: Literal["query", "passage"]) -> NDArray[np.float32]:
        """Return float32 vectors (len(texts), dims), L2-normalised.

        Raises:
            EmbeddingServerError: no answer, or vectors of another length.
        """
        endpoint = self._endpoint
        prompt = endpoint.query_prompt if kind == "query" else endpoint.passage_prompt
        found = _ask(self._client, endpoint, [prompt + text for text in texts])
        if any(len(vector) != endpoint.dims for vector in found):
            raise EmbeddingServerError(
                f"{endpoint.url}: {endpoint.model!r} gave vectors of {len(found[0])} values, not {endpoint.dims}; "
                "it is another model than before: run `groundtune rag endpoint` and `groundtune rag index` again"
            )
        vectors = np.asarray(found, np.float32)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)


def _ask(client: httpx.Client, endpoint: Endpoint, texts: Sequence[str]) -> list[list[float]]:
    """Return the server's vectors in the order of `texts`; a connection that breaks is tried once more."""
    url = f"{endpoint.url.rstrip('/')}/embeddings"
    body = {"model": endpoint.model, "input": list(texts), "encoding_format": "float"}
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            answer = client.post(url, json=body, headers=_headers(endpoint))
            break
        except httpx.TransportError as error:
            if attempt == _ATTEMPTS:
                raise EmbeddingServerError(
                    f"{url}: cannot be reached ({type(error).__name__}); start the embedding server, or set "
                    "models.embedding to another"
                ) from error
    try:
        answer.raise_for_status()
        items = answer.json()["data"]
        found = {int(item["index"]): [float(value) for value in item["embedding"]] for item in items}
        return [found[place] for place in range(len(texts))]
    except httpx.HTTPStatusError as error:
        told = " ".join(answer.text[:300].split())
        raise EmbeddingServerError(f"{url}: answered {answer.status_code}: {told}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise EmbeddingServerError(f"{url}: not an answer of OpenAI's embeddings API ({error!r})") from error


def _headers(endpoint: Endpoint) -> dict[str, str]:
    if endpoint.api_key_env is None:
        return {}
    key = os.environ.get(endpoint.api_key_env)
    if not key:
        raise EmbeddingServerError(
            f"{endpoint.url}: needs a key; set the environment variable {endpoint.api_key_env}"
        )
    return {"Authorization": f"Bearer {key}"}
