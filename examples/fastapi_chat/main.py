"""A chat endpoint in FastAPI whose prompts and replies are moderated by guard; the reply is streamed as it is checked.

    pip install -c constraints.txt '.[rest]' fastapi openai
    OPENAI_API_KEY=… CHAT_MODEL=gpt-x uvicorn --app-dir examples/fastapi_chat main:app
    curl -N localhost:8000/chat -d '{"messages": [{"role": "user", "content": "How do I bake bread?"}]}' \
        -H 'content-type: application/json'

OPENAI_BASE_URL: any server that speaks OpenAI's API. GUARD_SERVER: host:port of a `guard serve`; without it the shipped
guard (or the bundle GUARD_MODEL) judges in this process.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from openai import APIError, AsyncOpenAI
from pydantic import BaseModel

from guard import GuardError, open_guard
from guard.chat import ChatOptions, guarded


class Turn(BaseModel):
    role: Literal["user", "assistant"]
    content: str


class Question(BaseModel):
    messages: list[Turn]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    with open_guard(os.environ.get("GUARD_MODEL"), os.environ.get("GUARD_SERVER")) as guard:
        async with AsyncOpenAI() as client:
            app.state.chat = guarded(client, guard, ChatOptions(refusal="Let's talk about something else."))
            yield


app = FastAPI(lifespan=lifespan)


@app.exception_handler(GuardError)
async def undecided(request: Request, error: GuardError) -> JSONResponse:
    """The guard failed, or could not take the request: neither a verdict nor an answer."""
    return JSONResponse({"error": type(error).__name__}, 503)


@app.exception_handler(APIError)
async def no_answer(request: Request, error: APIError) -> JSONResponse:
    """The chat model failed."""
    return JSONResponse({"error": type(error).__name__}, 502)


@app.post("/chat")
async def chat(question: Question) -> StreamingResponse:
    """The reply as lines of JSON: `{"text": …}` as it is released, at the end `{"finish_reason": …}`."""
    messages = [turn.model_dump() for turn in question.messages]
    model = os.environ.get("CHAT_MODEL", "gpt-x")
    stream = await app.state.chat.chat.completions.create(model=model, messages=messages, stream=True)
    return StreamingResponse(lines(stream), media_type="application/x-ndjson")


async def lines(stream: AsyncIterator[Any]) -> AsyncIterator[str]:
    try:
        async for chunk in stream:
            for choice in chunk.choices:
                if choice.delta.content:
                    yield json.dumps({"text": choice.delta.content}) + "\n"
                if choice.finish_reason:
                    yield json.dumps({"finish_reason": choice.finish_reason}) + "\n"
    except (GuardError, APIError) as error:
        yield json.dumps({"error": type(error).__name__}) + "\n"
