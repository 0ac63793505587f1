"""Run by langchain-openai's environment: what its ChatOpenAI gets, as JSON."""

import asyncio
import json
import os

from langchain_openai import ChatOpenAI, OpenAIEmbeddings

url, key = os.environ["API_URL"], os.environ["API_KEY"]
plain = ChatOpenAI(model="base", base_url=url, api_key=key, max_retries=0)
grounded = ChatOpenAI(model="base-rag", base_url=url, api_key=key, max_retries=0)
answer = plain.invoke([("system", "你是医生。"), ("user", "能吃盐吗?")])
embeddings = OpenAIEmbeddings(
    model="embedding", base_url=url, api_key=key, check_embedding_ctx_length=False, max_retries=0
)


async def streamed():
    return [part.content async for part in grounded.astream("要喝水吗?")]


print(
    json.dumps(
        {
            "text": answer.content,
            "tokens": answer.usage_metadata["output_tokens"],
            "streamed": "".join(asyncio.run(streamed())),
            "vector": embeddings.embed_query("盐"),
        }
    )
)
