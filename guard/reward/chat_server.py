"""A chat model of this machine behind OpenAI's chat API, so that it can write answers and judge them.

    python -m guard.reward.chat_server BASE [--port PORT]

It prints its URL and answers on loopback alone, one request at a time: enough for a small model and a pipeline on one
machine. For a large one use vLLM or another server, with the same requests.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, Field, PositiveInt, ValidationError

from guard.errors import InvalidInput
from guard.llm.client import PATH
from guard.message import Message, parse_messages, text_only
from guard.prompts.window import Ids
from guard.reward.base import Base
from guard.reward.judging import decoded
from guard.reward.prompts import RewardPrompts
from guard.train.causal.base import tokenizer_of
from guard.train.causal.checkpoint import loadable, model_folder

LONGEST = 4 << 20  # bytes of a request
TOKENS = 256  # of an answer, where a request does not say


class Structure(BaseModel):
    """vLLM's `structured_outputs`, of which `choice` is known: the texts that may be answered."""

    choice: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]


class ChatBody(BaseModel):
    """What is used of a request; everything else is ignored but `stream`, which would change the answer's form."""

    messages: list[dict[str, Any]]
    temperature: Annotated[float, Field(ge=0.0)] = 1.0
    max_tokens: PositiveInt = TOKENS
    seed: int = 0
    n: Literal[1] = 1
    stream: Literal[False] = False
    structured_outputs: Structure | None = None


@dataclass(frozen=True, eq=False)
class ChatModel:
    """name: what answers call it. context: the most tokens of a conversation with its answer."""

    name: str
    base: Base
    prompts: RewardPrompts
    context: int

    @classmethod
    def open(cls, base: str) -> ChatModel:
        """A folder, a `.gguf` file or a model of the hub. BundleError if it is none, or of no known chat family."""
        folder = model_folder(base, {})
        prompts = RewardPrompts.load(tokenizer_of(loadable(base)), LONGEST)
        model = Base.open(folder, prompts.pad)
        return cls(Path(base).name, model, prompts, int(model.model.config.get_text_config().max_position_embeddings))

    def reply(self, body: ChatBody) -> dict[str, Any]:
        """A completion as OpenAI's API has it. InvalidInput for messages that are none, or longer than the context."""
        prompt = self._prompt(text_only(parse_messages(body.messages)))
        room = self.context - len(prompt)
        if room < body.max_tokens:
            raise InvalidInput(
                f"the messages have {len(prompt)} tokens and max_tokens is {body.max_tokens}; both together must be "
                f"<= {self.context}"
            )
        if body.structured_outputs is not None:
            text, finish = self._choose(prompt, body.structured_outputs.choice, body), "stop"
        else:
            end = self.prompts.chat.end
            ((ids,),) = self.base.sample([prompt], 1, body.max_tokens, [body.seed], end, None, body.temperature)
            text, finish = decoded(self.prompts, ids), "stop" if len(ids) < body.max_tokens else "length"
        used = {"prompt_tokens": len(prompt), "completion_tokens": len(self.prompts.chat.text(text))}
        message = {"role": "assistant", "content": text}
        return {
            "object": "chat.completion",
            "model": self.name,
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
            "usage": used | {"total_tokens": sum(used.values())},
        }

    def _prompt(self, messages: Sequence[Message]) -> Ids:
        if not messages:
            raise InvalidInput("`messages` must have at least one message")
        return self.prompts.dialogue(messages)[0].ids

    def _choose(self, prompt: Ids, choices: list[str], body: ChatBody) -> str:
        """The most probable of these answers, or one drawn by their probabilities."""
        ends = [(*self.prompts.chat.text(choice), *self.prompts.chat.end) for choice in choices]
        logps = self.base.completion([prompt] * len(ends), ends, None)
        if not body.temperature:
            return choices[int(logps.argmax())]
        weights = torch.softmax(logps / body.temperature, 0).tolist()
        return random.Random(body.seed).choices(choices, weights)[0]


def server_of(model: ChatModel, port: int = 0) -> ThreadingHTTPServer:
    """On loopback; port 0 takes a free one. Call `serve_forever`. No message of it holds a text of a request."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 600

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            if length > LONGEST:
                self.close_connection = True
                return self._send(413, _error(f"a request must have <= {LONGEST} bytes"))
            raw = self.rfile.read(length)
            if not self.path.endswith(PATH):
                return self._send(404, _error(f"no such path; known: /v1{PATH}"))
            try:
                return self._send(200, model.reply(ChatBody.model_validate_json(raw)))
            except ValidationError as problem:
                first = problem.errors(include_input=False, include_url=False)[0]
                place = ".".join(map(str, first["loc"])) or "body"
                return self._send(400, _error(f"{place}: {first['msg']}"))
            except InvalidInput as problem:
                return self._send(400, _error(str(problem)))

        def do_GET(self) -> None:
            if self.path.endswith("/models"):
                return self._send(200, {"object": "list", "data": [{"id": model.name, "object": "model"}]})
            return self._send(404, _error("no such path; known: /v1/models"))

        def _send(self, status: int, body: Mapping[str, Any]) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nothing: paths and statuses help nobody here."""

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error"}}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m guard.reward.chat_server", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("base", help="a chat model: a folder, a .gguf file or a name on the hub")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    given = parser.parse_args()
    with server_of(ChatModel.open(given.base), given.port) as server:
        print(f"http://127.0.0.1:{server.server_port}/v1", flush=True)  # noqa: T201
        server.serve_forever()


if __name__ == "__main__":
    main()
