"""The vendors' own interfaces as a plain client sees them, and what a call leaves behind."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.integration.chat.conftest import ChatSuite, ChatUser
from tests.support.waiting import eventually

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Interface:
    """One vendor's interface as a plain client sees it."""

    name: str
    provider: str
    model: str
    path: str
    stream_path: str
    prompt: Callable[[str], Json]
    text_of: Callable[[Json], str]
    delta_of: Callable[[Json], str]
    error_of: Callable[[Json], Json]

    def body(self, text: str, *, stream: bool = False, **more: Any) -> Json:
        body = {**self.prompt(text), **more}
        if self.provider != "gemini":
            body = {"model": self.model, **body, **({"stream": True} if stream else {})}
        return body

    async def call(
        self, user: ChatUser, text: str, *, stream: bool = False, **more: Any
    ) -> httpx.Response:
        headers = more.pop("headers", {})
        return await user.client.post(
            self.stream_path if stream else self.path,
            json=self.body(text, stream=stream, **more),
            headers=headers,
        )

    def said(self, answer: httpx.Response) -> str:
        return "".join(map(self.delta_of, documents(answer.text)))


def documents(text: str) -> list[Json]:
    """What the `data:` lines of a stream hold."""
    lines = [line.strip("\r") for line in text.split("\n")]
    return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]


def _openai_text(body: Json) -> str:
    return str(body["choices"][0]["message"]["content"])


def _openai_delta(chunk: Json) -> str:
    return "".join(choice["delta"].get("content") or "" for choice in chunk.get("choices", ()))


def _gemini_text(body: Json) -> str:
    found = [c.get("content", {}).get("parts", ()) for c in body.get("candidates", ())]
    return "".join(part.get("text", "") for parts in found for part in parts)


CHAT = Interface(
    name="chat",
    provider="openai",
    model="gpt-6-luna",
    path="/openai/v1/chat/completions",
    stream_path="/openai/v1/chat/completions",
    prompt=lambda text: {"messages": [{"role": "user", "content": text}]},
    text_of=_openai_text,
    delta_of=_openai_delta,
    error_of=lambda body: dict(body["error"]),
)


RESPONSES = Interface(
    name="responses",
    provider="openai",
    model="gpt-6-luna",
    path="/openai/v1/responses",
    stream_path="/openai/v1/responses",
    prompt=lambda text: {"input": text},
    text_of=lambda body: str(body["output"][-1]["content"][0]["text"]),
    delta_of=lambda e: e["delta"] if e.get("type") == "response.output_text.delta" else "",
    error_of=lambda body: dict(body["error"]),
)


MESSAGES = Interface(
    name="messages",
    provider="anthropic",
    model="claude-sonnet-5-5",
    path="/anthropic/v1/messages",
    stream_path="/anthropic/v1/messages",
    prompt=lambda text: {"messages": [{"role": "user", "content": text}], "max_tokens": 500},
    text_of=lambda body: str(body["content"][-1]["text"]),
    delta_of=lambda e: e["delta"].get("text", "") if e["type"] == "content_block_delta" else "",
    error_of=lambda body: {**body["error"], "code": body["error"]["details"]["error_code"]},
)


GEMINI = Interface(
    name="gemini",
    provider="gemini",
    model="gemini-3.8-flash",
    path="/gemini/v1/models/gemini-3.8-flash:generateContent",
    stream_path="/gemini/v1/models/gemini-3.8-flash:streamGenerateContent?alt=sse",
    prompt=lambda text: {"contents": [{"role": "user", "parts": [{"text": text}]}]},
    text_of=_gemini_text,
    delta_of=_gemini_text,
    error_of=lambda body: {
        **body["error"],
        "code": body["error"]["details"][0]["metadata"]["code"],
    },
)


INTERFACES = (CHAT, RESPONSES, MESSAGES, GEMINI)


every = pytest.mark.parametrize("door", INTERFACES, ids=lambda door: door.name)


async def used(chat: ChatSuite, user: ChatUser, provider: str) -> Mapping[str, int]:
    """The user's counters in the limits."""
    answer = await user.client.get("/chat/limits")
    assert answer.status_code == 200, answer.text
    limits = answer.json()["data"]
    return {
        row["name"].rpartition(".")[2]: row["used"] for row in limits if provider in row["name"]
    }


async def settled(chat: ChatSuite, user: ChatUser) -> Json:
    (hold,) = await eventually(
        lambda: chat.holds(user.id), lambda holds: bool(holds) and holds[-1]["state"] == "settled"
    )
    return dict(hold)
