"""Run by litellm's environment: what its SDK gets, as JSON."""

import json
import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm

common = {"api_base": os.environ["API_URL"], "api_key": os.environ["API_KEY"], "num_retries": 0}


def messages(text):
    return [{"role": "user", "content": text}]


answer = litellm.completion(model="openai/base", messages=messages("能吃盐吗?"), **common)
cited = litellm.completion(model="openai/base-rag", messages=messages("要喝水吗?"), **common)
chunks = litellm.completion(model="openai/base-rag", messages=messages("要喝水吗?"), stream=True, **common)
try:
    litellm.completion(model="openai/none", messages=messages("?"), **common)
    error = None
except litellm.NotFoundError as found:
    error = type(found).__name__
print(
    json.dumps(
        {
            "text": answer.choices[0].message.content,
            "tokens": answer.usage.completion_tokens,
            "annotations": cited.choices[0].message.annotations,
            "streamed": "".join(chunk.choices[0].delta.content or "" for chunk in chunks),
            "error": error,
        },
        default=lambda value: value.model_dump() if hasattr(value, "model_dump") else str(value),
    )
)
