"""An OpenAI-compatible engine over a real model folder, small enough to see through, with faults to choose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from transformers import AutoModelForCausalLM, AutoTokenizer


def chat_engine(
    folder: Path, *, token_ids: bool = False, max_prompt_tokens: int | None = None, system: str | None = None
) -> FastAPI:
    """Return the engine; it cuts prompts to `max_prompt_tokens` and puts `system` in place of the client's."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    app = FastAPI()

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": "tuned", "object": "model", "created": 0, "owned_by": "t"}]}

    @app.post("/v1/chat/completions", response_model=None)
    async def chat(request: Request) -> dict[str, Any] | JSONResponse:
        body = await request.json()
        if "return_token_ids" in body and not token_ids:
            return JSONResponse({"error": {"message": "return_token_ids: unknown field"}}, 400)
        messages = body["messages"]
        if system is not None:
            messages = [{"role": "system", "content": system}, *messages[1:]]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = tokenizer.encode(text, add_special_tokens=False)[-(max_prompt_tokens or 1 << 20) :]
        with torch.inference_mode():
            out = model.generate(
                torch.tensor([ids]),
                attention_mask=torch.ones((1, len(ids)), dtype=torch.long),
                max_new_tokens=body["max_tokens"],
                do_sample=False,
            )[0, len(ids) :].tolist()
        message = {"role": "assistant", "content": tokenizer.decode(out, skip_special_tokens=True)}
        usage = {
            "prompt_tokens": len(ids),
            "completion_tokens": len(out),
            "total_tokens": len(ids) + len(out),
        }
        choice = {"index": 0, "message": message, "finish_reason": "length"}
        extra = {}
        if token_ids:
            choice["token_ids"] = out
            extra = {"prompt_token_ids": ids}
        return {
            "id": "c", "object": "chat.completion", "created": 0, "model": "tuned", "choices": [choice],
            "usage": usage, **extra,
        }  # fmt: skip

    return app
